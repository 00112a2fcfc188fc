//! What the cache crates that call AWS share: HTTPS, region and credentials.
//!
//! Applications do not use this crate directly; the backend crates re-export the types that appear
//! in their options. [`AwsClient`] hands out the configuration that the SDK of any service takes:
//! rustls with ring, the roots that AWS uses and no others, connections that are dropped after 15
//! idle seconds, and credentials that are loaded at the first call and bounded by its deadline.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `aws-config` | | [`CredentialsSource`] may be the SDK's default chain, and is by default |

mod client;
mod credentials;
mod options;
mod roots;
mod trouble;

pub use client::AwsClient;
pub use credentials::{AwsCredentials, CredentialsSource};
pub use options::AwsOptions;
pub use roots::Roots;
pub use trouble::Trouble;
