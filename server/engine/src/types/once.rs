//! Requests that are done once, however often they are sent.
//!
//! Source: RIFL (Lee et al., "Implementing Linearizability at Large Scale and Low Latency", SOSP 2015).

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::{
    auth::Caller,
    error::{Error, ErrorKind, Result},
    types::Timestamp,
};

/// How long after its last request a session is remembered, and how long after its making it may be used first.
pub const SESSION_LIFETIME: Duration = Duration::from_secs(600);
/// Most sequence numbers from the lowest one whose answer is still awaited to the highest one.
pub const SESSION_WINDOW: u64 = 4096;

/// Names a session of one caller: lineage of the store u32, when it was made u64 (ms), 16 random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId([u8; SessionId::BYTES]);

impl SessionId {
    /// Its length.
    pub const BYTES: usize = 28;

    pub(crate) fn new(lineage: u32, made: Timestamp, random: [u8; 16]) -> Self {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&lineage.to_be_bytes());
        bytes[4..12].copy_from_slice(&made.0.to_be_bytes());
        bytes[12..].copy_from_slice(&random);
        Self(bytes)
    }

    /// Its bytes, which mean nothing to who holds them.
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// Of which past of the store it is.
    pub(crate) fn lineage(&self) -> u32 {
        u32::from_be_bytes(self.array(0))
    }

    /// When it was made.
    pub(crate) fn made(&self) -> Timestamp {
        Timestamp(u64::from_be_bytes(self.array(4)))
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0[at..at + N].try_into().expect("it is longer")
    }
}

impl TryFrom<&[u8]> for SessionId {
    type Error = Error;

    fn try_from(bytes: &[u8]) -> Result<Self> {
        let bytes = bytes.try_into().map_err(|_| {
            let why = format!("The id of a session has {} bytes.", Self::BYTES);
            Error::new(ErrorKind::InvalidArgument, why)
        })?;
        Ok(Self(bytes))
    }
}

/// The place of a request in a session of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Once {
    /// The session.
    pub(crate) session: SessionId,
    /// Under which its rows are: another caller's session is another one, whatever id it gives.
    pub(crate) row: u128,
    /// Which request of the session this is.
    pub(crate) sequence: u64,
    /// The lowest one whose answer the caller has not got.
    pub(crate) lowest: u64,
    /// It may have been sent before.
    pub(crate) again: bool,
}

impl Once {
    /// The `sequence`th request of a session, from 1; the caller has got the answers to all below `lowest`. `again`: it may
    /// have been sent before.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for numbers that are none: above the sequence, or further below it than
    /// [`SESSION_WINDOW`].
    pub fn new(
        caller: &Caller,
        session: SessionId,
        sequence: u64,
        lowest: u64,
        again: bool,
    ) -> Result<Self> {
        let refuse = |why: String| Err(Error::new(ErrorKind::InvalidArgument, why));
        if lowest == 0 || lowest > sequence {
            return refuse(format!(
                "The lowest sequence number is one from 1 to {sequence}, not {lowest}."
            ));
        }
        if sequence - lowest >= SESSION_WINDOW {
            return refuse(format!(
                "At most {SESSION_WINDOW} requests of a session wait for their answers."
            ));
        }
        let mut hash = Sha256::new();
        hash.update(session.0);
        hash.update(caller.token_id());
        let hash: [u8; 32] = hash.finalize().into();
        let row = u128::from_be_bytes(*hash.first_chunk().expect("it is longer"));
        Ok(Self {
            session,
            row,
            sequence,
            lowest,
            again,
        })
    }

    /// Whether it may have been sent before.
    pub fn again(&self) -> bool {
        self.again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_that_of_its_caller() {
        let id = SessionId::new(7, Timestamp(1 << 40), [9; 16]);
        assert_eq!(SessionId::try_from(&id.as_bytes()[..]).unwrap(), id);
        assert_eq!((id.lineage(), id.made()), (7, Timestamp(1 << 40)));
        assert!(SessionId::try_from(&[0; 27][..]).is_err());
        let of = |id_of: &str| Once::new(&Caller::named(id_of), id, 5, 5, false).unwrap();
        assert_ne!(of("one").row, of("other").row);
        assert_eq!(of("one").row, of("one").row);
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        let id = SessionId::new(0, Timestamp(0), [0; 16]);
        let caller = Caller::named("one");
        for (sequence, lowest) in [(0, 0), (1, 0), (1, 2), (1 + SESSION_WINDOW, 1)] {
            let refused = Once::new(&caller, id, sequence, lowest, false).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
        }
        Once::new(&caller, id, SESSION_WINDOW, 1, true).unwrap();
    }
}
