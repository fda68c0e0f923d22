//! What stands in the metadata of a frame, and its form in version 1: values one after the other, in the order in which
//! the structs name them. That of version 2 is in [`crate::tagged`].

use std::collections::BTreeMap;

use crate::{
    cursor::Cursor,
    error::{DecodeError, EncodeError, Problem},
    tagged::Tagged,
};

/// A value with a form on the wire.
pub trait Message: Sized {
    /// Puts it behind what is in `to`; an error names `field`.
    fn encode(&self, to: &mut Vec<u8>, field: &'static str) -> Result<(), EncodeError>;

    /// Takes it from the front; an error names `field`.
    fn decode(from: &mut Cursor<'_>, field: &'static str) -> Result<Self, DecodeError>;

    /// All the metadata of a frame.
    ///
    /// # Errors
    /// A value is too long for its form, or all together for a frame.
    fn to_bytes(&self) -> Result<Vec<u8>, EncodeError> {
        let mut bytes = Vec::new();
        self.encode(&mut bytes, "metadata")?;
        match bytes.len() > crate::METADATA_BYTES_MAX as usize {
            true => Err(EncodeError { field: "metadata" }),
            false => Ok(bytes),
        }
    }

    /// Reads it from the front of the metadata of a frame; what stands behind is for later versions.
    fn parse(metadata: &[u8]) -> Result<Self, DecodeError> {
        Self::decode(&mut Cursor::new(metadata), "metadata")
    }

    /// The first field that says something and has no form in version 1: what would be lost there.
    ///
    /// ```
    /// use jay_wire::{Message, object::DeleteObject};
    /// let mut asked = DeleteObject { bucket: "photos".into(), key: "a".into(), ..DeleteObject::default() };
    /// assert_eq!(asked.beyond_v1(), None);
    /// asked.if_match = Some("etag".into());
    /// assert_eq!(asked.beyond_v1(), Some("if_match"));
    /// ```
    fn beyond_v1(&self) -> Option<&'static str> {
        None
    }
}

/// The metadata of the request of an operation.
pub trait Operation: Message + Tagged {
    /// What stands as the code of its header.
    const CODE: u8;
    /// The name, as S3 has it.
    const NAME: &'static str;
    /// The version of the protocol that has it first.
    const SINCE: u8;
    /// The metadata of its answer.
    type Answer: Message + Tagged;

    /// The bucket and the key that it is about, as far as it is about any.
    fn resource(&self) -> (Option<&str>, Option<&str>);
}

