//! A call with an eye on the time and on the breaker.

use std::future::poll_fn;
use std::mem;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{Either, pending, poll_immediate, select};
use tokio::time::timeout;

use crate::permit::Permit;

/// Calls that take no longer pay for nothing but a timer.
const UNWATCHED: Duration = Duration::from_millis(15);

/// How a call ended.
#[derive(Debug)]
pub(super) enum End<T> {
    /// With an answer, or an error of its own.
    Answered(T),
    /// It took too long.
    OutOfPatience,
    /// All breakers that let it through have opened since.
    Opened,
}

/// Runs `call` for at most `limit`, and not past the opening of the lanes that gave `permits`;
/// without permits nothing can open.
pub(super) async fn watched<T>(
    permits: &[&Permit],
    limit: Option<Duration>,
    call: impl Future<Output = T> + Send,
) -> End<T> {
    let mut call = pin!(call);
    // A storage in memory is done now, and needs neither a timer nor a runtime.
    if let Some(answer) = poll_immediate(&mut call).await {
        return End::Answered(answer);
    }
    let unwatched = limit.map_or(UNWATCHED, |limit| limit.min(UNWATCHED));
    // It has just been polled, and to poll it again at once would tell nothing.
    let mut is_polled = true;
    let rest = poll_fn(|context| {
        if mem::take(&mut is_polled) {
            return Poll::Pending;
        }
        call.as_mut().poll(context)
    });
    if let Ok(answer) = timeout(unwatched, rest).await {
        return End::Answered(answer);
    }
    let left = limit.map(|limit| limit.saturating_sub(unwatched));
    // Rare, and large: kept out of the future that every call makes.
    Box::pin(watched_on(permits, left, call)).await
}

async fn watched_on<T>(
    permits: &[&Permit],
    left: Option<Duration>,
    call: Pin<&mut (impl Future<Output = T> + Send)>,
) -> End<T> {
    let opened = pin!(all_opened(permits));
    let race = select(call, opened);
    let first = match left {
        Some(left) => timeout(left, race).await,
        None => Ok(race.await),
    };
    match first {
        Ok(Either::Left((answer, _))) => End::Answered(answer),
        Ok(Either::Right(_)) => End::Opened,
        Err(_) => End::OutOfPatience,
    }
}

async fn all_opened(permits: &[&Permit]) {
    if permits.is_empty() {
        return pending().await;
    }
    for permit in permits {
        permit.opened().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_call_that_waits_is_polled_once_for_each_time_it_is_woken() {
        let polls = AtomicU32::new(0);
        let call = poll_fn(|_| {
            polls.fetch_add(1, Ordering::Relaxed);
            Poll::<()>::Pending
        });
        let mut ended = pin!(watched(&[], Some(Duration::from_secs(1)), call));
        for number in 1..=3 {
            assert!(poll_immediate(&mut ended).await.is_none());
            assert_eq!(polls.load(Ordering::Relaxed), number);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_woken_while_it_is_polled_goes_on_at_once() {
        let mut is_woken = false;
        let call = poll_fn(|context| {
            if mem::replace(&mut is_woken, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        });
        let start = tokio::time::Instant::now();
        let end = watched(&[], None, call).await;
        assert!(matches!(end, End::Answered(())));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
