//! Which attributes of a table hold an entry.

use std::fmt;

/// Where in an item the key of an entry stands.
///
/// ```
/// use cache_dynamo::{DynamoDbOptions, KeySchema};
///
/// // A table of a service's own, whose items have a partition key and a sort key.
/// let schema = KeySchema::constant_sort("PK", "SK", "cache");
/// let options = DynamoDbOptions::new("orders").with_key_schema(schema);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeySchema {
    /// The partition key holds the key, and the table has no sort key.
    Partition {
        /// The partition key attribute.
        partition: String,
    },
    /// The partition key holds the key; the sort key holds the same text in every entry.
    ConstantSort {
        /// The partition key attribute.
        partition: String,
        /// The sort key attribute.
        sort: String,
        /// What it holds.
        value: String,
    },
    /// The sort key holds the key; the partition key holds the same text in every entry.
    ///
    /// A clear then reads only the entries below its prefix. All entries share one partition,
    /// which bears 3,000 reads and 1,000 writes of a kilobyte a second and no more: for caches that
    /// are cleared often and used little.
    ConstantPartition {
        /// The partition key attribute.
        partition: String,
        /// What it holds.
        value: String,
        /// The sort key attribute.
        sort: String,
    },
}

/// The longest text that a partition key holds, and a sort key.
const PARTITION_BYTES: usize = 2048;
const SORT_BYTES: usize = 1024;

impl KeySchema {
    /// The key in `partition`, in a table without a sort key.
    #[must_use]
    pub fn partition(partition: impl Into<String>) -> Self {
        Self::Partition {
            partition: partition.into(),
        }
    }

    /// The key in `partition`, and `value` in the sort key `sort` of every entry.
    #[must_use]
    pub fn constant_sort(
        partition: impl Into<String>,
        sort: impl Into<String>,
        value: impl Into<String>,
    ) -> Self {
        Self::ConstantSort {
            partition: partition.into(),
            sort: sort.into(),
            value: value.into(),
        }
    }

    /// The key in the sort key `sort`, and `value` in `partition` of every entry.
    #[must_use]
    pub fn constant_partition(
        partition: impl Into<String>,
        value: impl Into<String>,
        sort: impl Into<String>,
    ) -> Self {
        Self::ConstantPartition {
            partition: partition.into(),
            value: value.into(),
            sort: sort.into(),
        }
    }

    /// The partition key attribute of the table.
    pub(crate) fn partition_attribute(&self) -> &str {
        match self {
            Self::Partition { partition }
            | Self::ConstantSort { partition, .. }
            | Self::ConstantPartition { partition, .. } => partition,
        }
    }

    /// The sort key attribute of the table, if it has one.
    pub(crate) fn sort_attribute(&self) -> Option<&str> {
        match self {
            Self::Partition { .. } => None,
            Self::ConstantSort { sort, .. } | Self::ConstantPartition { sort, .. } => Some(sort),
        }
    }

    /// The attribute that holds the key.
    pub(crate) fn key_attribute(&self) -> &str {
        match self {
            Self::Partition { partition } | Self::ConstantSort { partition, .. } => partition,
            Self::ConstantPartition { sort, .. } => sort,
        }
    }

    /// The other key attribute with the text that it always holds, if there is one.
    pub(crate) fn constant(&self) -> Option<(&str, &str)> {
        match self {
            Self::Partition { .. } => None,
            Self::ConstantSort { sort, value, .. } => Some((sort, value)),
            Self::ConstantPartition {
                partition, value, ..
            } => Some((partition, value)),
        }
    }

    /// What is wrong with the constant text, if anything.
    pub(crate) fn complaint(&self) -> Option<String> {
        let most = match self {
            Self::ConstantPartition { .. } => PARTITION_BYTES,
            _ => SORT_BYTES,
        };
        let (attribute, value) = self.constant()?;
        let fits = (1..=most).contains(&value.len());
        (!fits).then(|| {
            let bytes = value.len();
            format!("of {attribute:?} has {bytes} bytes, not 1 to {most}")
        })
    }
}

impl Default for KeySchema {
    fn default() -> Self {
        Self::partition("PK")
    }
}

impl fmt::Display for KeySchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition key {:?}", self.partition_attribute())?;
        match self.sort_attribute() {
            Some(sort) => write!(f, " and sort key {sort:?}"),
            None => f.write_str(" and no sort key"),
        }
    }
}
