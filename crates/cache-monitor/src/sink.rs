//! Where measurements go, and what keeps a recorder's trouble away from callers.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};

use crate::names;

/// Told to recorders that filter by it.
static METADATA: Metadata<'static> = Metadata::new("cache", Level::INFO, Some(module_path!()));

/// Where measurements go: the recorder of the process, or one of one's own.
///
/// Every call into a recorder is made in the task of the caller concerned and under no lock, so one
/// that blocks delays that caller only. A panic is caught (in builds that unwind), counted in
/// [`panics`](Self::panics) and forgotten. Cheap to clone; clones share the count.
#[derive(Clone)]
pub struct Metrics {
    target: Target,
    panics: Arc<AtomicU64>,
}

#[derive(Clone)]
enum Target {
    Global,
    Own(Arc<dyn Recorder + Send + Sync>),
}

impl Metrics {
    /// To the recorder that the process has installed, if it has. What happens before it is
    /// installed is not measured.
    #[must_use]
    pub fn global() -> Self {
        Self::new(Target::Global)
    }

    /// To `recorder` alone, for tests and for several caches in one process.
    #[must_use]
    pub fn to(recorder: Arc<dyn Recorder + Send + Sync>) -> Self {
        Self::new(Target::Own(recorder))
    }

    fn new(target: Target) -> Self {
        Self {
            target,
            panics: Arc::default(),
        }
    }

    /// Adds `by` to a counter.
    pub fn count(&self, name: &'static str, labels: &[(&'static str, &str)], by: u64) {
        let key = key(name, labels);
        self.on_recorder(|recorder| counter(recorder, &key).increment(by));
    }

    /// Sets a gauge to `value`.
    pub fn gauge(&self, name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        let key = key(name, labels);
        self.on_recorder(|recorder| gauge(recorder, &key).set(value));
    }

    /// Records `span` in a histogram, in seconds.
    pub fn time(&self, name: &'static str, labels: &[(&'static str, &str)], span: Duration) {
        let key = key(name, labels);
        self.on_recorder(|recorder| histogram(recorder, &key).record(span));
    }

    /// How often a recorder has panicked.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Lets `call` use the recorder. A panic is also told to the recorder itself, which may have
    /// stumbled over this one measurement only.
    pub(crate) fn on_recorder(&self, call: impl FnOnce(&dyn Recorder)) {
        self.watched(|| self.with_target(call));
    }

    fn watched(&self, call: impl FnOnce()) {
        if self.survived(call) {
            return;
        }
        let key = key(names::PANICS_TOTAL, &[("where", "hook")]);
        self.survived(|| self.with_target(|recorder| counter(recorder, &key).increment(1)));
    }

    fn survived(&self, call: impl FnOnce()) -> bool {
        let survived = catch_unwind(AssertUnwindSafe(call)).is_ok();
        if !survived {
            self.panics.fetch_add(1, Ordering::Relaxed);
        }
        survived
    }

    fn with_target(&self, call: impl FnOnce(&dyn Recorder)) {
        match &self.target {
            Target::Global => metrics::with_recorder(call),
            Target::Own(recorder) => call(&**recorder),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::global()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Recorders show nothing of themselves.
        f.write_str(match self.target {
            Target::Global => "Metrics(global)",
            Target::Own(_) => "Metrics(own)",
        })
    }
}

/// A metric that is registered at its first use and kept, for measurements of every call.
///
/// It stays with the recorder that was there at that use.
pub(crate) struct Kept<H> {
    key: OnceLock<Key>,
    handle: OnceLock<H>,
}

impl<H> Kept<H> {
    /// Lets `record` use the handle, which `register` makes under `key` where it is not kept yet.
    ///
    /// Callers that meet here for the first time may each register; none waits for another's
    /// recorder.
    fn with(
        &self,
        metrics: &Metrics,
        key: impl FnOnce() -> Key,
        register: fn(&dyn Recorder, &Key) -> H,
        record: impl FnOnce(&H),
    ) {
        if let Some(handle) = self.handle.get() {
            metrics.watched(|| record(handle));
            return;
        }
        let key = self.key.get_or_init(key);
        metrics.on_recorder(|recorder| {
            let handle = register(recorder, key);
            record(&handle);
            if is_there_to_stay(recorder) {
                // Another caller may have been faster, with a handle to the same metric.
                drop(self.handle.set(handle));
            }
        });
    }
}

impl Kept<Counter> {
    pub(crate) fn count(&self, metrics: &Metrics, key: impl FnOnce() -> Key, by: u64) {
        self.with(metrics, key, counter, |counter| counter.increment(by));
    }
}

impl Kept<Histogram> {
    pub(crate) fn time(&self, metrics: &Metrics, key: impl FnOnce() -> Key, span: Duration) {
        self.with(metrics, key, histogram, |histogram| histogram.record(span));
    }
}

impl<H> Default for Kept<H> {
    fn default() -> Self {
        Self {
            key: OnceLock::new(),
            handle: OnceLock::new(),
        }
    }
}

/// Whether handles of `recorder` are worth keeping.
///
/// Until a process installs a recorder, a stand-in without any state takes everything. Its handles
/// would go on saying nothing after that, so nothing is kept from recorders without state.
fn is_there_to_stay(recorder: &dyn Recorder) -> bool {
    size_of_val(recorder) > 0
}

/// The metric of this name and these labels.
pub(crate) fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    let label = |(label, value): &(&'static str, &str)| Label::new(*label, (*value).to_owned());
    Key::from_parts(name, labels.iter().map(label).collect::<Vec<_>>())
}

fn counter(recorder: &dyn Recorder, key: &Key) -> Counter {
    recorder.register_counter(key, &METADATA)
}

fn gauge(recorder: &dyn Recorder, key: &Key) -> Gauge {
    recorder.register_gauge(key, &METADATA)
}

fn histogram(recorder: &dyn Recorder, key: &Key) -> Histogram {
    recorder.register_histogram(key, &METADATA)
}
