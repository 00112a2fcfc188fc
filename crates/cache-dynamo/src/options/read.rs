//! Options from the environment.

use std::path::PathBuf;

use cache_aws::Roots;
use cache_core::settings::{Setting, Settings, settle};
use cache_core::{CacheError, ConfigurationError};

use super::settings::{
    ATTEMPT_TIMEOUT, AWS_REGIONS, BULK_TIMEOUT, CLEAR_TIMEOUT, CONNECT_TIMEOUT, CONSISTENT_READS,
    ENDPOINT, MAX_VALUE_BYTES, PARTITION_KEY, PARTITION_KEY_VALUE, REGION, ROOTS_FILE, SORT_KEY,
    SORT_KEY_VALUE, TABLE, TIMEOUT, TTL_ATTRIBUTE, VALUE_ATTRIBUTE,
};
use super::{DynamoDbOptions, KeySchema};

/// The variables behind the options that problems name.
const VARIABLES: [(&str, &Setting); 9] = [
    ("the DynamoDB table", &TABLE),
    ("the AWS region", &REGION),
    ("the AWS endpoint", &ENDPOINT),
    ("the DynamoDB connect timeout", &CONNECT_TIMEOUT),
    ("the DynamoDB attempt timeout", &ATTEMPT_TIMEOUT),
    ("the DynamoDB timeout", &TIMEOUT),
    ("the DynamoDB bulk timeout", &BULK_TIMEOUT),
    ("the DynamoDB clear timeout", &CLEAR_TIMEOUT),
    ("the largest DynamoDB value", &MAX_VALUE_BYTES),
];

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
        let known = problems.len();
        options.key_schema = schema_from(settings, problems);
        let is_schema_refused = problems.len() > known;
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
        // What was said already is not said again.
        let is_news = |problem: &ConfigurationError| match &*problem.variable {
            "the DynamoDB table" => !options.table.is_empty(),
            "the AWS region" => options.region.is_some(),
            "the DynamoDB constant key" | "the DynamoDB attribute" => !is_schema_refused,
            "the DynamoDB attempt timeout" => options.attempt_timeout <= options.timeout,
            _ => true,
        };
        let found = options.problems().into_iter().filter(is_news).collect();
        problems.extend(settings.naming(found, &VARIABLES));
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

#[cfg(test)]
mod tests {
    use cache_core::millis;

    use super::*;

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
}
