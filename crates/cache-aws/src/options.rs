//! Where AWS is called and as whom.

use std::time::Duration;

use cache_core::{ConfigurationError, millis};

use crate::credentials::CredentialsSource;
use crate::roots::Roots;

/// Where AWS is called, as whom, and whom its servers are vouched for by.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AwsOptions {
    /// The region, such as `eu-west-1`. Defaults to none, which is refused when a client is made;
    /// see [`with_region_from_env`](Self::with_region_from_env).
    pub region: Option<String>,
    /// A URL to call instead of the region's own endpoint. Defaults to none.
    pub endpoint: Option<String>,
    /// Who may vouch for the server. Defaults to Amazon's own authorities.
    pub roots: Roots,
    /// Where credentials come from. Defaults to the environment, or to the SDK's whole default
    /// chain with the feature `aws-config`.
    pub credentials: CredentialsSource,
    /// The longest a TCP connection may take to come about. Defaults to 200 ms.
    pub connect_timeout: Duration,
}

/// The variables that name the region, the first one first.
const REGION_VARIABLES: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];

impl AwsOptions {
    /// No region yet, and the defaults for everything else.
    #[must_use]
    pub fn new() -> Self {
        Self {
            region: None,
            endpoint: None,
            roots: Roots::default(),
            credentials: CredentialsSource::default(),
            connect_timeout: millis(200),
        }
    }

    /// Fills in a region that is not set from `AWS_REGION` or `AWS_DEFAULT_REGION`.
    #[must_use]
    pub fn with_region_from_env(mut self) -> Self {
        let set = |name: &&str| std::env::var(name).ok().filter(|value| !value.is_empty());
        self.region = self
            .region
            .or_else(|| REGION_VARIABLES.iter().find_map(set));
        self
    }

    /// Everything that no endpoint could be found with. A pure function.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigurationError> {
        let mut problems = Vec::new();
        let mut refuse = |option: &str, complaint: &str, value: Option<&str>| {
            let problem = match value {
                Some(value) => format!("{option} {value:?} {complaint}"),
                None => format!("{option} {complaint}"),
            };
            problems.push(ConfigurationError::new(option, problem));
        };
        match &self.region {
            None => refuse(
                "the AWS region",
                "is not set; set AWS_REGION, such as eu-west-1",
                None,
            ),
            Some(region) if !is_region(region) => refuse(
                "the AWS region",
                "is not a region; use letters, digits and -, such as eu-west-1",
                Some(region),
            ),
            Some(_) => {}
        }
        if let Some(endpoint) = &self.endpoint
            && !is_endpoint(endpoint)
        {
            // Not quoted: whoever writes a URL of another form may have put a password into it.
            refuse(
                "the AWS endpoint",
                "is not a URL of the form http[s]://host[:port]",
                None,
            );
        }
        problems
    }
}

impl Default for AwsOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Regions become part of host names, so nothing else may get into one.
fn is_region(text: &str) -> bool {
    let fits = (1..=63).contains(&text.len());
    fits && text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Scheme, host, and perhaps a port and a final slash.
fn is_endpoint(url: &str) -> bool {
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    let Some(rest) = rest else {
        return false;
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, port)) if host.parse::<std::net::Ipv6Addr>().is_ok() => (host, port),
            _ => return false,
        },
        None => match authority.find(':') {
            Some(colon) => authority.split_at(colon),
            None => (authority, ""),
        },
    };
    let is_host = !host.is_empty()
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':'));
    let is_port = port.is_empty()
        || port.strip_prefix(':').is_some_and(|digits| {
            let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
            is_number && digits.parse::<u16>().is_ok_and(|port| port > 0)
        });
    is_host && is_port
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_wrong_is_said_at_once() {
        let options = AwsOptions {
            endpoint: Some("http://user:hunter2@host".to_owned()),
            ..AwsOptions::new()
        };
        let problems: Vec<_> = options.problems().iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [
                "the AWS region is not set; set AWS_REGION, such as eu-west-1",
                "the AWS endpoint is not a URL of the form http[s]://host[:port]",
            ]
        );
    }

    #[test]
    fn endpoints_are_scheme_host_and_port() {
        for endpoint in [
            "http://localhost",
            "http://127.0.0.1:8000",
            "https://dynamodb.eu-west-1.amazonaws.com/",
            "http://[::1]:8000",
        ] {
            assert!(is_endpoint(endpoint), "{endpoint}");
        }
        for endpoint in [
            "",
            "localhost:8000",
            "ftp://host",
            "http://",
            "http://:8000",
            "http://a b",
            "http://host/path",
            "http://host?query",
            "http://user@host",
            "http://host:0",
            "http://host:99999",
            "http://host:",
            "http://host:+1",
            "http://[::g]",
            "http://[::1]x",
        ] {
            assert!(!is_endpoint(endpoint), "{endpoint}");
        }
    }

    #[test]
    fn regions_cannot_lead_elsewhere() {
        for region in ["", "eu west", "eu.evil.example", "eu/..", "a@b"] {
            assert!(!is_region(region), "{region}");
        }
        assert!(is_region("eu-west-1") && is_region("cn-northwest-1"));
    }
}
