//! Places where the log cannot be read although more of it was durable, and what they hide.
//!
//! Recovery refuses to go past one ([`OpenError::Hole`]) unless its owner has given it up by name. What comes behind is
//! applied then, and what follows from rows is counted anew (`effects::recount`), since a hole may hide anything.

use std::{fmt, str::FromStr};

use crate::{OpenError, meta::local::packs};

/// A place where the log cannot be read: a log file and a byte of it, 0 when the file is missing or has no readable
/// header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogHole {
    /// The log file.
    pub pack: u32,
    /// Bytes from its start.
    pub offset: u64,
}

impl LogHole {
    /// The path of the log file below the data directory.
    pub fn path(self) -> String {
        packs::path(self.pack)
    }
}

impl fmt::Display for LogHole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08}@{}", self.pack, self.offset)
    }
}

/// The text is not the name of a hole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hole is named PACK@OFFSET, as in 00000007@8192")]
pub struct NotAHole;

impl FromStr for LogHole {
    type Err = NotAHole;

    fn from_str(text: &str) -> Result<Self, NotAHole> {
        let (pack, offset) = text.split_once('@').ok_or(NotAHole)?;
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !is_number(pack) || !is_number(offset) {
            return Err(NotAHole);
        }
        Ok(LogHole {
            pack: pack.parse().map_err(|_| NotAHole)?,
            offset: offset.parse().map_err(|_| NotAHole)?,
        })
    }
}

/// What a hole hides, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The hole.
    pub hole: LogHole,
    /// The first record that cannot be read.
    pub first_lsn: u64,
    /// The last one; below the first when none is lost.
    pub last_lsn: u64,
    /// Nothing can be read behind it: there may have been more records.
    pub ends_log: bool,
    /// Where the log file can be read again; `None` when not before its end.
    pub resumes_at: Option<u64>,
    /// What is wrong there.
    pub reason: String,
}

impl Loss {
    /// Whether a record lies in it.
    pub fn has(&self, lsn: u64) -> bool {
        lsn >= self.first_lsn && (lsn <= self.last_lsn || self.ends_log)
    }

    /// Whether a byte of a log file lies in it.
    pub fn covers(&self, pack: u32, offset: u64) -> bool {
        pack == self.hole.pack
            && offset >= self.hole.offset
            && self.resumes_at.is_none_or(|end| offset < end)
    }

    /// What is lost, in words.
    pub fn records(&self) -> String {
        let (first, last) = (self.first_lsn, self.last_lsn);
        let records = match last {
            _ if last < first => "no record that is known of".to_owned(),
            _ if last == first => format!("record {first}"),
            _ => format!("records {first} to {last}"),
        };
        match self.ends_log {
            true => format!("{records}, and what came behind, if anything did,"),
            false => records,
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, offset) = (self.hole.path(), self.hole.offset);
        write!(f, "{path}@{offset}: {} cannot be read", self.records())?;
        write!(f, " ({})", self.reason)
    }
}

/// The refusal to go past a hole.
pub(super) fn refused(hole: LogHole, what: &str) -> OpenError {
    OpenError::Hole {
        hole,
        what: format!(
            "{what} Nothing was changed. Check the disk, and restore the file from a copy if there is one. \
             `jay fsck` says what is lost; `jay fsck --accept-loss {hole}` gives it up, and the rest is served again."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_named_as_it_is_read() {
        let hole = LogHole {
            pack: 7,
            offset: 8192,
        };
        assert_eq!(hole.to_string(), "00000007@8192");
        assert_eq!("00000007@8192".parse(), Ok(hole));
        assert_eq!("7@8192".parse(), Ok(hole));
        for bad in ["", "7", "7@", "@1", "+7@1", "7@-1", "7@1@2", "4294967296@1"] {
            assert_eq!(bad.parse::<LogHole>(), Err(NotAHole), "{bad}");
        }
    }
}
