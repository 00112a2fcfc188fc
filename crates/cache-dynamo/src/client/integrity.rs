//! Whether an answer came as the server sent it, which the SDK does not look at.

use aws_sdk_dynamodb::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;

/// The header in which the server announces the checksum of the body.
const CHECKSUM: &str = "x-amz-crc32";

/// Takes an answer for none if its body is missing, which the SDK reads as an item that is not
/// there, or does not have the checksum that the server announced.
#[derive(Debug)]
pub(super) struct Integrity;

impl Intercept for Integrity {
    fn name(&self) -> &'static str {
        "CacheIntegrity"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        let Some(body) = response.body().bytes() else {
            return Ok(());
        };
        if response.status().is_success() && body.is_empty() {
            return Err("the body is missing".into());
        }
        let announced = response.headers().get(CHECKSUM);
        match announced.and_then(|checksum| checksum.parse::<u32>().ok()) {
            Some(checksum) if crc32(body) != checksum => {
                Err("the body does not have its checksum".into())
            }
            _ => Ok(()),
        }
    }
}

/// The CRC-32 of Ethernet and gzip, a byte at a time: some hundred megabytes a second.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8);
    !bytes.iter().fold(!0, step)
}

const TABLE: [u32; 256] = {
    const POLYNOMIAL: u32 = 0xEDB8_8320;
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (POLYNOMIAL * (crc & 1));
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc32(b""), 0);
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b"{}"), 2_745_614_147);
    }
}
