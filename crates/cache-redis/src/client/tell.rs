//! What is told of connections and time limits, in the words of [`Event`].

use cache_core::{ErrorKind, Event, Observers};

use crate::error::{BACKEND, Failure, LOCAL_EXHAUSTED};

/// A connection was made, failed to be made, was closed, or was let go.
pub(super) fn connection(observers: &Observers, event: &'static str, reason: &'static str) {
    observers.tell(&Event::Connection {
        backend: BACKEND,
        event,
        reason,
    });
}

/// A time limit was reached.
pub(super) fn timeout(observers: &Observers, phase: &'static str) {
    observers.tell(&Event::Timeout {
        backend: BACKEND,
        phase,
    });
}

/// A connection that had been silent was looked at, doubted or replaced.
pub(super) fn thaw(observers: &Observers, action: &'static str) {
    observers.tell(&Event::Thaw {
        backend: BACKEND,
        action,
    });
}

/// An attempt was repeated.
pub(super) fn retry(observers: &Observers) {
    observers.tell(&Event::Retry { backend: BACKEND });
}

/// A reply came that answers another question.
pub(super) fn disorder(observers: &Observers) {
    observers.tell(&Event::DecodeError { reason: "resp" });
}

/// Bytes came that are not what Redis says.
pub(super) fn garbage(observers: &Observers, failure: &Failure) {
    if failure.code == "resp" {
        observers.tell(&Event::DecodeError { reason: "resp" });
    }
}

/// A dial came to nothing.
pub(super) fn dial_failed(observers: &Observers, failure: &Failure) {
    let is_timeout = failure.kind == ErrorKind::Timeout;
    if is_timeout || failure.is_stalled {
        timeout(observers, failure.code);
    }
    garbage(observers, failure);
    let reason = match failure.code {
        LOCAL_EXHAUSTED => "emfile",
        _ if is_timeout => "timeout",
        code => code,
    };
    connection(observers, "dial_fail", reason);
}
