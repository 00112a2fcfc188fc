//! What a recorder was told, for tests.

use std::sync::Arc;

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

use crate::sink::Metrics;

/// Metrics that go to a recorder which can be asked.
pub(crate) struct Recorded(Snapshotter);

impl Recorded {
    pub(crate) fn new() -> (Metrics, Self) {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        (Metrics::to(Arc::new(recorder)), Self(snapshotter))
    }

    /// What was recorded since the last call, sorted: `name{label=value,...} value`, where a
    /// histogram's value is how often it was told.
    pub(crate) fn lines(&self) -> Vec<String> {
        let entries = self.0.snapshot().into_vec();
        let mut lines: Vec<_> = entries
            .into_iter()
            .map(|(key, _, _, value)| line(key.key(), &value))
            .filter(|line| !line.ends_with(" 0"))
            .collect();
        lines.sort();
        lines
    }
}

fn line(key: &metrics::Key, value: &DebugValue) -> String {
    let labels: Vec<_> = key
        .labels()
        .map(|label| format!("{}={}", label.key(), label.value()))
        .collect();
    let value = match value {
        DebugValue::Counter(count) => count.to_string(),
        DebugValue::Gauge(value) => value.to_string(),
        DebugValue::Histogram(values) => values.len().to_string(),
    };
    format!("{}{{{}}} {value}", key.name(), labels.join(","))
}
