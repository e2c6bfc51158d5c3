//! Serve one pipeline stage: sessions, batches, KV, admission.
