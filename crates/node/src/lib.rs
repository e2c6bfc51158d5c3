//! Assemble roles from configuration, supervise them, and be the command line.
