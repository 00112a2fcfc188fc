//! The environment variables, each with its description.

use cache_core::settings::Setting;

pub(super) const URL: Setting = Setting {
    name: "CACHE_REDIS_URL",
    meaning: "Where the server is, in one URL; `rediss://` is encrypted. Excludes the host, port, user, password and database variables. Several `host:port` with commas in between are entries to one cluster.",
    accepts: "`redis[s]://[user:password@]host[:port][/database]`",
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
    meaning: "ACL user. Needs a password, from whichever source.",
    accepts: "text",
    default: "the user in the secret, or else the server's default user",
    secret: false,
};
pub(super) const PASSWORD: Setting = Setting {
    name: "CACHE_REDIS_PASSWORD",
    meaning: "Password of the user. Never shown.",
    accepts: "text",
    default: "none",
    secret: true,
};
pub(super) const TOPOLOGY: Setting = Setting {
    name: "CACHE_REDIS_TOPOLOGY",
    meaning: "Whether the address is one server or the entry to a cluster. A cluster needs the feature `redis-cluster`.",
    accepts: "`standalone` or `cluster`",
    default: "`standalone`; `cluster` where the URL names several servers",
    secret: false,
};
pub(super) const PASSWORD_FILE: Setting = Setting {
    name: "CACHE_REDIS_PASSWORD_FILE",
    meaning: "File that holds the password, read anew for each connection. Excludes other sources of the password.",
    accepts: "a path",
    default: "none",
    secret: false,
};
pub(super) const PASSWORD_SECRET: Setting = Setting {
    name: "CACHE_REDIS_PASSWORD_SECRET",
    meaning: "Secret of AWS Secrets Manager that holds the password: as plain text, or as JSON with `password` and perhaps `username`. Fetched by the first connection, and again when the server refuses it. Excludes other sources of the password; needs the feature `secrets-manager`.",
    accepts: "a secret's name or ARN",
    default: "none",
    secret: false,
};
pub(super) const SECRETS_ENDPOINT: Setting = Setting {
    name: "CACHE_REDIS_PASSWORD_SECRET_ENDPOINT",
    meaning: "Where Secrets Manager is, for private endpoints and tests.",
    accepts: "a URL beginning with `https://` or `http://`",
    default: "that of the region in `AWS_REGION` or `AWS_DEFAULT_REGION`",
    secret: false,
};
pub(super) const TLS: Setting = Setting {
    name: "CACHE_REDIS_TLS",
    meaning: "Whether connections are encrypted, where `CACHE_REDIS_HOST` names the server. Needs the feature `redis-tls`.",
    accepts: "`true` or `false`",
    default: "what the URL's scheme says; `false` without a URL",
    secret: false,
};
pub(super) const TLS_ROOTS: Setting = Setting {
    name: "CACHE_REDIS_TLS_ROOTS",
    meaning: "Which authorities are trusted: Mozilla's as of the build, or those of the operating system.",
    accepts: "`embedded` or `system`",
    default: "`embedded`",
    secret: false,
};
pub(super) const TLS_ROOTS_FILE: Setting = Setting {
    name: "CACHE_REDIS_TLS_ROOTS_FILE",
    meaning: "PEM file of the authorities that are trusted, and no others.",
    accepts: "a path",
    default: "none",
    secret: false,
};
pub(super) const TLS_CERTIFICATE_FILE: Setting = Setting {
    name: "CACHE_REDIS_TLS_CERTIFICATE_FILE",
    meaning: "PEM file of the client certificate and its chain. Needs the key.",
    accepts: "a path",
    default: "none",
    secret: false,
};
pub(super) const TLS_KEY_FILE: Setting = Setting {
    name: "CACHE_REDIS_TLS_KEY_FILE",
    meaning: "PEM file of the client certificate's private key.",
    accepts: "a path",
    default: "none",
    secret: false,
};
pub(super) const TLS_SERVER_NAME: Setting = Setting {
    name: "CACHE_REDIS_TLS_SERVER_NAME",
    meaning: "Host name that the server's certificate has to be for.",
    accepts: "a host name or an IP address",
    default: "the host that is connected to",
    secret: false,
};
pub(super) const DATABASE: Setting = Setting {
    name: "CACHE_REDIS_DATABASE",
    meaning: "Number of the logical database. A cluster has only 0.",
    accepts: "0 to 65535",
    default: "0",
    secret: false,
};
pub(super) const CONNECTIONS: Setting = Setting {
    name: "CACHE_REDIS_CONNECTIONS",
    meaning: "How many multiplexed connections calls share, to each server. More than one helps only with values of tens of KB.",
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
