//! One connection's place: dials it, hands out clones, replaces it.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::Poll;
use std::time::Duration;

use bb8_redis::bb8::{Pool, RunError};
use cache_core::ErrorKind;
use tokio::time::{Instant, timeout_at};

use super::dial::Dialer;
use super::dials::{Dials, FailedDial};
use super::link::Link;
use super::silence::LOOK_AFTER;
use super::tell;
use crate::address::Address;
use crate::error::Failure;
use crate::options::RedisOptions;

/// A place for one connection.
///
/// bb8 owns the life cycle: one dial at a time, a validity test before use, replacement. It does
/// not keep callers apart: the connection is multiplexed, so each caller takes a clone and gives
/// the original back at once. The clone taken last is kept at hand, since even a guard held for
/// nanoseconds would make callers on other threads wait for it.
#[derive(Debug)]
pub(super) struct Lane {
    options: Arc<RedisOptions>,
    address: Address,
    at_hand: RwLock<Option<Link>>,
    /// None once closed.
    pool: Mutex<Option<Dialing>>,
}

#[derive(Debug, Clone)]
struct Dialing {
    pool: Pool<Dialer>,
    dials: Arc<Dials>,
}

impl Lane {
    /// A place without a connection. No I/O, no runtime needed.
    pub(super) fn new(options: Arc<RedisOptions>, address: Address) -> Self {
        let pool = Mutex::new(Some(Dialing::new(&options, &address)));
        Self {
            options,
            address,
            at_hand: RwLock::new(None),
            pool,
        }
    }

    /// The connection, if it is there and was talking a moment before `now`.
    pub(super) fn at_hand(&self, now: Instant) -> Option<Link> {
        let at_hand = self.at_hand.read().unwrap_or_else(PoisonError::into_inner);
        let link = at_hand.as_ref()?;
        let is_fit = link.pulse().is_alive() && link.pulse().silence(now) < LOOK_AFTER;
        is_fit.then(|| link.clone())
    }

    /// A connection that looks fit, dialed if there is none.
    ///
    /// Dropping the future leaves a dial that is under way to those who come next.
    pub(super) async fn connection(&self, deadline: Instant) -> Result<Link, Failure> {
        let link = self.connection_from_pool(deadline).await?;
        let mut at_hand = self.at_hand.write().unwrap_or_else(PoisonError::into_inner);
        // Checked under the lock that closing takes too, so that nothing is kept after that.
        let kept = self.dialing().map(|_| link.clone());
        let before = std::mem::replace(&mut *at_hand, kept);
        drop(at_hand);
        // Its end is told, and so not under the lock.
        drop(before);
        Ok(link)
    }

    /// Lets go of the connection for good; those who use it finish on it.
    pub(super) fn close(&self) {
        // The ends of connections are told, and so not under the locks.
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let dialing = pool.take();
        drop(pool);
        let mut at_hand = self.at_hand.write().unwrap_or_else(PoisonError::into_inner);
        let link = at_hand.take();
        drop(at_hand);
        drop((dialing, link));
    }

    /// Takes the connection out of the pool, which dials where there is none.
    ///
    /// A server that could not be reached is left alone for a while, in which callers get the last
    /// failure at once. Where there is no such pause, a dial that failed before this call could
    /// have any part in it, and one that the server hung up on, say nothing about the next: such a
    /// failure is followed by one more dial. So is a dial that was lost with its runtime.
    async fn connection_from_pool(&self, deadline: Instant) -> Result<Link, Failure> {
        let mut is_last = false;
        loop {
            let Some(Dialing { pool, dials }) = self.dialing() else {
                return Err(Failure::new(ErrorKind::Closed, "the cache was shut down"));
            };
            if dials.is_orphaned() {
                self.replace_pool(&dials);
                continue;
            }
            if let Some(failure) = dials.pausing_after() {
                return Err(failure);
            }
            let begun_before = dials.begun();
            let dial = match take(&pool, &dials, deadline).await {
                Ok(link) => return Ok(link),
                Err(NotTaken::TooLate(waited)) => {
                    tell::timeout(&self.options.observers, "operation");
                    return Err(Failure::no_answer(dials.phase(), waited));
                }
                Err(NotTaken::Orphaned) => {
                    self.replace_pool(&dials);
                    continue;
                }
                Err(NotTaken::DialFailed(dial)) => dial,
            };
            let is_news = dial.number > begun_before && !dial.failure.is_hang_up;
            if is_last || (is_news && !dials.is_orphaned()) {
                return Err(dial.failure);
            }
            is_last = true;
        }
    }

    fn dialing(&self) -> Option<Dialing> {
        self.pool
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Starts a new pool in the place of the one with these `dials`, which counts a lost dial as
    /// under way for ever and would never begin another.
    fn replace_pool(&self, dials: &Arc<Dials>) {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dialing) = &mut *pool
            && Arc::ptr_eq(&dialing.dials, dials)
        {
            let new = Dialing::new(&self.options, &self.address);
            let before = std::mem::replace(dialing, new);
            drop(pool);
            drop(before);
        }
    }
}

/// Why the pool gave no connection.
enum NotTaken {
    DialFailed(FailedDial),
    /// The dial was dropped with its runtime before it began.
    Orphaned,
    /// The deadline came after this long.
    TooLate(Duration),
}

/// A dial that has not begun after this long never will.
const BEGINS_WITHIN: Duration = Duration::from_millis(50);

async fn take(pool: &Pool<Dialer>, dials: &Dials, deadline: Instant) -> Result<Link, NotTaken> {
    let started = Instant::now();
    let begun_before = dials.begun();
    let taken = pool.get();
    let failed = dials.failed_since(dials.failures());
    tokio::pin!(taken, failed);
    // The pool first: a connection that is there is worth more than an old failure.
    let mut either = std::future::poll_fn(|context| {
        if let Poll::Ready(taken) = taken.as_mut().poll(context) {
            return Poll::Ready(Ok(taken));
        }
        failed.as_mut().poll(context).map(Err)
    });
    let soon = deadline.min(started + BEGINS_WITHIN);
    let mut outcome = timeout_at(soon, &mut either).await;
    if outcome.is_err() && soon < deadline {
        if dials.begun() == begun_before && !dials.is_dialing() {
            return Err(NotTaken::Orphaned);
        }
        outcome = timeout_at(deadline, &mut either).await;
    }
    match outcome {
        Ok(Ok(Ok(guard))) => Ok(guard.clone()),
        Ok(Err(dial)) => Err(NotTaken::DialFailed(dial)),
        Ok(Ok(Err(RunError::User(_) | RunError::TimedOut))) | Err(_) => {
            Err(NotTaken::TooLate(started.elapsed()))
        }
    }
}

impl Dialing {
    fn new(options: &Arc<RedisOptions>, address: &Address) -> Self {
        let dials = Arc::new(Dials::new(Arc::clone(&options.clock)));
        let dialer = Dialer::new(Arc::clone(options), address.clone(), Arc::clone(&dials));
        let pool = Pool::builder()
            .max_size(1)
            .test_on_check_out(true)
            .retry_connection(false)
            // No task of the pool's own: nothing correct may depend on one in a frozen process.
            .max_lifetime(None)
            .idle_timeout(None)
            // An upper bound only; each caller has a deadline.
            .connection_timeout(Duration::from_secs(3600))
            .build_unchecked(dialer);
        Self { pool, dials }
    }
}
