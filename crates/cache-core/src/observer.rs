//! What happens inside a stack, told to whoever measures it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Is told what happens inside storages, breakers and services: what metrics and logs are made of.
///
/// `cache-monitor` has one that feeds the `metrics` and `tracing` facades. It is called in the task
/// of the caller concerned and never under a lock, so one that blocks delays that caller only. A
/// panic is caught (in builds that unwind), counted, and forgotten.
pub trait Observer: fmt::Debug + Send + Sync + 'static {
    /// Takes note of `event`.
    fn observe(&self, event: &Event<'_>);
}

/// Something that happened. All texts are constant words but for `shard`, `address` and `message`;
/// no event carries a key, a value or a secret.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A connection was made, failed to be made, was closed, or was let go.
    Connection {
        /// The backend's name.
        backend: &'static str,
        /// `open`, `dial_fail`, `close` or `removed`.
        event: &'static str,
        /// Why, in one word, such as `refused`, `reset`, `dns`, `timeout`.
        reason: &'static str,
    },
    /// A time limit was reached.
    Timeout {
        /// The backend's name.
        backend: &'static str,
        /// `connect`, `handshake`, `tls`, `read` or `operation`.
        phase: &'static str,
    },
    /// An attempt was repeated.
    Retry {
        /// The backend's name.
        backend: &'static str,
    },
    /// A cluster sent a command elsewhere.
    Redirect {
        /// `moved`, `ask` or `tryagain`.
        kind: &'static str,
    },
    /// The map of a cluster was read anew.
    TopologyRefresh {
        /// Why: `start`, `moved`, `unreachable`, `doubt`.
        reason: &'static str,
        /// `ok` or `error`.
        result: &'static str,
    },
    /// A reply came for a call that had given up.
    LateReply {
        /// The backend's name.
        backend: &'static str,
    },
    /// Credentials were asked for again.
    AuthRefresh {
        /// The backend's name.
        backend: &'static str,
        /// `ok`, `same` or `error`.
        result: &'static str,
    },
    /// A server did not know a script and was sent its text.
    ScriptMissing {
        /// The backend's name.
        backend: &'static str,
    },
    /// A server asked to slow down.
    Throttled {
        /// The backend's name.
        backend: &'static str,
    },
    /// A server left a part of a batch undone.
    Unprocessed {
        /// The backend's name.
        backend: &'static str,
        /// How many keys.
        keys: u64,
    },
    /// An entry past its end was still stored and was read as absent.
    ExpiredFiltered {
        /// The backend's name.
        backend: &'static str,
    },
    /// A connection had been silent, and was looked at, tried with a short limit, or replaced.
    Thaw {
        /// The backend's name.
        backend: &'static str,
        /// `look`, `doubt` or `dial`.
        action: &'static str,
    },
    /// A limit on calls under way turned a call away.
    Saturated {
        /// The backend's name.
        backend: &'static str,
    },
    /// A call was answered by the next layer of a fallback.
    Fallback {
        /// The backend that was in trouble.
        from: &'static str,
        /// The backend that was asked instead.
        to: &'static str,
        /// The code of the error, or its kind.
        reason: &'static str,
    },
    /// A call went on without a tier that was in trouble, or that refused the value.
    TierSkipped {
        /// What the tier is called.
        tier: &'static str,
        /// The code of the error, or its kind.
        reason: &'static str,
    },
    /// A fallback, or a stack of tiers, could not remember all keys that a layer missed.
    JournalOverflow {
        /// The backend of the layer.
        backend: &'static str,
    },
    /// A breaker changed its state.
    BreakerTransition {
        /// The breaker's name; a storage's is that of its backend.
        breaker: &'a str,
        /// `read`, `write`, or `all` for a breaker without lanes.
        lane: &'static str,
        /// The server behind it, where there are several.
        shard: Option<&'a str>,
        /// The state before: `closed`, `open`, `half_open`, `forced_open`, `forced_closed` or
        /// `disabled`.
        from: &'static str,
        /// The state after.
        to: &'static str,
        /// Why, in one word: `timeout`, `failure`, `rate`, `slow`, `config`, `overloaded`, `probe`,
        /// `elapsed`, `manual`.
        reason: &'static str,
        /// The error behind it, if there was one.
        message: Option<&'a str>,
        /// How long it stays open, if it does.
        open_for: Option<Duration>,
    },
    /// A breaker turned a call away.
    BreakerRejected {
        /// The breaker's name.
        breaker: &'a str,
        /// As in a transition.
        lane: &'static str,
    },
    /// A probe of a half-open breaker ended.
    BreakerProbe {
        /// The breaker's name.
        breaker: &'a str,
        /// As in a transition.
        lane: &'static str,
        /// `success`, `failure` or `none`.
        result: &'static str,
    },
    /// A service read trouble as a miss.
    Degraded {
        /// The code of the error, or its kind.
        reason: &'static str,
    },
    /// Stored bytes could not be decoded.
    DecodeError {
        /// `codec`, `header`, `type` or `resp`.
        reason: &'static str,
    },
    /// A call found another one reading or loading its key, and waited for it.
    Joined,
    /// A load ended.
    Load {
        /// `value`, `do_not_store`, `absent`, `not_modified` or `failed`.
        outcome: &'static str,
        /// Whether nobody waited for it.
        background: bool,
    },
    /// A key was refused before any I/O.
    InvalidKey,
    /// Foreign code that was called from here panicked, and was contained.
    Panicked {
        /// `hook` for an observer or a recorder, `codec`, `loader`.
        place: &'static str,
    },
}

