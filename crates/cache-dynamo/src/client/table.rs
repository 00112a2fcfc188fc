//! The table itself: making it, and saying what is wrong with it.

use std::time::Duration;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::create_table::CreateTableError;
use aws_sdk_dynamodb::operation::describe_table::DescribeTableError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    TableDescription, TableStatus, TimeToLiveSpecification, TimeToLiveStatus,
};
use cache_core::{ConfigurationError, ConfigurationErrors, ErrorKind, Result, millis, secs};
use tokio::time::{Instant, sleep};

use super::Client;
use super::call::{Budget, Call, Repeat};
use crate::error::error;

const CREATE: &str = "dynamodb:CreateTable";
const DESCRIBE: &str = "dynamodb:DescribeTable";
const DESCRIBE_TTL: &str = "dynamodb:DescribeTimeToLive";
const UPDATE_TTL: &str = "dynamodb:UpdateTimeToLive";

/// How long a table may take to become active, and one request about it.
const WHOLE: Duration = secs(60);
const PATIENCE: Duration = secs(10);

/// How often a table that is being made is looked at.
const INTERVAL: Duration = millis(250);

impl Client {
    /// Makes the table if there is none, waits until it can be used, and switches collecting on.
    pub(crate) async fn create_table(&self) -> Result<()> {
        let budget = Budget::new(PATIENCE, WHOLE);
        self.create(budget).await?;
        let table = self.active_table(budget).await?;
        if self.key_problems(&table).is_empty() {
            self.switch_collecting_on(budget).await?;
        }
        self.check_table().await
    }

    /// Whether the table is there and is as the options say.
    pub(crate) async fn check_table(&self) -> Result<()> {
        let budget = Budget::new(PATIENCE, WHOLE);
        let Some(table) = self.describe(budget).await? else {
            let table = &self.options.table;
            let region = self.aws.region();
            let problem = format!(
                "there is no table {table} in {region}; create it, or correct its name and region"
            );
            return Err(self.problem(problem).into());
        };
        let mut problems = self.key_problems(&table);
        if let Some(status) = table.table_status.filter(|status| !is_usable(status)) {
            let table = &self.options.table;
            let problem = format!("table {table} is {status}; wait until it is active");
            problems.push(self.problem(problem));
        }
        problems.extend(self.collecting_problem(budget).await?);
        if problems.is_empty() {
            return Ok(());
        }
        Err(ConfigurationErrors(problems).into())
    }

    /// Asks for the table; one that is there already will do.
    async fn create(&self, budget: Budget) -> Result<()> {
        let schema = &self.options.key_schema;
        let mut attributes = vec![(schema.partition_attribute(), KeyType::Hash)];
        attributes.extend(schema.sort_attribute().map(|name| (name, KeyType::Range)));
        let call = Call::write(CREATE, Repeat::Same, budget.anew());
        let answer = self.call(call, || {
            let mut request = self
                .sdk
                .create_table()
                .table_name(&self.options.table)
                .billing_mode(BillingMode::PayPerRequest);
            for (name, key_type) in &attributes {
                let definition = AttributeDefinition::builder()
                    .attribute_name(*name)
                    .attribute_type(ScalarAttributeType::S);
                let element = KeySchemaElement::builder()
                    .attribute_name(*name)
                    .key_type(key_type.clone());
                // Both have all that they need, so neither fails.
                if let (Ok(definition), Ok(element)) = (definition.build(), element.build()) {
                    request = request
                        .attribute_definitions(definition)
                        .key_schema(element);
                }
            }
            async {
                match request.send().await {
                    Err(SdkError::ServiceError(failure)) if is_there(failure.err()) => Ok(()),
                    outcome => outcome.map(drop),
                }
            }
        });
        answer.await.map(drop)
    }

    /// The table once it can be used.
    async fn active_table(&self, budget: Budget) -> Result<TableDescription> {
        loop {
            let table = self.describe(budget).await?;
            match table {
                Some(table) if table.table_status == Some(TableStatus::Active) => return Ok(table),
                _ if Instant::now() + INTERVAL >= budget.deadline => {
                    let message = format!("the table was not active within {WHOLE:?}");
                    return Err(error(ErrorKind::Timeout, &message));
                }
                _ => sleep(INTERVAL).await,
            }
        }
    }

