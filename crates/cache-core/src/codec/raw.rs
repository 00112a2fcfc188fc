//! Bytes and strings as they are: a serde format of one value without any framing.

use std::fmt;

use serde::de::value::SeqDeserializer;
use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde::ser::{Impossible, Serialize, SerializeSeq, SerializeTuple, Serializer};

const NOT_RAW: &str = "the raw codec takes bytes and strings only";

pub(super) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, String> {
    value.serialize(Raw).map_err(|error| error.0)
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    T::deserialize(RawBytes(bytes)).map_err(|error| error.0)
}

/// An error in words. Texts of other crates may quote the value and are not kept.
#[derive(Debug)]
struct Error(String);

impl Error {
    fn not_raw() -> Self {
        Self(NOT_RAW.to_owned())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl serde::ser::Error for Error {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self("the value refuses to be written".to_owned())
    }
}

impl serde::de::Error for Error {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self("the bytes do not fit the type".to_owned())
    }
}

struct Raw;

/// Sequences and tuples of bytes, gathered one by one.
struct Bytes(Vec<u8>);

impl Bytes {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.0.push(value.serialize(Byte)?);
        Ok(())
    }
}

impl SerializeSeq for Bytes {
    type Ok = Vec<u8>;
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.push(value)
    }

    fn end(self) -> Result<Vec<u8>, Error> {
        Ok(self.0)
    }
}

impl SerializeTuple for Bytes {
    type Ok = Vec<u8>;
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.push(value)
    }

    fn end(self) -> Result<Vec<u8>, Error> {
        Ok(self.0)
    }
}

macro_rules! refuse {
    ($($method:ident: $type:ty),* $(,)?) => {$(
        fn $method(self, _: $type) -> Result<Self::Ok, Error> {
            Err(Error::not_raw())
        }
    )*};
}

/// The serde methods that neither a byte nor a string ever calls, refused.
macro_rules! refuse_structures {
    () => {
        type SerializeTupleStruct = Impossible<Self::Ok, Error>;
        type SerializeTupleVariant = Impossible<Self::Ok, Error>;
        type SerializeMap = Impossible<Self::Ok, Error>;
        type SerializeStruct = Impossible<Self::Ok, Error>;
        type SerializeStructVariant = Impossible<Self::Ok, Error>;

        refuse! {
            serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32,
            serialize_i64: i64, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
            serialize_f32: f32, serialize_f64: f64, serialize_char: char,
            serialize_unit_struct: &'static str,
        }

        fn serialize_none(self) -> Result<Self::Ok, Error> {
            Err(Error::not_raw())
        }

        fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<Self::Ok, Error> {
            Err(Error::not_raw())
        }

        fn serialize_unit(self) -> Result<Self::Ok, Error> {
            Err(Error::not_raw())
        }

        fn serialize_unit_variant(
            self,
            _: &'static str,
            _: u32,
            _: &'static str,
        ) -> Result<Self::Ok, Error> {
            Err(Error::not_raw())
        }

        fn serialize_newtype_variant<T: Serialize + ?Sized>(
            self,
            _: &'static str,
            _: u32,
            _: &'static str,
            _: &T,
        ) -> Result<Self::Ok, Error> {
            Err(Error::not_raw())
        }

        fn serialize_tuple_struct(
            self,
            _: &'static str,
            _: usize,
        ) -> Result<Self::SerializeTupleStruct, Error> {
            Err(Error::not_raw())
        }

        fn serialize_tuple_variant(
            self,
            _: &'static str,
            _: u32,
            _: &'static str,
            _: usize,
        ) -> Result<Self::SerializeTupleVariant, Error> {
            Err(Error::not_raw())
        }

        fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Error> {
            Err(Error::not_raw())
        }

        fn serialize_struct(
            self,
            _: &'static str,
            _: usize,
        ) -> Result<Self::SerializeStruct, Error> {
            Err(Error::not_raw())
        }

        fn serialize_struct_variant(
            self,
            _: &'static str,
            _: u32,
            _: &'static str,
            _: usize,
        ) -> Result<Self::SerializeStructVariant, Error> {
            Err(Error::not_raw())
        }
    };
}

impl Serializer for Raw {
    type Ok = Vec<u8>;
    type Error = Error;
    type SerializeSeq = Bytes;
    type SerializeTuple = Bytes;

    refuse_structures!();
    refuse! { serialize_u8: u8 }

    fn serialize_str(self, text: &str) -> Result<Vec<u8>, Error> {
        Ok(text.as_bytes().to_vec())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(bytes.to_vec())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Vec<u8>, Error> {
        value.serialize(self)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Bytes, Error> {
        Ok(Bytes(Vec::with_capacity(length.unwrap_or_default())))
    }

    fn serialize_tuple(self, length: usize) -> Result<Bytes, Error> {
        self.serialize_seq(Some(length))
    }
}

/// One byte of a sequence.
struct Byte;

impl Serializer for Byte {
    type Ok = u8;
    type Error = Error;
    type SerializeSeq = Impossible<u8, Error>;
    type SerializeTuple = Impossible<u8, Error>;

    refuse_structures!();
    refuse! { serialize_str: &str, serialize_bytes: &[u8] }

    fn serialize_u8(self, byte: u8) -> Result<u8, Error> {
        Ok(byte)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<u8, Error> {
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Error> {
        Err(Error::not_raw())
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Error> {
        Err(Error::not_raw())
    }
}

struct RawBytes<'a>(&'a [u8]);

impl<'de> Deserializer<'de> for RawBytes<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::not_raw())
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let text =
            std::str::from_utf8(self.0).map_err(|_| Error("the bytes are not UTF-8".to_owned()))?;
        visitor.visit_str(text)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bytes(self.0)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_byte_buf(self.0.to_vec())
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let mut bytes = SeqDeserializer::new(self.0.iter().copied());
        let value = visitor.visit_seq(&mut bytes)?;
        bytes.end()?;
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char option unit unit_struct
        tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_strings_are_stored_as_they_are() {
        assert_eq!(encode("text").unwrap(), b"text");
        assert_eq!(encode(&vec![0u8, 255]).unwrap(), [0, 255]);
        assert_eq!(encode(&[1u8, 2]).unwrap(), [1, 2]);
        assert_eq!(encode("").unwrap(), b"");
        assert_eq!(decode::<String>(b"text").unwrap(), "text");
        assert_eq!(decode::<Vec<u8>>(&[0, 255]).unwrap(), [0, 255]);
        assert_eq!(decode::<[u8; 2]>(&[1, 2]).unwrap(), [1, 2]);
        assert_eq!(decode::<Vec<u8>>(b"").unwrap(), b"");
    }

    #[test]
    fn everything_else_is_refused() {
        assert_eq!(encode(&7u8).unwrap_err(), NOT_RAW);
        assert_eq!(encode(&vec!["a"]).unwrap_err(), NOT_RAW);
        assert_eq!(encode(&Some("a")).unwrap_err(), NOT_RAW);
        assert_eq!(encode(&()).unwrap_err(), NOT_RAW);
        assert_eq!(
            encode(&std::collections::BTreeMap::from([("a", 1)])).unwrap_err(),
            NOT_RAW
        );
        assert_eq!(decode::<u64>(b"7").unwrap_err(), NOT_RAW);
        assert!(decode::<String>(&[0xFF]).is_err());
        assert!(decode::<[u8; 2]>(&[1, 2, 3]).is_err());
    }
}
