//! The environment variables, each with its description.

use cache_core::settings::Setting;

pub(super) const TABLE: Setting = Setting {
    name: "CACHE_DYNAMODB_TABLE",
    meaning: "The table that holds the entries, by name or ARN.",
    accepts: "3 to 255 letters, digits, `_`, `.`, `-`, or an ARN",
    default: "none; required",
    secret: false,
};
pub(super) const REGION: Setting = Setting {
    name: "CACHE_DYNAMODB_REGION",
    meaning: "The region of the table.",
    accepts: "a region such as `eu-west-1`",
    default: "`AWS_REGION`, else `AWS_DEFAULT_REGION`; one of them is required",
    secret: false,
};
pub(super) const ENDPOINT: Setting = Setting {
    name: "CACHE_DYNAMODB_ENDPOINT",
    meaning: "A URL to call instead of the region's own endpoint, such as that of an emulator.",
    accepts: "`http[s]://host[:port]`",
    default: "the region's endpoint",
    secret: false,
};
pub(super) const CONSISTENT_READS: Setting = Setting {
    name: "CACHE_DYNAMODB_CONSISTENT_READS",
    meaning: "Whether a read sees every write that was acknowledged before it. Costs twice as much.",
    accepts: "`true` or `false`",
    default: "false; true as one of several storages",
    secret: false,
};
pub(super) const PARTITION_KEY: Setting = Setting {
    name: "CACHE_DYNAMODB_PARTITION_KEY",
    meaning: "The table's partition key attribute, of type string.",
    accepts: "1 to 255 bytes",
    default: "`PK`",
    secret: false,
};
pub(super) const PARTITION_KEY_VALUE: Setting = Setting {
    name: "CACHE_DYNAMODB_PARTITION_KEY_VALUE",
    meaning: "Keeps all entries in the partition of this name, with their keys in the sort key: a clear then reads only them, but one partition bears the whole load.",
    accepts: "1 to 2048 bytes, with `CACHE_DYNAMODB_SORT_KEY`",
    default: "none: the partition key holds the key",
    secret: false,
};
pub(super) const SORT_KEY: Setting = Setting {
    name: "CACHE_DYNAMODB_SORT_KEY",
    meaning: "The table's sort key attribute, of type string, if it has one.",
    accepts: "1 to 255 bytes, with `CACHE_DYNAMODB_SORT_KEY_VALUE` or `CACHE_DYNAMODB_PARTITION_KEY_VALUE`",
    default: "none: the table has no sort key",
    secret: false,
};
pub(super) const SORT_KEY_VALUE: Setting = Setting {
    name: "CACHE_DYNAMODB_SORT_KEY_VALUE",
    meaning: "What the sort key of every entry holds, in a table that has one and whose partition key holds the key.",
    accepts: "1 to 1024 bytes, with `CACHE_DYNAMODB_SORT_KEY`",
    default: "none",
    secret: false,
};
pub(super) const VALUE_ATTRIBUTE: Setting = Setting {
    name: "CACHE_DYNAMODB_VALUE_ATTRIBUTE",
    meaning: "The attribute that holds the value.",
    accepts: "1 to 255 bytes",
    default: "`value`",
    secret: false,
};
pub(super) const TTL_ATTRIBUTE: Setting = Setting {
    name: "CACHE_DYNAMODB_TTL_ATTRIBUTE",
    meaning: "The attribute by which DynamoDB collects expired items.",
    accepts: "1 to 255 bytes",
    default: "`ttl`",
    secret: false,
};
pub(super) const CONNECT_TIMEOUT: Setting = Setting {
    name: "CACHE_DYNAMODB_CONNECT_TIMEOUT",
    meaning: "The longest a connection may take to come about, TCP and TLS together.",
    accepts: "a duration",
    default: "200ms",
    secret: false,
};
pub(super) const ATTEMPT_TIMEOUT: Setting = Setting {
    name: "CACHE_DYNAMODB_ATTEMPT_TIMEOUT",
    meaning: "The longest one attempt at a single-key operation may take.",
    accepts: "a duration, at most `CACHE_DYNAMODB_TIMEOUT`",
    default: "250ms, or `CACHE_DYNAMODB_TIMEOUT` where that is less",
    secret: false,
};
pub(super) const TIMEOUT: Setting = Setting {
    name: "CACHE_DYNAMODB_TIMEOUT",
    meaning: "The longest a single-key operation may take in all.",
    accepts: "a duration",
    default: "500ms",
    secret: false,
};
pub(super) const BULK_TIMEOUT: Setting = Setting {
    name: "CACHE_DYNAMODB_BULK_TIMEOUT",
    meaning: "The longest a batch may take in all.",
    accepts: "a duration",
    default: "2s",
    secret: false,
};
pub(super) const CLEAR_TIMEOUT: Setting = Setting {
    name: "CACHE_DYNAMODB_CLEAR_TIMEOUT",
    meaning: "The longest a clear may take before it reports what it managed.",
    accepts: "a duration",
    default: "60s",
    secret: false,
};
pub(super) const MAX_VALUE_BYTES: Setting = Setting {
    name: "CACHE_DYNAMODB_MAX_VALUE_BYTES",
    meaning: "The longest encoded value, checked before any I/O.",
    accepts: "a size such as `65536`, `256KiB`",
    default: "what an item takes beside the longest key, about 398KiB",
    secret: false,
};
pub(super) const ROOTS_FILE: Setting = Setting {
    name: "CACHE_DYNAMODB_ROOTS_FILE",
    meaning: "The certificate authorities that may vouch for the endpoint, and no others.",
    accepts: "the path of a PEM file",
    default: "those of Amazon Trust Services",
    secret: false,
};

/// The variables of AWS itself that name the region, the first one first. They are not ours to
/// document.
pub(super) const AWS_REGIONS: [Setting; 2] = [
    Setting {
        name: "AWS_REGION",
        meaning: "The region.",
        accepts: "a region",
        default: "none",
        secret: false,
    },
    Setting {
        name: "AWS_DEFAULT_REGION",
        meaning: "The region, unless `AWS_REGION` is set.",
        accepts: "a region",
        default: "none",
        secret: false,
    },
];