/// A handle to an [`Observer`], or to none: what storages keep.
///
/// Cheap to clone; clones share the count of panics.
#[derive(Clone, Default)]
pub struct Observers(Option<Arc<Watched>>);

struct Watched {
    observer: Box<dyn Observer>,
    panics: AtomicU64,
}

impl Observers {
    /// Nobody is told anything. The default.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Tells `observer`.
    #[must_use]
    pub fn new(observer: impl Observer) -> Self {
        Self(Some(Arc::new(Watched {
            observer: Box::new(observer),
            panics: AtomicU64::new(0),
        })))
    }

    /// Tells the observer, if there is one. Never panics in builds that unwind; never call it
    /// under a lock.
    pub fn tell(&self, event: &Event<'_>) {
        let Some(watched) = &self.0 else {
            return;
        };
        if watched.told(event) {
            return;
        }
        watched.panics.fetch_add(1, Ordering::Relaxed);
        // It may have been this one event that it could not bear.
        if !watched.told(&Event::Panicked { place: "hook" }) {
            watched.panics.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often the observer has panicked.
    #[must_use]
    pub fn panics(&self) -> u64 {
        let panics = |watched: &Arc<Watched>| watched.panics.load(Ordering::Relaxed);
        self.0.as_ref().map_or(0, panics)
    }
}

impl Watched {
    /// Whether the observer took it without a panic.
    fn told(&self, event: &Event<'_>) -> bool {
        catch_unwind(AssertUnwindSafe(|| self.observer.observe(event))).is_ok()
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(watched) => watched.observer.fmt(f),
            None => f.write_str("None"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Hostile;

    impl Observer for Hostile {
        fn observe(&self, event: &Event<'_>) {
            if *event == Event::InvalidKey {
                panic!("an observer panics on purpose");
            }
        }
    }

    #[test]
    fn a_panic_is_contained_and_counted() {
        let observers = Observers::new(Hostile);
        observers.tell(&Event::Redirect { kind: "moved" });
        assert_eq!(observers.panics(), 0);
        observers.clone().tell(&Event::InvalidKey);
        assert_eq!(observers.panics(), 1);
        Observers::none().tell(&Event::InvalidKey);
    }
}