/// Declares structs with their form in both versions. In version 1 the fields stand one after the other; in version 2
/// each has its tag, and those behind `since 2` are there alone. A tag with its highest bit set must be understood.
macro_rules! fields {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident { $($(#[$note:meta])* $tag:literal $field:ident: $type:ty,)* }
        $(since 2 { $($(#[$note2:meta])* $tag2:literal $field2:ident: $type2:ty,)* })?
    )+) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$note])* pub $field: $type,)*
            $($($(#[$note2])* pub $field2: $type2,)*)?
        }

        impl $crate::Message for $name {
            #[allow(unused_variables)] // without fields
            fn encode(&self, to: &mut Vec<u8>, _: &'static str) -> Result<(), $crate::EncodeError> {
                $($crate::Message::encode(&self.$field, to, stringify!($field))?;)*
                Ok(())
            }

            #[allow(unused_variables, clippy::needless_update)] // without fields, or without those of version 2
            fn decode(from: &mut $crate::Cursor<'_>, _: &'static str) -> Result<Self, $crate::DecodeError> {
                Ok(Self {
                    $($field: $crate::Message::decode(from, stringify!($field))?,)*
                    ..Self::default()
                })
            }

            fn beyond_v1(&self) -> Option<&'static str> {
                $($(if !$crate::Tagged::is_default(&self.$field2) {
                    return Some(stringify!($field2));
                })*)?
                None
            }
        }

        impl $crate::Tagged for $name {
            const IS_ENVELOPE: bool = $crate::tagged::is_envelope(&[$($tag,)* $($($tag2,)*)?]);

            fn is_default(&self) -> bool {
                *self == Self::default()
            }

            #[allow(unused_variables)] // without fields
            fn write(&self, to: &mut Vec<u8>) {
                $($crate::tagged::write_field(to, $tag, &self.$field);)*
                $($($crate::tagged::write_field(to, $tag2, &self.$field2);)*)?
            }

            #[allow(unused_mut)] // without fields
            fn read(bytes: &[u8], _: &'static str) -> Result<Self, $crate::DecodeError> {
                let mut this = Self::default();
                let mut fields = $crate::tagged::Fields::new(bytes);
                while let Some(field) = fields.next()? {
                    match field.tag {
                        $(tag if tag == $crate::tagged::plain($tag) => {
                            this.$field = $crate::Tagged::read(field.value, stringify!($field))?;
                        })*
                        $($(tag if tag == $crate::tagged::plain($tag2) => {
                            this.$field2 = $crate::Tagged::read(field.value, stringify!($field2))?;
                        })*)?
                        _ => field.skip(stringify!($name), Self::IS_ENVELOPE)?,
                    }
                }
                Ok(this)
            }
        }
    )+};
}
pub(crate) use fields;

/// Says which structs are operations: code, request, what it is about, answer, and the version where it is not the first.
macro_rules! operations {
    ($(
        $code:literal $request:ident($($bucket:ident $(/ $key:ident)?)?) -> $answer:ident $(since $since:literal)?,
    )+) => {$(
        impl $crate::Operation for $request {
            const CODE: u8 = $code;
            const NAME: &'static str = stringify!($request);
            const SINCE: u8 = [$($since,)? 1][0];
            type Answer = $answer;

            fn resource(&self) -> (Option<&str>, Option<&str>) {
                (
                    None$(.or(Some(self.$bucket.as_str())))?,
                    None$($(.or(Some(self.$key.as_str())))?)?,
                )
            }
        }
    )+};
}
pub(crate) use operations;

/// Metadata without anything in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Empty;

impl Message for Empty {
    fn encode(&self, _: &mut Vec<u8>, _: &'static str) -> Result<(), EncodeError> {
        Ok(())
    }

    fn decode(_: &mut Cursor<'_>, _: &'static str) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}

fields! {
    /// Asks whether the other side is there.
    pub struct Ping {}
}

operations! {
    0xFF Ping() -> Empty,
}

/// Two bytes of length, then UTF-8.
impl Message for String {
    fn encode(&self, to: &mut Vec<u8>, field: &'static str) -> Result<(), EncodeError> {
        let length = u16::try_from(self.len()).map_err(|_| EncodeError { field })?;
        to.extend_from_slice(&length.to_be_bytes());
        to.extend_from_slice(self.as_bytes());
        Ok(())
    }

    fn decode(from: &mut Cursor<'_>, field: &'static str) -> Result<Self, DecodeError> {
        let length = from.u16(field)?;
        let bytes = from.bytes(length.into(), field)?;
        let text = std::str::from_utf8(bytes).map_err(|_| DecodeError {
            field,
            problem: Problem::NotUtf8,
        })?;
        Ok(text.to_owned())
    }
}

/// Eight bytes: a signed number on the wire, which is never negative.
impl Message for u64 {
    fn encode(&self, to: &mut Vec<u8>, field: &'static str) -> Result<(), EncodeError> {
        let number = i64::try_from(*self).map_err(|_| EncodeError { field })?;
        to.extend_from_slice(&number.to_be_bytes());
        Ok(())
    }

    fn decode(from: &mut Cursor<'_>, field: &'static str) -> Result<Self, DecodeError> {
        let number = from.u64(field)?;
        match number > i64::MAX as u64 {
            true => Err(DecodeError {
                field,
                problem: Problem::Invalid,
            }),
            false => Ok(number),
        }
    }
}

/// Four bytes.
impl Message for u32 {
    fn encode(&self, to: &mut Vec<u8>, _: &'static str) -> Result<(), EncodeError> {
        to.extend_from_slice(&self.to_be_bytes());
        Ok(())
    }

    fn decode(from: &mut Cursor<'_>, field: &'static str) -> Result<Self, DecodeError> {
        from.u32(field)
    }
}

/// Four bytes, two's complement.
impl Message for i32 {
    fn encode(&self, to: &mut Vec<u8>, _: &'static str) -> Result<(), EncodeError> {
        to.extend_from_slice(&self.to_be_bytes());
        Ok(())
    }

    fn decode(from: &mut Cursor<'_>, field: &'static str) -> Result<Self, DecodeError> {
        Ok(from.u32(field)?.cast_signed())
    }
}

/// One byte; whatever is not 0 is true.
impl Message for bool {
    fn encode(&self, to: &mut Vec<u8>, _: &'static str) -> Result<(), EncodeError> {
        to.push((*self).into());
        Ok(())
    }

    fn decode(from: &mut Cursor<'_>, field: &'static str) -> Result<Self, DecodeError> {
        Ok(from.u8(field)? != 0)
    }
}

/// Two bytes of count, then its entries.
impl<T: Message> Message for Vec<T> {
    fn encode(&self, to: &mut Vec<u8>, field: &'static str) -> Result<(), EncodeError> {
        let count = u16::try_from(self.len()).map_err(|_| EncodeError { field })?;
        to.extend_from_slice(&count.to_be_bytes());
        self.iter().try_for_each(|entry| entry.encode(to, field))
    }

    fn decode(from: &mut Cursor<'_>, field: &'static str) -> Result<Self, DecodeError> {
        let count = from.u16(field)?;
        // Grows with what is there, not with what is announced.
        let mut entries = Vec::new();
        for _ in 0..count {
            entries.push(T::decode(from, field)?);
        }
        Ok(entries)
    }
}

/// Two bytes of count, then names and values; of a name that comes twice the last value counts.
impl Message for BTreeMap<String, String> {
    fn encode(&self, to: &mut Vec<u8>, field: &'static str) -> Result<(), EncodeError> {
        let count = u16::try_from(self.len()).map_err(|_| EncodeError { field })?;
        to.extend_from_slice(&count.to_be_bytes());
        for (name, value) in self {
            name.encode(to, field)?;
            value.encode(to, field)?;
        }
        Ok(())
    }

    fn decode(from: &mut Cursor<'_>, field: &'static str) -> Result<Self, DecodeError> {
        let count = from.u16(field)?;
        let mut entries = Self::new();
        for _ in 0..count {
            let name = String::decode(from, field)?;
            entries.insert(name, String::decode(from, field)?);
        }
        Ok(entries)
    }
}

/// A moment, in milliseconds since 1970-01-01T00:00:00Z; on the wire a string in whole seconds, as in
/// `2026-11-22T04:09:15Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Message for Time {
    fn encode(&self, to: &mut Vec<u8>, field: &'static str) -> Result<(), EncodeError> {
        let milliseconds = i64::try_from(self.0).map_err(|_| EncodeError { field })?;
        let at =
            jiff::Timestamp::from_millisecond(milliseconds).map_err(|_| EncodeError { field })?;
        let seconds = jiff::Timestamp::from_second(at.as_second()).unwrap_or(at);
        seconds.to_string().encode(to, field)
    }

    fn decode(from: &mut Cursor<'_>, field: &'static str) -> Result<Self, DecodeError> {
        let text = String::decode(from, field)?;
        let at: Option<jiff::Timestamp> = text.parse().ok();
        // A fraction of one is cut off, as it is when it is written.
        let seconds = at.and_then(|at| u64::try_from(at.as_second()).ok());
        seconds
            .map(|seconds| Self(seconds * 1000))
            .ok_or(DecodeError {
                field,
                problem: Problem::Invalid,
            })
    }
}
