//! Which table holds the entries, how it is reached and how long to wait for it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cache_aws::{AwsOptions, CredentialsSource, Roots};
use cache_core::settings::settle;
use cache_core::{
    CacheError, Clock, ConfigurationError, ConfigurationErrors, Observers, SystemClock, millis,
    secs,
};

use crate::item::OWN_ATTRIBUTES;

mod read;
mod schema;
mod settings;

pub use schema::KeySchema;

/// Which table holds the entries, how it is reached and how long to wait for it.
///
/// Made from code ([`DynamoDbOptions::new`]) or from the environment
/// ([`from_env`](Self::from_env)). `Debug` shows no credentials.
///
/// ```
/// use cache_core::millis;
/// use cache_dynamo::DynamoDbOptions;
///
/// let options = DynamoDbOptions::new("cache")
///     .with_region("eu-west-1")
///     .with_consistent_reads(true)
///     .with_timeout(millis(300));
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct DynamoDbOptions {
    /// Name or ARN of the table.
    pub table: String,
    /// The region of the table. Defaults to `AWS_REGION`, else `AWS_DEFAULT_REGION`, when the
    /// storage is made.
    pub region: Option<String>,
    /// A URL to call instead of the region's own endpoint. Defaults to none.
    pub endpoint: Option<String>,
    /// Whether reads see every write that was acknowledged before them, at twice the price.
    /// Defaults to false.
    pub consistent_reads: bool,
    /// Where in an item the key of an entry stands. Defaults to the partition key `PK`, without a
    /// sort key.
    pub key_schema: KeySchema,
    /// The attribute that holds the value. Defaults to `value`.
    pub value_attribute: String,
    /// The attribute by which DynamoDB collects expired items. Defaults to `ttl`.
    pub ttl_attribute: String,
    /// The longest a TCP connection may take to come about. Defaults to 200 ms.
    pub connect_timeout: Duration,
    /// The longest one attempt at a single-key operation may take, a new connection included.
    /// Defaults to 250 ms.
    pub attempt_timeout: Duration,
    /// The longest a single-key operation may take in all. Defaults to 500 ms.
    pub timeout: Duration,
    /// The longest a batch may take in all; each of its requests takes at most half of that before
    /// it is repeated. Defaults to 2 s.
    pub bulk_timeout: Duration,
    /// The longest a clear may take before it reports what it managed. Defaults to 60 s.
    pub clear_timeout: Duration,
    /// The longest encoded value in bytes, checked before any I/O. Defaults to what an item takes
    /// beside the longest key, about 398 KiB; never more than that.
    pub max_value_bytes: Option<usize>,
    /// Who may vouch for the endpoint. Defaults to Amazon's own authorities.
    pub roots: Roots,
    credentials: CredentialsSource,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) observers: Observers,
}

/// The longest any of our timeouts may be.
const LONGEST_TIMEOUT: Duration = secs(3600);

/// The longest name that DynamoDB takes for an attribute.
const ATTRIBUTE_BYTES: usize = 255;

impl DynamoDbOptions {
    /// The table called `table`, by name or ARN, with the default attributes and budgets.
    #[must_use]
    pub fn new(table: impl Into<String>) -> Self {
        Self {
            table: table.into(),
            region: None,
            endpoint: None,
            consistent_reads: false,
            key_schema: KeySchema::default(),
            value_attribute: "value".to_owned(),
            ttl_attribute: "ttl".to_owned(),
            connect_timeout: millis(200),
            attempt_timeout: millis(250),
            timeout: millis(500),
            bulk_timeout: secs(2),
            clear_timeout: secs(60),
            max_value_bytes: None,
            roots: Roots::default(),
            credentials: CredentialsSource::default(),
            clock: Arc::new(SystemClock::new()),
            observers: Observers::none(),
        }
    }

    /// The region of the table.
    #[must_use]
    pub fn with_region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// A URL to call instead of the region's own endpoint, such as `http://localhost:8000`.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// Whether reads see every write that was acknowledged before them.
    #[must_use]
    pub fn with_consistent_reads(mut self, consistent: bool) -> Self {
        self.consistent_reads = consistent;
        self
    }

    /// Where in an item the key of an entry stands.
    #[must_use]
    pub fn with_key_schema(mut self, schema: KeySchema) -> Self {
        self.key_schema = schema;
        self
    }

    /// The attribute that holds the value.
    #[must_use]
    pub fn with_value_attribute(mut self, attribute: impl Into<String>) -> Self {
        self.value_attribute = attribute.into();
        self
    }

