//! The form of values in version 2: each field of a struct has a tag and a length, so that later versions may add some.
//!
//! ```text
//!  0        2                6
//!  +--------+----------------+-------+--------+--------
//!  | tag    | length         | value | tag    | ...
//!  +--------+----------------+-------+--------+--------
//! ```
//!
//! Tags ascend. What is not there has its default: nothing, zero, false. Who does not know a tag passes over it, unless its
//! highest bit is set: then to pass over it would be to do something else than what was asked.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    cursor::Cursor,
    error::{DecodeError, EncodeError, Problem},
    message::{Empty, Time},
};

/// Set in a tag that must be understood.
const MUST: u16 = 0x8000;
/// Set in the tags of what every request and answer has beside its own fields.
const ENVELOPE: u16 = 0x4000;
/// Bytes of an entry of a list before its value.
const LENGTH_BYTES: usize = 4;
/// Most entries of a list.
pub const LIST_ENTRIES_MAX: usize = 10_000;

/// A value with a form in version 2.
pub trait Tagged: Sized + Default {
    /// Whether its fields are those of an envelope, beside which those of an operation stand.
    const IS_ENVELOPE: bool = false;

    /// Whether it may be left out.
    fn is_default(&self) -> bool;

    /// Puts its bytes behind what is in `to`.
    fn write(&self, to: &mut Vec<u8>);

    /// Takes it from all of `bytes`; an error names `field`.
    ///
    /// # Errors
    /// The bytes have not its form.
    fn read(bytes: &[u8], field: &'static str) -> Result<Self, DecodeError>;

    /// All the metadata of a frame.
    ///
    /// # Errors
    /// They are more than a frame has.
    fn to_metadata(&self) -> Result<Vec<u8>, EncodeError> {
        let mut bytes = Vec::with_capacity(128);
        self.write(&mut bytes);
        fits(bytes)
    }

    /// Reads all the metadata of a frame.
    ///
    /// # Errors
    /// A field has not its form, or one that must be understood is unknown.
    fn from_metadata(metadata: &[u8]) -> Result<Self, DecodeError> {
        Self::read(metadata, "metadata")
    }
}

/// Metadata that are not too many.
pub(crate) fn fits(bytes: Vec<u8>) -> Result<Vec<u8>, EncodeError> {
    match bytes.len() > crate::METADATA_BYTES_MAX as usize {
        true => Err(EncodeError { field: "metadata" }),
        false => Ok(bytes),
    }
}

/// A tag without the bit that says what to do with it when it is unknown.
pub(crate) const fn plain(tag: u16) -> u16 {
    tag & !MUST
}

/// Whether these tags are those of an envelope.
pub(crate) const fn is_envelope(tags: &[u16]) -> bool {
    matches!(tags, [first, ..] if *first & ENVELOPE != 0)
}

/// Puts a field behind what is in `to`, unless it has its default.
pub(crate) fn write_field(to: &mut Vec<u8>, tag: u16, value: &impl Tagged) {
    if !value.is_default() {
        to.extend_from_slice(&tag.to_be_bytes());
        write_with_length(to, value);
    }
}

fn write_with_length(to: &mut Vec<u8>, value: &impl Tagged) {
    let at = to.len();
    to.extend_from_slice(&[0; LENGTH_BYTES]);
    value.write(to);
    let length = to.len() - at - LENGTH_BYTES;
    // No value is that long: it would not fit into a frame, which is looked at when all is written.
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    to[at..at + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
}

fn read_with_length<'a>(
    from: &mut Cursor<'a>,
    field: &'static str,
) -> Result<&'a [u8], DecodeError> {
    let length = from.u32(field)?;
    // Where a usize is shorter there are not so many bytes either.
    from.bytes(usize::try_from(length).unwrap_or(usize::MAX), field)
}

/// The fields of a struct, one after the other.
pub(crate) struct Fields<'a> {
    from: Cursor<'a>,
    last: Option<u16>,
}

/// One of them.
pub(crate) struct Field<'a> {
    /// Its tag, plain.
    pub(crate) tag: u16,
    pub(crate) value: &'a [u8],
    must: bool,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            from: Cursor::new(bytes),
            last: None,
        }
    }

    /// The next one; its tag is above that of the last.
    pub(crate) fn next(&mut self) -> Result<Option<Field<'a>>, DecodeError> {
        if self.from.left() == 0 {
            return Ok(None);
        }
        let tag = self.from.u16("tag")?;
        let value = read_with_length(&mut self.from, "length")?;
        let (tag, must) = (plain(tag), tag & MUST != 0);
        if self.last.is_some_and(|last| last >= tag) {
            return Err(invalid("tag"));
        }
        self.last = Some(tag);
        Ok(Some(Field { tag, value, must }))
    }
}

impl Field<'_> {
    /// Passes over it, if that may be; what belongs beside is for another decoder.
    pub(crate) fn skip(&self, of: &'static str, is_envelope: bool) -> Result<(), DecodeError> {
        let is_ours = (self.tag & ENVELOPE != 0) == is_envelope;
        match self.must && is_ours {
            true => Err(DecodeError {
                field: of,
                problem: Problem::Unknown,
            }),
            false => Ok(()),
        }
    }
}

fn invalid(field: &'static str) -> DecodeError {
    DecodeError {
        field,
        problem: Problem::Invalid,
    }
}

