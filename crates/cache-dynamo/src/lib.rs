//! The DynamoDB backend of `cache-core`.
