//! What storages tell, kept for tests to look at.

use std::sync::{Arc, Mutex, PoisonError};

use cache_core::{Event, Observer, Observers};

/// An observer that keeps what it is told, as lines such as `connection open dial`. Clones share
/// the lines.
#[derive(Debug, Clone, Default)]
pub struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    /// A handle for a storage's options.
    #[must_use]
    pub fn observers(&self) -> Observers {
        Observers::new(self.clone())
    }

    /// What was told since the last time, in order.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How often `line` was told since lines were last taken.
    #[must_use]
    pub fn count(&self, line: &str) -> usize {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().filter(|told| *told == line).count()
    }
}

impl Observer for Told {
    fn observe(&self, event: &Event<'_>) {
        let line = line(event);
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(line);
    }
}

fn line(event: &Event<'_>) -> String {
    match event {
        Event::Connection { event, reason, .. } => format!("connection {event} {reason}"),
        Event::Timeout { phase, .. } => format!("timeout {phase}"),
        Event::Retry { .. } => "retry".to_owned(),
        Event::Redirect { kind } => format!("redirect {kind}"),
        Event::TopologyRefresh { reason, result } => format!("refresh {reason} {result}"),
        Event::LateReply { .. } => "late".to_owned(),
        Event::AuthRefresh { result, .. } => format!("auth {result}"),
        Event::ScriptMissing { .. } => "script".to_owned(),
        Event::Throttled { .. } => "throttled".to_owned(),
        Event::Unprocessed { keys, .. } => format!("unprocessed {keys}"),
        Event::ExpiredFiltered { .. } => "expired".to_owned(),
        Event::Thaw { action, .. } => format!("thaw {action}"),
        Event::DecodeError { reason } => format!("decode {reason}"),
        other => format!("{other:?}"),
    }
}
