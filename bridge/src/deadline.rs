//! Waiting with a bound.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use tokio::time::{error::Elapsed, timeout};

/// Waits for `future`, at most `limit`.
///
/// Unlike with [`timeout`], what is ready at the first look costs no clock and no timer: on the way
/// of a request nearly everything is.
pub(crate) async fn within<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    match poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => timeout(limit, future).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_comes_in_time_is_returned_and_what_does_not_is_given_up() {
        let after = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        let limit = Duration::from_secs(2);
        assert_eq!(within(limit, std::future::ready(7)).await, Ok(7));
        assert_eq!(within(limit, after(1)).await, Ok(()));
        assert!(within(limit, after(3)).await.is_err());
        assert!(within(Duration::ZERO, std::future::pending::<()>()).await.is_err());
    }
}