/// All of the bytes as an array.
fn exactly<const N: usize>(bytes: &[u8], field: &'static str) -> Result<[u8; N], DecodeError> {
    let problem = match bytes.len() {
        length if length < N => Problem::Short,
        _ => Problem::TooLong,
    };
    bytes.try_into().map_err(|_| DecodeError { field, problem })
}

/// No bytes.
impl Tagged for Empty {
    fn is_default(&self) -> bool {
        true
    }

    fn write(&self, _: &mut Vec<u8>) {}

    fn read(bytes: &[u8], _: &'static str) -> Result<Self, DecodeError> {
        let mut fields = Fields::new(bytes);
        while let Some(field) = fields.next()? {
            field.skip("Empty", false)?;
        }
        Ok(Self)
    }
}

/// UTF-8.
impl Tagged for String {
    fn is_default(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self.as_bytes());
    }

    fn read(bytes: &[u8], field: &'static str) -> Result<Self, DecodeError> {
        let text = std::str::from_utf8(bytes).map_err(|_| DecodeError {
            field,
            problem: Problem::NotUtf8,
        })?;
        Ok(text.to_owned())
    }
}

/// They themselves.
impl Tagged for Bytes {
    fn is_default(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self);
    }

    fn read(bytes: &[u8], _: &'static str) -> Result<Self, DecodeError> {
        Ok(Bytes::copy_from_slice(bytes))
    }
}

macro_rules! arrays {
    ($($length:literal)+) => {$(
        /// They themselves.
        impl Tagged for [u8; $length] {
            fn is_default(&self) -> bool {
                *self == [0; $length]
            }

            fn write(&self, to: &mut Vec<u8>) {
                to.extend_from_slice(self);
            }

            fn read(bytes: &[u8], field: &'static str) -> Result<Self, DecodeError> {
                exactly(bytes, field)
            }
        }
    )+};
}
arrays! { 16 32 }

macro_rules! numbers {
    ($($type:ident $doc:literal)+) => {$(
        #[doc = $doc]
        impl Tagged for $type {
            fn is_default(&self) -> bool {
                *self == 0
            }

            fn write(&self, to: &mut Vec<u8>) {
                to.extend_from_slice(&self.to_be_bytes());
            }

            fn read(bytes: &[u8], field: &'static str) -> Result<Self, DecodeError> {
                Ok(Self::from_be_bytes(exactly(bytes, field)?))
            }
        }
    )+};
}
numbers! { u32 "Four bytes." u64 "Eight bytes." i32 "Four bytes, two's complement." }

/// One byte, 0 or 1.
impl Tagged for bool {
    fn is_default(&self) -> bool {
        !*self
    }

    fn write(&self, to: &mut Vec<u8>) {
        to.push((*self).into());
    }

    fn read(bytes: &[u8], field: &'static str) -> Result<Self, DecodeError> {
        match exactly(bytes, field)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(invalid(field)),
        }
    }
}

/// Eight bytes: milliseconds since 1970-01-01T00:00:00Z.
impl Tagged for Time {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    fn write(&self, to: &mut Vec<u8>) {
        self.0.write(to);
    }

    fn read(bytes: &[u8], field: &'static str) -> Result<Self, DecodeError> {
        u64::read(bytes, field).map(Self)
    }
}

/// What may be left out though it is not there only when it is left out.
impl<T: Tagged> Tagged for Option<T> {
    fn is_default(&self) -> bool {
        self.is_none()
    }

    fn write(&self, to: &mut Vec<u8>) {
        if let Some(value) = self {
            value.write(to);
        }
    }

    fn read(bytes: &[u8], field: &'static str) -> Result<Self, DecodeError> {
        T::read(bytes, field).map(Some)
    }
}

/// Four bytes of length and its value for each entry.
impl<T: Tagged> Tagged for Vec<T> {
    fn is_default(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, to: &mut Vec<u8>) {
        for entry in self {
            write_with_length(to, entry);
        }
    }

    fn read(bytes: &[u8], field: &'static str) -> Result<Self, DecodeError> {
        let mut from = Cursor::new(bytes);
        let mut entries = Self::new();
        while from.left() > 0 {
            if entries.len() == LIST_ENTRIES_MAX {
                return Err(DecodeError {
                    field,
                    problem: Problem::TooLong,
                });
            }
            entries.push(T::read(read_with_length(&mut from, field)?, field)?);
        }
        Ok(entries)
    }
}

/// A list of names and values by turns, names ascending.
impl Tagged for BTreeMap<String, String> {
    fn is_default(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, to: &mut Vec<u8>) {
        for (name, value) in self {
            write_with_length(to, name);
            write_with_length(to, value);
        }
    }

    fn read(bytes: &[u8], field: &'static str) -> Result<Self, DecodeError> {
        let mut from = Cursor::new(bytes);
        let mut entries = Self::new();
        while from.left() > 0 {
            let name = String::read(read_with_length(&mut from, field)?, field)?;
            let value = String::read(read_with_length(&mut from, field)?, field)?;
            if entries
                .last_key_value()
                .is_some_and(|(last, _)| *last >= name)
            {
                return Err(invalid(field));
            }
            entries.insert(name, value);
        }
        Ok(entries)
    }
}