    async fn describe(&self, budget: Budget) -> Result<Option<TableDescription>> {
        let answer = self.call(Call::read(DESCRIBE, budget.anew()), || {
            let request = self.sdk.describe_table().table_name(&self.options.table);
            async {
                match request.send().await {
                    Err(SdkError::ServiceError(failure)) if is_missing(failure.err()) => Ok(None),
                    outcome => outcome.map(|output| output.table),
                }
            }
        });
        Ok(answer.await?.reply)
    }

    /// What is wrong with the keys of the table.
    fn key_problems(&self, table: &TableDescription) -> Vec<ConfigurationError> {
        let name = &self.options.table;
        let schema = &self.options.key_schema;
        let attribute = |wanted: KeyType| {
            let elements = table.key_schema.as_deref().unwrap_or_default();
            let element = elements.iter().find(|element| element.key_type == wanted);
            element.map(|element| element.attribute_name.as_str())
        };
        let partition = attribute(KeyType::Hash);
        let sort = attribute(KeyType::Range);
        let mut problems = Vec::new();
        if (partition, sort) != (Some(schema.partition_attribute()), schema.sort_attribute()) {
            let found = match (partition, sort) {
                (Some(partition), Some(sort)) => {
                    format!("partition key {partition:?} and sort key {sort:?}")
                }
                (partition, _) => format!(
                    "partition key {:?} and no sort key",
                    partition.unwrap_or_default()
                ),
            };
            problems.push(self.problem(format!(
                "table {name} has {found}, the options say {schema}; correct the options or take \
                 another table"
            )));
        }
        for definition in table.attribute_definitions.as_deref().unwrap_or_default() {
            let attribute = definition.attribute_name.as_str();
            let is_key = partition == Some(attribute) || sort == Some(attribute);
            if is_key && definition.attribute_type != ScalarAttributeType::S {
                problems.push(self.problem(format!(
                    "key attribute {attribute:?} of table {name} has type {}, not S; take another \
                     table",
                    definition.attribute_type
                )));
            }
        }
        problems
    }

    /// Whether DynamoDB collects what has expired.
    async fn collecting_problem(&self, budget: Budget) -> Result<Option<ConfigurationError>> {
        let (name, attribute) = (&self.options.table, &self.options.ttl_attribute);
        let problem = match self.collecting(budget).await? {
            (true, Some(other)) if other == *attribute => return Ok(None),
            (true, other) => format!(
                "table {name} collects by attribute {:?}, the options say {attribute:?}; correct \
                 one of them",
                other.unwrap_or_default()
            ),
            (false, _) => format!(
                "table {name} does not collect expired items; switch time to live on for \
                 attribute {attribute:?}, or they stay and cost"
            ),
        };
        Ok(Some(self.problem(problem)))
    }

    /// Whether the table collects expired items, and by which attribute.
    async fn collecting(&self, budget: Budget) -> Result<(bool, Option<String>)> {
        let answer = self.call(Call::read(DESCRIBE_TTL, budget.anew()), || {
            self.sdk
                .describe_time_to_live()
                .table_name(&self.options.table)
                .send()
        });
        let Some(state) = answer.await?.reply.time_to_live_description else {
            return Ok((false, None));
        };
        let is_on = matches!(
            state.time_to_live_status,
            Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)
        );
        Ok((is_on, state.attribute_name))
    }

    async fn switch_collecting_on(&self, budget: Budget) -> Result<()> {
        if self.collecting(budget).await?.0 {
            return Ok(());
        }
        let wish = TimeToLiveSpecification::builder()
            .enabled(true)
            .attribute_name(&self.options.ttl_attribute)
            .build()
            .ok();
        let call = Call::write(UPDATE_TTL, Repeat::Same, budget.anew());
        let answer = self.call(call, || {
            self.sdk
                .update_time_to_live()
                .table_name(&self.options.table)
                .set_time_to_live_specification(wish.clone())
                .send()
        });
        answer.await.map(drop)
    }

    fn problem(&self, problem: String) -> ConfigurationError {
        ConfigurationError::new("the DynamoDB table", problem)
            .with_value(self.options.table.as_str())
    }
}

fn is_there(error: &CreateTableError) -> bool {
    matches!(error, CreateTableError::ResourceInUseException(_))
}

fn is_missing(error: &DescribeTableError) -> bool {
    matches!(error, DescribeTableError::ResourceNotFoundException(_))
}

fn is_usable(status: &TableStatus) -> bool {
    matches!(status, TableStatus::Active | TableStatus::Updating)
}
