//! Threads with a fixed partition of work.

/// A set of worker threads that share one piece of work at a time.
#[derive(Debug)]
pub struct Pool {
    threads: usize,
}

impl Pool {
    /// Starts `threads - 1` workers; the caller is the last one. Zero counts as one.
    pub fn new(threads: usize) -> Self {
        Self { threads: threads.max(1) }
    }

    /// How many threads take part.
    pub fn threads(&self) -> usize {
        self.threads
    }
}
