//! Speak HTTP: OpenAI API, health and metrics.
