//! Building a service.

use std::sync::Arc;
use std::time::Duration;

use super::load::{FailureHook, LoadFailure, LoadOptions, Throttles};
use super::{CacheService, Counters, OnTrouble, Shared};
use crate::codec::Codec;
use crate::error::{CacheError, ConfigurationError, ConfigurationErrors, Result};
use crate::fills::Fills;
use crate::key::checked_prefix;
use crate::observer::Observers;
use crate::storage::CacheStorage;
use crate::ttl::Ttl;

/// A service in the making; see [`CacheService::builder`]. Nothing is checked before
/// [`build`](Self::build), which does no I/O.
#[derive(Debug, Clone)]
#[must_use]
pub struct CacheServiceBuilder {
    storage: Arc<dyn CacheStorage>,
    prefix: Option<String>,
    codec: Option<Codec>,
    ttl: Option<Result<Ttl>>,
    stale_for: Option<Duration>,
    jitter: f64,
    on_trouble: OnTrouble,
    max_value_bytes: Option<usize>,
    observers: Observers,
    load_options: LoadOptions,
    on_load_error: Option<FailureHook>,
    #[cfg(feature = "decoded")]
    decoded: Option<super::DecodedOptions>,
}

impl CacheServiceBuilder {
    pub(super) fn new(storage: Arc<dyn CacheStorage>) -> Self {
        Self {
            storage,
            prefix: None,
            codec: Codec::default_codec(),
            ttl: None,
            stale_for: None,
            jitter: 0.0,
            on_trouble: OnTrouble::Error,
            max_value_bytes: None,
            observers: Observers::none(),
            load_options: LoadOptions::default(),
            on_load_error: None,
            #[cfg(feature = "decoded")]
            decoded: None,
        }
    }

    /// Puts every key below `prefix:`; one trailing colon is dropped. Defaults to none.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// How values become bytes. Defaults to JSON where that feature is on.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = Some(codec);
        self
    }

    /// How long values are fresh, a `Duration` or a [`Ttl`]. Defaults to none: each write then
    /// needs its own.
    pub fn ttl<L: TryInto<Ttl, Error: Into<CacheError>>>(mut self, ttl: L) -> Self {
        self.ttl = Some(ttl.try_into().map_err(Into::into));
        self
    }

    /// How long after their time to live values may still be served as stale, to those who ask.
    /// Defaults to none. Never use it for sessions: it keeps what should have ended.
    pub fn stale_for(mut self, span: Duration) -> Self {
        self.stale_for = Some(span);
        self
    }

    /// Shortens each time to live by a random part of itself, up to `fraction` (0 to 1), so that
    /// values written together do not expire together. Defaults to 0.
    pub fn jitter(mut self, fraction: f64) -> Self {
        self.jitter = fraction;
        self
    }

    /// What reads do when the backend is in trouble. Defaults to [`OnTrouble::Error`].
    pub fn on_trouble(mut self, on_trouble: OnTrouble) -> Self {
        self.on_trouble = on_trouble;
        self
    }

    /// The longest encoded value in bytes, checked before any I/O. Defaults to the storage's
    /// limit, which it may lower and not raise.
    pub fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = Some(bytes);
        self
    }

    /// Who is told of trouble that is read as a miss, of values that cannot be decoded, and of keys
    /// that the service refuses before it asks its storage. Defaults to nobody.
    pub fn observers(mut self, observers: Observers) -> Self {
        self.observers = observers;
        self
    }

    /// How [`get_or_load`](CacheService::get_or_load) loads where a call says nothing else.
    /// Defaults to [`LoadOptions::default`].
    pub fn load_options(mut self, options: LoadOptions) -> Self {
        self.load_options = options;
        self
    }

    /// Who is told of each load that failed, background ones included, in the task of the load. A
    /// panic in it is caught, in builds that unwind. Defaults to nobody.
    pub fn on_load_error(
        mut self,
        hook: impl Fn(&LoadFailure<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.on_load_error = Some(FailureHook::new(hook));
        self
    }

    /// Keeps values decoded in this process, for [`get_or_load`](CacheService::get_or_load) and
    /// [`get_arc`](CacheService::get_arc), as a tier in front of the storage. Defaults to none. A
    /// disabled storage disables it too.
    #[cfg(feature = "decoded")]
    pub fn decoded(mut self, options: super::DecodedOptions) -> Self {
        self.decoded = Some(options);
        self
    }

    /// The service.
    ///
    /// # Errors
    ///
    /// `Configuration` with everything that is wrong: a prefix that breaks a rule of keys, an
    /// impossible time to live, stale budget, jitter or limit, no codec.
    pub fn build(self) -> Result<CacheService> {
        let mut problems = Vec::new();
        let mut refuse = |option: &str, problem: String| {
            problems.push(ConfigurationError::new(option, problem));
        };
        let limit = self.storage.info().max_value_bytes;
        let prefix = match self.prefix.as_deref().map(checked_prefix).transpose() {
            Ok(prefix) => prefix,
            Err(error) => {
                refuse("prefix", format!("prefix: {error}"));
                None
            }
        };
        let ttl = match self.ttl.transpose() {
            Ok(ttl) => ttl,
            Err(error) => {
                refuse("ttl", format!("ttl: {error}"));
                None
            }
        };
        if let Some(stale_for) = self.stale_for
            && let fresh = ttl.and_then(Ttl::as_duration).unwrap_or_default()
            && let Err(error) = Ttl::new(stale_for).and(Ttl::new(fresh.saturating_add(stale_for)))
        {
            refuse("stale_for", format!("stale_for: {error}"));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            refuse(
                "jitter",
                format!("jitter: {} is not between 0 and 1", self.jitter),
            );
        }
        let max_value_bytes = self.max_value_bytes.unwrap_or(limit);
        if max_value_bytes == 0 || max_value_bytes > limit {
            refuse(
                "max_value_bytes",
                format!("max_value_bytes: {max_value_bytes} is not between 1 and {limit}"),
            );
        }
        if self.codec.is_none() {
            refuse(
                "codec",
                "codec: none is set and the feature json is off".to_owned(),
            );
        }
        #[cfg(feature = "decoded")]
        let decoded = self.decoded.filter(|_| !self.storage.info().keeps_nothing);
        #[cfg(feature = "decoded")]
        if let Some(options) = &decoded {
            problems.extend(options.problems());
        }
        let (Some(codec), true) = (self.codec, problems.is_empty()) else {
            return Err(ConfigurationErrors(problems).into());
        };
        Ok(CacheService {
            storage: self.storage,
            skips_reads: false,
            shared: Arc::new(Shared {
                codec,
                ttl,
                stale_for: self.stale_for,
                jitter: self.jitter,
                on_trouble: self.on_trouble,
                max_value_bytes,
                counters: Counters::default(),
                observers: self.observers,
                load_options: self.load_options,
                on_load_error: self.on_load_error,
                fills: Fills::new(),
                throttles: Throttles::default(),
                #[cfg(feature = "decoded")]
                decoded: decoded.map(|options| super::load::Decoded::new(&options, prefix.clone())),
                prefix,
            }),
        })
    }
}
