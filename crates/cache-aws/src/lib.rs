//! What the crates that call AWS share: HTTPS, region and credentials.
