//! Which table holds the entries, how it is reached and how long to wait for it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cache_aws::{AwsOptions, CredentialsSource, Roots};
use cache_core::settings::{Setting, Settings, settle};
use cache_core::{
    CacheError, Clock, ConfigurationError, ConfigurationErrors, SystemClock, millis, secs,
};

use crate::item::OWN_ATTRIBUTES;

mod schema;
mod settings;

pub use schema::KeySchema;

use settings::{
    ATTEMPT_TIMEOUT, AWS_REGIONS, BULK_TIMEOUT, CLEAR_TIMEOUT, CONNECT_TIMEOUT, CONSISTENT_READS,
    ENDPOINT, MAX_VALUE_BYTES, PARTITION_KEY, PARTITION_KEY_VALUE, REGION, ROOTS_FILE, SORT_KEY,
    SORT_KEY_VALUE, TABLE, TIMEOUT, TTL_ATTRIBUTE, VALUE_ATTRIBUTE,
};

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
}

/// The longest any of our timeouts may be.
const LONGEST_TIMEOUT: Duration = secs(3600);

/// The longest name that DynamoDB takes for an attribute.
const ATTRIBUTE_BYTES: usize = 255;

impl DynamoDbOptions {
    /// Every environment variable that [`from_env`](Self::from_env) reads, but for those of AWS.
    pub const SETTINGS: &'static [&'static Setting] = &[
        &TABLE,
        &REGION,
        &ENDPOINT,
        &CONSISTENT_READS,
        &PARTITION_KEY,
        &PARTITION_KEY_VALUE,
        &SORT_KEY,
        &SORT_KEY_VALUE,
        &VALUE_ATTRIBUTE,
        &TTL_ATTRIBUTE,
        &CONNECT_TIMEOUT,
        &ATTEMPT_TIMEOUT,
        &TIMEOUT,
        &BULK_TIMEOUT,
        &CLEAR_TIMEOUT,
        &MAX_VALUE_BYTES,
        &ROOTS_FILE,
    ];

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
        }
    }

    /// The table that the environment names; see [`SETTINGS`](Self::SETTINGS).
    ///
    /// # Errors
    ///
    /// `Configuration` with every problem at once: no table, no region, values that cannot be read,
    /// contradictions, unknown names that begin with `CACHE_DYNAMODB_`.
    pub fn from_env() -> Result<Self, CacheError> {
        let settings = Settings::from_env();
        let mut problems = settings.unknown(Self::SETTINGS);
        problems.retain(|problem| problem.variable.starts_with("CACHE_DYNAMODB_"));
        let options = Self::from_settings(&settings, &mut problems);
        Ok(settle(options, problems)?)
    }

    /// The table that `settings` name; what is wrong is added to `problems`. A pure function: it
    /// neither reads the environment nor does any I/O.
    #[must_use]
    pub fn from_settings(settings: &Settings, problems: &mut Vec<ConfigurationError>) -> Self {
        let known = problems.len();
        let text = |setting| settings.find(setting).map(|found| found.value.to_owned());
        let mut options = Self::new(text(&TABLE).unwrap_or_default());
        if options.table.is_empty() {
            let name = TABLE.name;
            let problem = format!("{name} is not set; expected the name of a table");
            problems.push(ConfigurationError::new(name, problem));
        }
        options.region = std::iter::once(&REGION).chain(&AWS_REGIONS).find_map(text);
        if options.region.is_none() {
            let (ours, theirs) = (REGION.name, AWS_REGIONS[0].name);
            let problem = format!(
                "neither {ours} nor {theirs} is set; expected {}",
                REGION.accepts
            );
            problems.push(ConfigurationError::new(ours, problem.replace('`', "")));
        }
        options.endpoint = text(&ENDPOINT);
        let truth = "true or false";
        if let Some(consistent) =
            settings.read(&CONSISTENT_READS, truth, problems, |text| text.parse().ok())
        {
            options.consistent_reads = consistent;
        }
        options.key_schema = schema_from(settings, problems);
        if let Some(attribute) = text(&VALUE_ATTRIBUTE) {
            options.value_attribute = attribute;
        }
        if let Some(attribute) = text(&TTL_ATTRIBUTE) {
            options.ttl_attribute = attribute;
        }
        options.read_timeouts(settings, problems);
        options.max_value_bytes = settings.bytes(&MAX_VALUE_BYTES, problems);
        if let Some(path) = text(&ROOTS_FILE) {
            options.roots = Roots::File(PathBuf::from(path));
        }
        // What is wrong with single values has been said; what no table could be reached with is
        // only looked for where every value could be read.
        if problems.len() == known {
            problems.extend(options.problems());
        }
        options
    }

    fn read_timeouts(&mut self, settings: &Settings, problems: &mut Vec<ConfigurationError>) {
        for (setting, timeout) in [
            (&CONNECT_TIMEOUT, &mut self.connect_timeout),
            (&ATTEMPT_TIMEOUT, &mut self.attempt_timeout),
            (&TIMEOUT, &mut self.timeout),
            (&BULK_TIMEOUT, &mut self.bulk_timeout),
            (&CLEAR_TIMEOUT, &mut self.clear_timeout),
        ] {
            if let Some(duration) = settings.duration(setting, problems) {
                *timeout = duration;
            }
        }
        let Some(attempt) = settings.find(&ATTEMPT_TIMEOUT) else {
            self.attempt_timeout = self.attempt_timeout.min(self.timeout);
            return;
        };
        if self.attempt_timeout > self.timeout {
            let whole = settings.variable(&TIMEOUT);
            let complaint = format!("is longer than {whole}, which is {:?}", self.timeout);
            problems.push(settings.refused(&ATTEMPT_TIMEOUT, attempt.value, &complaint));
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
            .finish_non_exhaustive()
    }
}

