//! A cursor that cannot over-read and its writing twin, for everything in FORMAT.md.
//!
//! Length-prefixed fields carry their length once; reading past the end is an error that names the field.

/// Bytes that are not what FORMAT.md draws.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is malformed: {field}")]
pub struct DecodeError {
    /// What was decoded: "object record".
    pub what: &'static str,
    /// The field at fault.
    pub field: &'static str,
}

/// CRC-32C (Castagnoli) of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// CRC-32C of several slices, as if they stood one behind the other.
pub fn crc32c_of(parts: &[&[u8]]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    parts.iter().for_each(|part| digest.update(part));
    digest.finalize() as u32
}

/// Reads fields from the front of a slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of `bytes`; `what` is for its errors.
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    /// An error of this decoding.
    pub fn error(&self, field: &'static str) -> DecodeError {
        DecodeError {
            what: self.what,
            field,
        }
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(n)
            .ok_or_else(|| self.error(field))?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, field)?);
        Ok(array)
    }

    /// One byte.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        Ok(self.array::<1>(field)?[0])
    }

    /// A little-endian `u16`.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_le_bytes)
    }

    /// A little-endian `u32`.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_le_bytes)
    }

    /// A little-endian `u64`.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// A little-endian `u128`.
    pub fn u128(&mut self, field: &'static str) -> Result<u128, DecodeError> {
        self.array(field).map(u128::from_le_bytes)
    }

    /// Bytes behind a `u16` length.
    pub fn bytes16(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let n = self.u16(field)?;
        self.take(n.into(), field)
    }

    /// UTF-8 behind a `u16` length.
    pub fn text16(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        let bytes = self.bytes16(field)?;
        std::str::from_utf8(bytes).map_err(|_| self.error(field))
    }

    /// UTF-8 behind a `u16` length plus one; zero is absent.
    pub fn optional_text16(&mut self, field: &'static str) -> Result<Option<String>, DecodeError> {
        match self.u16(field)? {
            0 => Ok(None),
            n => {
                let bytes = self.take(usize::from(n) - 1, field)?;
                let text = std::str::from_utf8(bytes).map_err(|_| self.error(field))?;
                Ok(Some(text.to_owned()))
            }
        }
    }

    /// A `u16` count of texts.
    pub fn texts16(&mut self, field: &'static str) -> Result<Vec<String>, DecodeError> {
        (0..self.u16(field)?)
            .map(|_| self.text16(field).map(str::to_owned))
            .collect()
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Refuses trailing bytes.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.error("trailing bytes"))
        }
    }
}

/// Appends fields to a vector.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty writer with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(capacity),
        }
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Raw bytes.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.raw(&[value])
    }

    /// A little-endian `u16`.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// A little-endian `u32`.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// A little-endian `u64`.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// A little-endian `u128`.
    pub fn u128(&mut self, value: u128) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Bytes behind a `u16` length. Longer ones are refused where they come in (see `types`).
    pub fn bytes16(&mut self, bytes: &[u8]) -> &mut Self {
        let n = u16::try_from(bytes.len()).expect("fields are limited where they come in");
        self.u16(n).raw(bytes)
    }

    /// Optional text behind a `u16` length plus one; zero is absent.
    pub fn optional_text16(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            None => self.u16(0),
            Some(text) => {
                let n =
                    u16::try_from(text.len() + 1).expect("fields are limited where they come in");
                self.u16(n).raw(text.as_bytes())
            }
        }
    }

    /// A `u16` count of texts.
    pub fn texts16(&mut self, texts: &[String]) -> &mut Self {
        self.u16(u16::try_from(texts.len()).expect("lists are limited where they come in"));
        texts
            .iter()
            .fold(self, |w, text| w.bytes16(text.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_gives_back_what_a_writer_took_and_refuses_every_truncation() {
        let mut w = Writer::default();
        w.u8(1)
            .u16(2)
            .u32(3)
            .u64(4)
            .u128(5)
            .bytes16(b"six")
            .optional_text16(Some(""))
            .texts16(&["a".into()]);
        let bytes = w.into_bytes();
        let read = |bytes: &[u8]| -> Result<(), DecodeError> {
            let mut r = Reader::new("sample", bytes);
            assert_eq!(r.u8("a")?, 1);
            assert_eq!(r.u16("b")?, 2);
            assert_eq!(r.u32("c")?, 3);
            assert_eq!(r.u64("d")?, 4);
            assert_eq!(r.u128("e")?, 5);
            assert_eq!(r.bytes16("f")?, b"six");
            assert_eq!(r.optional_text16("g")?, Some(String::new()));
            assert_eq!(r.texts16("h")?, ["a"]);
            r.finish()
        };
        read(&bytes).unwrap();
        for n in 0..bytes.len() {
            assert!(read(&bytes[..n]).is_err(), "{n}");
        }
        assert_eq!(
            Reader::new("sample", &[0]).finish().unwrap_err().field,
            "trailing bytes"
        );
    }

    #[test]
    fn crc32c_has_the_published_check_value() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c_of(&[b"1234", b"56789"]), 0xe306_9283);
    }
}
