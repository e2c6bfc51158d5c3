//! Waiting: for time to pass, for something with a bound, for work that blocks.

use std::future::Future;
use std::time::Duration;

/// Waits for `time` to pass.
///
/// # Cancel safety
/// Safe.
pub async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}

/// What `future` yields within `time`; `None` if it takes longer, and it is dropped then.
pub async fn timeout<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(time, future).await.ok()
}

/// Runs work that computes for long or blocks, on a thread kept for such; `None` if it panicked.
///
/// The work is to be finite: when the caller is dropped, it runs to its end with nobody waiting.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_is_bounded() {
        let never = std::future::pending::<()>();
        assert_eq!(timeout(Duration::from_millis(1), never).await, None);
        let long = Duration::from_secs(60);
        assert_eq!(timeout(long, sleep(Duration::ZERO)).await, Some(()));
        assert_eq!(blocking(|| 3).await, Some(3));
        assert_eq!(blocking(|| -> u8 { panic!("meant") }).await, None);
    }
}