/// The key schema that the four variables describe together.
fn schema_from(settings: &Settings, problems: &mut Vec<ConfigurationError>) -> KeySchema {
    let text = |setting| settings.find(setting).map(|found| found.value);
    let partition = text(&PARTITION_KEY).unwrap_or("PK");
    let mut refuse = |setting: &Setting, complaint: String| {
        let variable = settings.variable(setting);
        let problem = format!("{variable} {complaint}");
        problems.push(ConfigurationError::new(variable, problem));
    };
    let (in_partition, in_sort) = (text(&PARTITION_KEY_VALUE), text(&SORT_KEY_VALUE));
    match (text(&SORT_KEY), in_partition, in_sort) {
        (None, None, None) => return KeySchema::partition(partition),
        (Some(sort), None, Some(value)) => {
            return KeySchema::constant_sort(partition, sort, value);
        }
        (Some(sort), Some(value), None) => {
            return KeySchema::constant_partition(partition, value, sort);
        }
        (Some(_), None, None) => {
            let (sort, partition) = (SORT_KEY_VALUE.name, PARTITION_KEY_VALUE.name);
            refuse(&SORT_KEY, format!("is set without {sort} or {partition}"));
        }
        (_, Some(_), Some(_)) => {
            let other = settings.variable(&SORT_KEY_VALUE);
            let complaint = format!("and {other} contradict each other; set one of them");
            refuse(&PARTITION_KEY_VALUE, complaint);
        }
        (None, Some(_), None) => {
            refuse(
                &PARTITION_KEY_VALUE,
                format!("is set without {}", SORT_KEY.name),
            );
        }
        (None, None, Some(_)) => {
            refuse(&SORT_KEY_VALUE, format!("is set without {}", SORT_KEY.name));
        }
    }
    KeySchema::partition(partition)
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

    fn read(pairs: &[(&str, &str)]) -> (DynamoDbOptions, Vec<String>) {
        let settings = Settings::from_pairs(pairs.iter().copied());
        let mut problems = Vec::new();
        let options = DynamoDbOptions::from_settings(&settings, &mut problems);
        (options, problems.iter().map(ToString::to_string).collect())
    }

    fn read_sound(more: &[(&str, &str)]) -> (DynamoDbOptions, Vec<String>) {
        let sound = [
            ("CACHE_DYNAMODB_TABLE", "cache"),
            ("AWS_REGION", "eu-west-1"),
        ];
        read(&[&sound, more].concat())
    }

    fn complaints(options: &DynamoDbOptions) -> Vec<String> {
        options.problems().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_table_and_a_region_are_required() {
        let (_, problems) = read(&[]);
        assert_eq!(
            problems,
            [
                "CACHE_DYNAMODB_TABLE is not set; expected the name of a table",
                "neither CACHE_DYNAMODB_REGION nor AWS_REGION is set; \
                 expected a region such as eu-west-1",
            ]
        );
    }

    #[test]
    fn our_own_region_wins() {
        let (options, problems) = read(&[
            ("CACHE_DYNAMODB_TABLE", "cache"),
            ("AWS_DEFAULT_REGION", "eu-west-3"),
            ("AWS_REGION", "eu-west-2"),
        ]);
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(options.region.as_deref(), Some("eu-west-2"));
        let (options, _) = read_sound(&[("CACHE_DYNAMODB_REGION", "eu-west-4")]);
        assert_eq!(options.region.as_deref(), Some("eu-west-4"));
    }

    #[test]
    fn everything_is_read() {
        let (options, problems) = read_sound(&[
            ("CACHE_DYNAMODB_ENDPOINT", "http://localhost:8000"),
            ("CACHE_DYNAMODB_CONSISTENT_READS", "true"),
            ("CACHE_DYNAMODB_PARTITION_KEY", "id"),
            ("CACHE_DYNAMODB_VALUE_ATTRIBUTE", "v"),
            ("CACHE_DYNAMODB_TTL_ATTRIBUTE", "expires"),
            ("CACHE_DYNAMODB_TIMEOUT", "100ms"),
            ("CACHE_DYNAMODB_MAX_VALUE_BYTES", "64KiB"),
            ("CACHE_DYNAMODB_ROOTS_FILE", "/etc/roots.pem"),
        ]);
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(options.endpoint.as_deref(), Some("http://localhost:8000"));
        assert!(options.consistent_reads);
        assert_eq!(options.key_schema, KeySchema::partition("id"));
        assert_eq!(
            (&*options.value_attribute, &*options.ttl_attribute),
            ("v", "expires")
        );
        assert_eq!(
            (options.timeout, options.attempt_timeout),
            (millis(100), millis(100))
        );
        assert_eq!(options.max_value_bytes, Some(65536));
        assert_eq!(options.roots, Roots::File("/etc/roots.pem".into()));
    }

    #[test]
    fn the_key_schema_follows_from_which_value_is_constant() {
        let sort = ("CACHE_DYNAMODB_SORT_KEY", "SK");
        let (options, problems) = read_sound(&[sort, ("CACHE_DYNAMODB_SORT_KEY_VALUE", "cache")]);
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(
            options.key_schema,
            KeySchema::constant_sort("PK", "SK", "cache")
        );
        let (options, problems) =
            read_sound(&[sort, ("CACHE_DYNAMODB_PARTITION_KEY_VALUE", "cache")]);
        assert!(problems.is_empty(), "{problems:?}");
        let expected = KeySchema::constant_partition("PK", "cache", "SK");
        assert_eq!(options.key_schema, expected);
        let (_, problems) = read_sound(&[sort]);
        assert_eq!(
            problems,
            [
                "CACHE_DYNAMODB_SORT_KEY is set without CACHE_DYNAMODB_SORT_KEY_VALUE or \
              CACHE_DYNAMODB_PARTITION_KEY_VALUE"
            ]
        );
        let (_, problems) = read_sound(&[("CACHE_DYNAMODB_SORT_KEY_VALUE", "cache")]);
        assert_eq!(
            problems,
            ["CACHE_DYNAMODB_SORT_KEY_VALUE is set without CACHE_DYNAMODB_SORT_KEY"]
        );
        let (_, problems) = read_sound(&[
            sort,
            ("CACHE_DYNAMODB_SORT_KEY_VALUE", "a"),
            ("CACHE_DYNAMODB_PARTITION_KEY_VALUE", "b"),
        ]);
        assert_eq!(
            problems,
            [
                "CACHE_DYNAMODB_PARTITION_KEY_VALUE and CACHE_DYNAMODB_SORT_KEY_VALUE contradict \
              each other; set one of them"
            ]
        );
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let (_, problems) = read_sound(&[
            ("CACHE_DYNAMODB_CONSISTENT_READS", "perhaps"),
            ("CACHE_DYNAMODB_TIMEOUT", "5 parsecs"),
            ("CACHE_DYNAMODB_ATTEMPT_TIMEOUT", "2s"),
            ("CACHE_DYNAMODB_MAX_VALUE_BYTES", "many"),
        ]);
        assert_eq!(
            problems,
            [
                "CACHE_DYNAMODB_CONSISTENT_READS=\"perhaps\" is not true or false",
                "CACHE_DYNAMODB_TIMEOUT=\"5 parsecs\" is not a duration; try 500ms, 2s",
                "CACHE_DYNAMODB_ATTEMPT_TIMEOUT=\"2s\" is longer than CACHE_DYNAMODB_TIMEOUT, \
                 which is 500ms",
                "CACHE_DYNAMODB_MAX_VALUE_BYTES=\"many\" is not a size; try 65536, 512KiB, 64MiB",
            ]
        );
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
