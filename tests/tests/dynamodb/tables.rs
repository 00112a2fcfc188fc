//! A DynamoDB to test on, and tables in it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Builder;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ScalarAttributeType,
};
use cache_aws::{AwsClient, AwsCredentials, AwsOptions, CredentialsSource};
use cache_core::secs;
use cache_dynamo::{DynamoDbCacheStorage, DynamoDbOptions, KeySchema};
use cache_testkit::servers::DynamoDb;

pub(crate) type Item = HashMap<String, AttributeValue>;

/// Long enough for a busy machine: these tests ask what is answered, not how soon.
const PATIENCE: Duration = secs(120);

/// The DynamoDB that `CACHE_TEST_DYNAMODB_ENDPOINT` names, or one inside this process.
#[derive(Debug)]
pub(crate) struct Server {
    endpoint: String,
    region: String,
    credentials: CredentialsSource,
    /// Whether tables can be made to collect what has expired.
    knows_ttl: bool,
    /// What table names begin with.
    family: String,
    tables: AtomicU32,
    _own: Option<DynamoDb>,
}

impl Server {
    pub(crate) fn start() -> std::io::Result<Self> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let given = variable("CACHE_TEST_DYNAMODB_ENDPOINT");
        let own = match &given {
            Some(_) => None,
            None => Some(DynamoDb::start()?),
        };
        let own_endpoint = own.as_ref().map(DynamoDb::endpoint);
        let has_keys = variable("AWS_ACCESS_KEY_ID").is_some();
        let credentials = if given.is_some() && has_keys {
            CredentialsSource::environment()
        } else {
            CredentialsSource::fixed(AwsCredentials::new("test", "test"))
        };
        Ok(Self {
            endpoint: given.or(own_endpoint).unwrap_or_default(),
            region: variable("AWS_REGION").unwrap_or_else(|| "eu-west-1".to_owned()),
            credentials,
            knows_ttl: variable("CACHE_TEST_DYNAMODB_NO_TTL").is_none(),
            family: format!("cache-test-{:08x}", fastrand::u32(..)),
            tables: AtomicU32::new(0),
            _own: own,
        })
    }

    /// Options for a table of a name that no other has.
    pub(crate) fn options(&self) -> DynamoDbOptions {
        let number = self.tables.fetch_add(1, Ordering::Relaxed);
        DynamoDbOptions::new(format!("{}-{number}", self.family))
            .with_region(self.region.clone())
            .with_endpoint(self.endpoint.clone())
            .with_credentials(self.credentials.clone())
            .with_consistent_reads(true)
            .with_connect_timeout(PATIENCE)
            .with_timeout(PATIENCE)
            .with_attempt_timeout(PATIENCE)
            .with_bulk_timeout(PATIENCE)
    }

    /// Makes the table that `options` name, as the cache makes one, or by the plain SDK where the
    /// server knows nothing of collecting.
    pub(crate) async fn create(&self, options: &DynamoDbOptions) {
        if self.knows_ttl {
            let storage =
                DynamoDbCacheStorage::new(options.clone()).expect("the options are sound");
            storage.create_table().await.expect("the table is made");
            return;
        }
        let string = ScalarAttributeType::S;
        let keys = match &options.key_schema {
            KeySchema::Partition { partition } => vec![(partition, KeyType::Hash)],
            KeySchema::ConstantSort {
                partition, sort, ..
            }
            | KeySchema::ConstantPartition {
                partition, sort, ..
            } => vec![(partition, KeyType::Hash), (sort, KeyType::Range)],
            other => unreachable!("{other:?} is not known to these tests"),
        };
        let keys: Vec<_> = keys
            .into_iter()
            .map(|(name, key)| (name.as_str(), string.clone(), key))
            .collect();
        create_raw(&self.raw(), &options.table, &keys).await;
    }

    /// The plain SDK, for what stands beside the cache.
    pub(crate) fn raw(&self) -> Client {
        let mut options = AwsOptions::new();
        options.region = Some(self.region.clone());
        options.endpoint = Some(self.endpoint.clone());
        options.credentials = self.credentials.clone();
        let aws = AwsClient::new(options).expect("the options are sound");
        Client::from_conf(Builder::from(&aws.sdk_config()).build())
    }
}

/// Makes a table with the given key attributes and waits until it can be used.
pub(crate) async fn create_raw(
    raw: &Client,
    table: &str,
    keys: &[(&str, ScalarAttributeType, KeyType)],
) {
    let mut request = raw
        .create_table()
        .table_name(table)
        .billing_mode(BillingMode::PayPerRequest);
    for (name, attribute_type, key_type) in keys {
        let definition = AttributeDefinition::builder()
            .attribute_name(*name)
            .attribute_type(attribute_type.clone());
        let element = KeySchemaElement::builder()
            .attribute_name(*name)
            .key_type(key_type.clone());
        request = request
            .attribute_definitions(definition.build().expect("it is complete"))
            .key_schema(element.build().expect("it is complete"));
    }
    request.send().await.expect("the table is made");
    loop {
        let table = raw.describe_table().table_name(table).send().await;
        let table = table.expect("the table is there").table;
        let status = table.and_then(|table| table.table_status);
        if status.is_some_and(|status| status.as_str() == "ACTIVE") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

pub(crate) fn number(number: i64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

pub(crate) fn item<const N: usize>(attributes: [(&str, AttributeValue); N]) -> Item {
    attributes
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}

/// The key attributes of the item under `key`.
pub(crate) fn key_item(schema: &KeySchema, key: &str) -> Item {
    match schema {
        KeySchema::Partition { partition } => item([(partition, text(key))]),
        KeySchema::ConstantSort {
            partition,
            sort,
            value,
        } => item([(partition, text(key)), (sort, text(value))]),
        KeySchema::ConstantPartition {
            partition,
            value,
            sort,
        } => item([(partition, text(value)), (sort, text(key))]),
        other => unreachable!("{other:?} is not known to these tests"),
    }
}

/// An item of somebody else under `key`, with attributes that the cache uses too.
pub(crate) fn foreign_item(schema: &KeySchema, key: &str) -> Item {
    let mut foreign = key_item(schema, key);
    foreign.extend(item([
        ("value", text("somebody's")),
        ("ttl", number(1)),
        ("owner", text("billing")),
        ("flags", AttributeValue::Bool(true)),
    ]));
    foreign
}

/// An entry that expired in January 2020 and is still there: DynamoDB does not collect what has
/// been due for more than five years.
pub(crate) fn expired_item(schema: &KeySchema, key: &str) -> Item {
    let mut expired = key_item(schema, key);
    expired.extend(item([
        ("value", number(41)),
        ("ttl", number(1_577_836_800)),
        ("cache_v", number(1)),
        ("cache_expires", number(1_577_836_800_000)),
    ]));
    expired
}

pub(crate) async fn put_raw(raw: &Client, table: &str, item: Item) {
    let put = raw.put_item().table_name(table).set_item(Some(item));
    put.send().await.expect("the server writes");
}

pub(crate) async fn get_raw(raw: &Client, table: &str, key: Item) -> Option<Item> {
    let get = raw.get_item().table_name(table).consistent_read(true);
    let got = get.set_key(Some(key)).send().await;
    got.expect("the server reads").item
}
