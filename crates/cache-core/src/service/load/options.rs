//! What a call, or a service, decides about loading.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{CacheError, ConfigurationError, ConfigurationErrors, Result};
use crate::ttl::{Ttl, secs};

/// How values are loaded, kept and served stale; see
/// [`get_or_load`](crate::CacheService::get_or_load).
///
/// The service has its own ([`CacheServiceBuilder::load_options`]), and each call may bring
/// others, complete in themselves. Build them once and lend them to the calls.
///
/// ```
/// # fn main() -> Result<(), cache_core::CacheError> {
/// use cache_core::{LoadOptions, millis, mins, secs};
///
/// let options = LoadOptions::builder()
///     .ttl(mins(5))
///     .stale_for(mins(30))
///     .soft_timeout(millis(80))
///     .hard_timeout(secs(2))
///     .build()?;
/// assert_eq!(options.soft_timeout(), Some(millis(80)));
/// # Ok(())
/// # }
/// ```
///
/// [`CacheServiceBuilder::load_options`]: crate::CacheServiceBuilder::load_options
#[derive(Debug, Clone)]
pub struct LoadOptions {
    pub(crate) ttl: Option<Ttl>,
    pub(crate) stale_for: Option<Duration>,
    pub(crate) allow_stale: bool,
    pub(crate) absent_for: Option<Duration>,
    pub(crate) throttle: Duration,
    pub(crate) soft_timeout: Option<Duration>,
    pub(crate) hard_timeout: Option<Duration>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) cancel_on_timeout: bool,
    pub(crate) complete_in_background: bool,
    pub(crate) background_limit: Duration,
    pub(crate) revalidate: bool,
    pub(crate) eager: Option<f64>,
    pub(crate) refresh: bool,
    pub(crate) default: Option<DefaultValue>,
}

/// A caller's own value of whatever type its cache has.
#[derive(Clone)]
pub(crate) struct DefaultValue(pub(crate) Arc<dyn Any + Send + Sync>);

impl fmt::Debug for DefaultValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            ttl: None,
            stale_for: None,
            allow_stale: true,
            absent_for: Some(secs(30)),
            throttle: secs(30),
            soft_timeout: None,
            hard_timeout: None,
            deadline: None,
            cancel_on_timeout: false,
            complete_in_background: false,
            background_limit: secs(30),
            revalidate: false,
            eager: None,
            refresh: false,
            default: None,
        }
    }
}

impl LoadOptions {
    /// Starts from the defaults.
    pub fn builder() -> LoadOptionsBuilder {
        Self::default().to_builder()
    }

    /// Starts from these options, to change some.
    pub fn to_builder(&self) -> LoadOptionsBuilder {
        LoadOptionsBuilder {
            ttl: None,
            options: self.clone(),
        }
    }

    /// How long a caller waits for the loader before it takes a stale value.
    #[must_use]
    pub fn soft_timeout(&self) -> Option<Duration> {
        self.soft_timeout
    }

    /// How long a caller waits for the loader at all.
    #[must_use]
    pub fn hard_timeout(&self) -> Option<Duration> {
        self.hard_timeout
    }

    /// Whether a call may end before its load does.
    pub(crate) fn limits_time(&self) -> bool {
        self.deadline.is_some() || self.soft_timeout.is_some() || self.hard_timeout.is_some()
    }

    /// Whether a loaded value has to be stored with the time at which it was made: eager refresh
    /// goes by that.
    pub(crate) fn needs_creation_time(&self) -> bool {
        self.eager.is_some()
    }
}

/// [`LoadOptions`] in the making. Nothing is checked before [`build`](Self::build).
#[derive(Debug, Clone)]
#[must_use]
pub struct LoadOptionsBuilder {
    /// Where it was set here.
    ttl: Option<Result<Ttl>>,
    options: LoadOptions,
}

impl LoadOptionsBuilder {
    /// How long a loaded value is fresh. Defaults to the service's. A loader may decide otherwise
    /// for its value.
    pub fn ttl<L: TryInto<Ttl, Error: Into<CacheError>>>(mut self, ttl: L) -> Self {
        self.ttl = Some(ttl.try_into().map_err(Into::into));
        self
    }

    /// How long after its time to live a loaded value may still be served where a new one cannot be
    /// had. Defaults to the service's, which is not at all. Failures do not extend it. Values that
    /// are set rather than loaded have the service's. Never use it for sessions: it keeps what
    /// should have ended.
    pub fn stale_for(mut self, span: Duration) -> Self {
        self.options.stale_for = Some(span);
        self
    }

    /// Whether this caller takes a stale value at all. Defaults to yes; without a stale budget
    /// there is none to take.
    pub fn allow_stale(mut self, allow: bool) -> Self {
        self.options.allow_stale = allow;
        self
    }

    /// How long it is remembered that there is nothing, where a loader said so. Defaults to 30 s.
    pub fn absent_for(mut self, span: Duration) -> Self {
        self.options.absent_for = Some(span);
        self
    }

    /// Forgets at once that there is nothing: every call asks the loader again.
    pub fn forget_absent(mut self) -> Self {
        self.options.absent_for = None;
        self
    }

