//! The environment variables, each with its description.

use cache_core::settings::Setting;

pub(super) const URL: Setting = Setting {
    name: "CACHE_REDIS_URL",
    meaning: "Where the server is, in one URL. Excludes the host, port, user, password and database variables.",
    accepts: "`redis://[user:password@]host[:port][/database]`",
    default: "none; this or `CACHE_REDIS_HOST` is required",
    secret: true,
};
pub(super) const HOST: Setting = Setting {
    name: "CACHE_REDIS_HOST",
    meaning: "Host name or address of the server.",
    accepts: "a host name or an IP address",
    default: "none; this or `CACHE_REDIS_URL` is required",
    secret: false,
};
pub(super) const PORT: Setting = Setting {
    name: "CACHE_REDIS_PORT",
    meaning: "TCP port of the server.",
    accepts: "1 to 65535",
    default: "6379",
    secret: false,
};
pub(super) const USERNAME: Setting = Setting {
    name: "CACHE_REDIS_USERNAME",
    meaning: "ACL user. Needs a password.",
    accepts: "text",
    default: "the server's default user",
    secret: false,
};
pub(super) const PASSWORD: Setting = Setting {
    name: "CACHE_REDIS_PASSWORD",
    meaning: "Password of the user. Never shown.",
    accepts: "text",
    default: "none",
    secret: true,
};
pub(super) const DATABASE: Setting = Setting {
    name: "CACHE_REDIS_DATABASE",
    meaning: "Number of the logical database.",
    accepts: "0 to 65535",
    default: "0",
    secret: false,
};
pub(super) const CONNECTIONS: Setting = Setting {
    name: "CACHE_REDIS_CONNECTIONS",
    meaning: "How many multiplexed connections calls share. More than one helps only with values of tens of KB.",
    accepts: "1 to 64",
    default: "1",
    secret: false,
};
pub(super) const CONNECT_TIMEOUT: Setting = Setting {
    name: "CACHE_REDIS_CONNECT_TIMEOUT",
    meaning: "The longest a new connection may take, up to its first answer.",
    accepts: "a duration",
    default: "300ms",
    secret: false,
};
pub(super) const ATTEMPT_TIMEOUT: Setting = Setting {
    name: "CACHE_REDIS_ATTEMPT_TIMEOUT",
    meaning: "The longest one attempt at a single-key operation may take.",
    accepts: "a duration, at most `CACHE_REDIS_TIMEOUT`",
    default: "100ms, or `CACHE_REDIS_TIMEOUT` where that is less",
    secret: false,
};
pub(super) const TIMEOUT: Setting = Setting {
    name: "CACHE_REDIS_TIMEOUT",
    meaning: "The longest a single-key operation may take in all.",
    accepts: "a duration",
    default: "500ms",
    secret: false,
};
pub(super) const BULK_TIMEOUT: Setting = Setting {
    name: "CACHE_REDIS_BULK_TIMEOUT",
    meaning: "The longest a batch may take in all.",
    accepts: "a duration",
    default: "2s",
    secret: false,
};
pub(super) const CLEAR_TIMEOUT: Setting = Setting {
    name: "CACHE_REDIS_CLEAR_TIMEOUT",
    meaning: "The longest a clear may take before it reports what it managed.",
    accepts: "a duration",
    default: "60s",
    secret: false,
};
pub(super) const MAX_VALUE_BYTES: Setting = Setting {
    name: "CACHE_REDIS_MAX_VALUE_BYTES",
    meaning: "The longest encoded value, checked before any I/O.",
    accepts: "a size such as `65536`, `512KiB`, at most `512MiB`",
    default: "1MiB",
    secret: false,
};
