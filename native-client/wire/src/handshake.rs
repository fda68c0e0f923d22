//! How a connection of version 1 begins: the client says who it is, the server whether it believes that.
//!
//! ```text
//!  client                                             server
//!  0             4         5       6             8                 0             4         5        6      8
//!  +-------------+---------+-------+-------------+-------------+   +-------------+---------+--------+------+
//!  | 4A 41 59 00 | version | flags | length      | credentials |   | 4A 41 59 00 | version | status | 0  0 |
//!  +-------------+---------+-------+-------------+-------------+   +-------------+---------+--------+------+
//! ```

use std::fmt;

use zeroize::Zeroizing;

use crate::{
    cursor::Cursor,
    error::{DecodeError, EncodeError, Problem},
};

/// The first bytes of either side: "JAY" and a zero.
pub const MAGIC: [u8; 4] = *b"JAY\0";
/// The version that this is.
pub const VERSION: u8 = 1;
/// Length of what comes before the credentials.
pub const HELLO_BYTES: usize = 8;
/// Length of the server's answer.
pub const WELCOME_BYTES: usize = 8;

/// The fixed part of what a client begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The version that it speaks.
    pub version: u8,
    /// Without a meaning in version 1.
    pub flags: u8,
    /// Length of the credentials behind it.
    pub credentials_bytes: u16,
}

impl Hello {
    /// Reads it.
    ///
    /// # Errors
    /// The magic is another one: this is no client of Jay.
    pub fn parse(bytes: &[u8; HELLO_BYTES]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(bytes);
        if cursor.bytes(MAGIC.len(), "magic")? != MAGIC {
            return Err(DecodeError {
                field: "magic",
                problem: Problem::Invalid,
            });
        }
        Ok(Self {
            version: cursor.u8("version")?,
            flags: cursor.u8("flags")?,
            credentials_bytes: cursor.u16("credentials length")?,
        })
    }
}

/// An access key and its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The id of the access key; it has no colon.
    pub token_id: String,
    /// Its secret.
    pub secret: Zeroizing<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.token_id)
    }
}

impl Credentials {
    /// All that a client begins with.
    ///
    /// # Errors
    /// They are longer than 65,535 bytes, or the id has a colon.
    pub fn to_hello(&self) -> Result<Zeroizing<Vec<u8>>, EncodeError> {
        if self.token_id.contains(':') {
            return Err(EncodeError { field: "token id" });
        }
        let length = self.token_id.len() + 1 + self.secret.len();
        let length = u16::try_from(length).map_err(|_| EncodeError {
            field: "credentials",
        })?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(HELLO_BYTES + usize::from(length)));
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[VERSION, 0]);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(self.token_id.as_bytes());
        bytes.push(b':');
        bytes.extend_from_slice(self.secret.as_bytes());
        Ok(bytes)
    }

    /// Reads what stands behind a [`Hello`]: the id up to the first colon, then the secret.
    ///
    /// # Errors
    /// There is no colon, or it is no UTF-8.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let wrong = |problem| DecodeError {
            field: "credentials",
            problem,
        };
        let text = std::str::from_utf8(bytes).map_err(|_| wrong(Problem::NotUtf8))?;
        let (token_id, secret) = text.split_once(':').ok_or(wrong(Problem::Invalid))?;
        Ok(Self {
            token_id: token_id.to_owned(),
            secret: Zeroizing::new(secret.to_owned()),
        })
    }
}

/// What the server says to a client's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Welcome {
    /// The session begins.
    Accepted = 0,
    /// The credentials are wrong, whatever is wrong with them.
    Refused = 1,
    /// The server does not speak that version.
    VersionMismatch = 2,
}

impl Welcome {
    /// Its bytes.
    pub fn to_bytes(self) -> [u8; WELCOME_BYTES] {
        let [a, b, c, d] = MAGIC;
        [a, b, c, d, VERSION, self as u8, 0, 0]
    }

    /// Reads it; the version and the last two bytes are not looked at, as the first clients did not.
    ///
    /// # Errors
    /// The magic is another one, or the status is unknown.
    pub fn parse(bytes: &[u8; WELCOME_BYTES]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(bytes);
        let invalid = |field| DecodeError {
            field,
            problem: Problem::Invalid,
        };
        if cursor.bytes(MAGIC.len(), "magic")? != MAGIC {
            return Err(invalid("magic"));
        }
        cursor.u8("version")?;
        match cursor.u8("status")? {
            0 => Ok(Self::Accepted),
            1 => Ok(Self::Refused),
            2 => Ok(Self::VersionMismatch),
            _ => Err(invalid("status")),
        }
    }
}