    /// How long a failed load is not tried again where a stale value, or a default, was served
    /// instead. Defaults to 30 s, without jitter; zero tries each time.
    pub fn throttle(mut self, span: Duration) -> Self {
        self.options.throttle = span;
        self
    }

    /// How long a caller waits for a load before it takes the stale value, if there is one. Counted
    /// from the beginning of the load, so whoever comes later waits less. Defaults to none.
    pub fn soft_timeout(mut self, span: Duration) -> Self {
        self.options.soft_timeout = Some(span);
        self
    }

    /// How long a caller waits for a load: then it takes the stale value, its default, or an error
    /// of kind `Timeout`. Counted from when the caller begins to wait for it. Defaults to none, so
    /// a loader that never returns holds its callers until their own deadlines.
    pub fn hard_timeout(mut self, span: Duration) -> Self {
        self.options.hard_timeout = Some(span);
        self
    }

    /// How long the whole call may take: reading the tiers, waiting for others and loading.
    /// Defaults to none.
    pub fn with_deadline(mut self, span: Duration) -> Self {
        self.options.deadline = Some(span);
        self
    }

    /// Whether a load that its callers no longer wait for, since their timeouts ended, is
    /// cancelled. Defaults to no: it goes on in the background.
    pub fn cancel_on_timeout(mut self, cancel: bool) -> Self {
        self.options.cancel_on_timeout = cancel;
        self
    }

    /// Whether a load goes on when all its callers were dropped. Defaults to no: it is cancelled.
    pub fn complete_in_background(mut self, complete: bool) -> Self {
        self.options.complete_in_background = complete;
        self
    }

    /// How long a load may go on in the background, from when the first caller has stopped waiting
    /// for it or the last one has left, even if others wait for it still or join it meanwhile. It is
    /// then cancelled. Defaults to 30 s.
    pub fn background_limit(mut self, span: Duration) -> Self {
        self.options.background_limit = span;
        self
    }

    /// Serves a stale value at once and loads the new one in the background
    /// (stale-while-revalidate). Defaults to no. Needs a stale budget.
    pub fn stale_while_revalidate(mut self, revalidate: bool) -> Self {
        self.options.revalidate = revalidate;
        self
    }

    /// Loads a new value in the background once this fraction of the time to live has passed, for
    /// whoever asks then; they get the old one. Between 0 and 1, both excluded. Defaults to none.
    /// Only values that say when they were made are ever due, such as those loaded with this option
    /// and those with a stale budget.
    pub fn eager_refresh(mut self, fraction: f64) -> Self {
        self.options.eager = Some(fraction);
        self
    }

    /// Loads even where there is a fresh value. A load that is under way is joined; to rule out a
    /// value from before a change, delete the key after the change.
    pub fn refresh(mut self) -> Self {
        self.options.refresh = true;
        self
    }

    /// The value to return where the loader fails, or is too late, and there is no stale one; not
    /// where the loader says that there is nothing. It is never stored, and other callers get their
    /// own. Must be of the type that the call returns.
    pub fn or_default<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.options.default = Some(DefaultValue(Arc::new(value)));
        self
    }

    /// The options.
    ///
    /// # Errors
    ///
    /// `Configuration` with everything that is wrong: a time to live, stale budget or timeout of
    /// zero or beyond ten years, a soft timeout that is not below the hard one, a fraction that is
    /// not between 0 and 1.
    pub fn build(self) -> Result<LoadOptions> {
        let mut options = self.options;
        let mut problems = Vec::new();
        match self.ttl.transpose() {
            Ok(ttl) => options.ttl = ttl.or(options.ttl),
            Err(error) => problems.push(problem("ttl", &error)),
        }
        problems.extend(impossible_spans(&options));
        if let (Some(soft), Some(hard)) = (options.soft_timeout, options.hard_timeout)
            && soft >= hard
        {
            let text = format!("{soft:?} is not below the hard timeout of {hard:?}");
            problems.push(problem("soft_timeout", &text));
        }
        if let Some(fraction) = options.eager
            && !(fraction > 0.0 && fraction < 1.0)
        {
            let text = format!("{fraction} is not between 0 and 1");
            problems.push(problem("eager_refresh", &text));
        }
        if problems.is_empty() {
            return Ok(options);
        }
        Err(ConfigurationErrors(problems).into())
    }
}

fn impossible_spans(options: &LoadOptions) -> impl Iterator<Item = ConfigurationError> {
    let fresh = options.ttl.and_then(Ttl::as_duration).unwrap_or_default();
    let kept = options.stale_for.map(|stale| fresh.saturating_add(stale));
    let throttle = Some(options.throttle).filter(|throttle| !throttle.is_zero());
    [
        ("stale_for", options.stale_for),
        ("ttl and stale_for together", kept),
        ("absent_for", options.absent_for),
        ("throttle", throttle),
        ("soft_timeout", options.soft_timeout),
        ("hard_timeout", options.hard_timeout),
        ("with_deadline", options.deadline),
        ("background_limit", Some(options.background_limit)),
    ]
    .into_iter()
    .filter_map(|(name, span)| {
        let error = Ttl::new(span?).err()?;
        Some(problem(name, &error))
    })
}

fn problem(option: &str, problem: &dyn fmt::Display) -> ConfigurationError {
    ConfigurationError::new(option, format!("{option}: {problem}"))
}