    /// The attribute by which DynamoDB collects expired items.
    #[must_use]
    pub fn with_ttl_attribute(mut self, attribute: impl Into<String>) -> Self {
        self.ttl_attribute = attribute.into();
        self
    }

    /// The longest a TCP connection may take to come about.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The longest one attempt at a single-key operation may take.
    #[must_use]
    pub fn with_attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = timeout;
        self
    }

    /// The longest a single-key operation may take in all; an attempt takes no longer either.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self.attempt_timeout = self.attempt_timeout.min(timeout);
        self
    }

    /// The longest a batch may take in all.
    #[must_use]
    pub fn with_bulk_timeout(mut self, timeout: Duration) -> Self {
        self.bulk_timeout = timeout;
        self
    }

    /// The longest a clear may take.
    #[must_use]
    pub fn with_clear_timeout(mut self, timeout: Duration) -> Self {
        self.clear_timeout = timeout;
        self
    }

    /// The longest encoded value in bytes.
    #[must_use]
    pub fn with_max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = Some(bytes);
        self
    }

    /// Who may vouch for the endpoint.
    #[must_use]
    pub fn with_roots(mut self, roots: Roots) -> Self {
        self.roots = roots;
        self
    }

    /// Where credentials come from. Defaults to the environment, or to the SDK's whole default
    /// chain with the feature `aws-config`.
    #[must_use]
    pub fn with_credentials(mut self, credentials: CredentialsSource) -> Self {
        self.credentials = credentials;
        self
    }

    /// The clock that expiries are written and judged by. Defaults to the system's.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Who is told of throttles, repetitions, time limits, lost connections, parts of batches left
    /// undone, expired entries that were still stored, and items that cannot be read. Defaults to
    /// nobody.
    #[must_use]
    pub fn with_observers(mut self, observers: Observers) -> Self {
        self.observers = observers;
        self
    }

    /// How AWS is reached.
    pub(crate) fn aws(&self) -> AwsOptions {
        let mut aws = AwsOptions::new();
        aws.region.clone_from(&self.region);
        aws.endpoint.clone_from(&self.endpoint);
        aws.roots = self.roots.clone();
        aws.credentials = self.credentials.clone();
        aws.connect_timeout = self.connect_timeout;
        aws
    }

    /// Everything that no table could be reached with, but for what the roots file may hold.
    pub(crate) fn check(&self) -> Result<(), CacheError> {
        settle((), self.problems()).map_err(ConfigurationErrors::into)
    }

    fn problems(&self) -> Vec<ConfigurationError> {
        let mut problems = self.aws().problems();
        let mut refuse = |option: &str, complaint: String| {
            problems.push(ConfigurationError::new(
                option,
                format!("{option} {complaint}"),
            ));
        };
        if !is_table(&self.table) {
            let complaint = format!(
                "{:?} is not a name of 3 to 255 letters, digits, _, . and -, nor an ARN",
                self.table
            );
            refuse("the DynamoDB table", complaint);
        }
        if let Some(complaint) = self.key_schema.complaint() {
            refuse("the DynamoDB constant key", complaint);
        }
        for complaint in self.attribute_complaints() {
            refuse("the DynamoDB attribute", complaint);
        }
        if self.max_value_bytes == Some(0) {
            refuse("the largest DynamoDB value", "is 0 bytes".to_owned());
        }
        for (option, timeout) in [
            ("the DynamoDB connect timeout", self.connect_timeout),
            ("the DynamoDB attempt timeout", self.attempt_timeout),
            ("the DynamoDB timeout", self.timeout),
            ("the DynamoDB bulk timeout", self.bulk_timeout),
            ("the DynamoDB clear timeout", self.clear_timeout),
        ] {
            if timeout < millis(1) || timeout > LONGEST_TIMEOUT {
                refuse(option, format!("is {timeout:?}, not 1ms to 1h"));
            }
        }
        if self.attempt_timeout > self.timeout {
            let complaint = format!(
                "of {:?} is longer than the whole of {:?}",
                self.attempt_timeout, self.timeout
            );
            refuse("the DynamoDB attempt timeout", complaint);
        }
        problems
    }

    /// What is wrong with the names of attributes, one by one and beside each other.
    fn attribute_complaints(&self) -> Vec<String> {
        let mut names = vec![self.key_schema.partition_attribute()];
        names.extend(self.key_schema.sort_attribute());
        names.extend([&*self.value_attribute, &self.ttl_attribute]);
        let mut complaints = Vec::new();
        for (at, name) in names.iter().enumerate() {
            if !(1..=ATTRIBUTE_BYTES).contains(&name.len()) {
                let bytes = name.len();
                complaints.push(format!(
                    "{name:?} has {bytes} bytes, not 1 to {ATTRIBUTE_BYTES}"
                ));
            }
            if names[..at].contains(name) {
                complaints.push(format!("{name:?} is named twice"));
            }
            if OWN_ATTRIBUTES.contains(name) {
                complaints.push(format!("{name:?} is one of the cache's own"));
            }
        }
        complaints
    }
}

impl fmt::Debug for DynamoDbOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            table,
            region,
            endpoint,
            consistent_reads,
            key_schema,
            value_attribute,
            ttl_attribute,
            connect_timeout,
            attempt_timeout,
            timeout,
            bulk_timeout,
            clear_timeout,
            max_value_bytes,
            roots,
            credentials,
            clock: _,
            observers,
        } = self;
        f.debug_struct("DynamoDbOptions")
            .field("table", table)
            .field("region", region)
            .field("endpoint", endpoint)
            .field("consistent_reads", consistent_reads)
            .field("key_schema", key_schema)
            .field("value_attribute", value_attribute)
            .field("ttl_attribute", ttl_attribute)
            .field("connect_timeout", connect_timeout)
            .field("attempt_timeout", attempt_timeout)
            .field("timeout", timeout)
            .field("bulk_timeout", bulk_timeout)
            .field("clear_timeout", clear_timeout)
            .field("max_value_bytes", max_value_bytes)
            .field("roots", roots)
            .field("credentials", credentials)
            .field("observers", observers)
            .finish_non_exhaustive()
    }
}

/// A table's name by DynamoDB's rules, or the ARN of one.
fn is_table(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if let Some(arn) = text.strip_prefix("arn:") {
        let fits = text.len() <= 1024 && arn.contains(":table/");
        return fits
            && arn
                .bytes()
                .all(|byte| is_plain(byte) || matches!(byte, b':' | b'/'));
    }
    (3..=255).contains(&text.len()) && text.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cache_aws::AwsCredentials;

    fn complaints(options: &DynamoDbOptions) -> Vec<String> {
        options.problems().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_no_table_could_be_reached_with_is_refused_at_once() {
        let mut options = DynamoDbOptions::new("a b")
            .with_key_schema(KeySchema::constant_sort("PK", "PK", ""))
            .with_value_attribute("cache_v")
            .with_ttl_attribute("t".repeat(256))
            .with_bulk_timeout(Duration::ZERO)
            .with_max_value_bytes(0);
        options.attempt_timeout = secs(1);
        let long = "t".repeat(256);
        assert_eq!(
            complaints(&options),
            [
                "the AWS region is not set; set AWS_REGION, such as eu-west-1".to_owned(),
                "the DynamoDB table \"a b\" is not a name of 3 to 255 letters, digits, _, . and \
                 -, nor an ARN"
                    .to_owned(),
                "the DynamoDB constant key of \"PK\" has 0 bytes, not 1 to 1024".to_owned(),
                "the DynamoDB attribute \"PK\" is named twice".to_owned(),
                "the DynamoDB attribute \"cache_v\" is one of the cache's own".to_owned(),
                format!("the DynamoDB attribute {long:?} has 256 bytes, not 1 to 255"),
                "the largest DynamoDB value is 0 bytes".to_owned(),
                "the DynamoDB bulk timeout is 0ns, not 1ms to 1h".to_owned(),
                "the DynamoDB attempt timeout of 1s is longer than the whole of 500ms".to_owned(),
            ]
        );
    }

    #[test]
    fn tables_are_named_or_given_by_arn() {
        let arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/cache";
        for table in ["abc", "Cache_1.prod-a", &"t".repeat(255), arn] {
            assert!(is_table(table), "{table}");
        }
        for table in [
            "",
            "ab",
            "a b",
            "ab/c",
            "tüü",
            &"t".repeat(256),
            "arn:aws:s3:::x",
        ] {
            assert!(!is_table(table), "{table}");
        }
    }

    #[test]
    fn debug_shows_no_credentials() {
        let credentials = CredentialsSource::fixed(AwsCredentials::new("AKIA", "hunter2"));
        let options = DynamoDbOptions::new("cache").with_credentials(credentials);
        let text = format!("{options:?}");
        assert!(
            !text.contains("hunter2") && !text.contains("AKIA"),
            "{text}"
        );
    }
}
