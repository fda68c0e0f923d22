//! One connection to a server: TCP, TLS where it is wanted, and the handshake by which both sides prove who they are.

use std::{io, sync::Arc};

use bytes::BytesMut;
use jay_wire::{
    Tagged,
    handshake::{Credentials, WELCOME_BYTES, Welcome},
    v2::{
        self, ClientHello, EXPORTER_LABEL, PREFIX_BYTES, PROOF_BYTES, Prefix, ProofKey,
        ServerHello, Step, Transcript,
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    config::{Config, Protocol},
    error::{Error, ErrorKind, Result},
};

/// Bytes that are read at once.
pub(crate) const READ_BYTES: usize = 64 << 10;
/// What this client is called.
const AGENT: &str = concat!("jay-client/", env!("CARGO_PKG_VERSION"), " rust");

/// What a connection is made of.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send + Sync {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Io for T {}

/// A connection that is ready for requests.
pub(crate) struct Dialed {
    pub(crate) io: Box<dyn Io>,
    /// What the server said of itself; of version 1 nothing.
    pub(crate) server: ServerHello,
}

/// Makes connections.
pub(crate) struct Dialer {
    pub(crate) config: Arc<Config>,
    key: ProofKey,
    #[cfg(feature = "tls")]
    tls: Option<tokio_rustls::TlsConnector>,
}

impl Dialer {
    /// # Errors
    /// [`ErrorKind::Config`] when the certificates that are to be trusted cannot be read.
    pub(crate) fn new(config: Arc<Config>) -> Result<Self> {
        #[cfg(not(feature = "tls"))]
        if config.is_tls {
            return Err(Error::new(
                ErrorKind::Config,
                "This client was built without TLS.",
            ));
        }
        Ok(Self {
            key: ProofKey::derive(&config.secret),
            #[cfg(feature = "tls")]
            tls: match config.is_tls {
                true => Some(crate::tls::connector(config.ca_file.as_deref())?),
                false => None,
            },
            config,
        })
    }

    /// Connects to `address` and proves who calls.
    pub(crate) async fn dial(&self, address: &str, bulk: bool) -> Result<Dialed> {
        let patience = self.config.connect_timeout();
        match timeout(patience, self.connect(address, bulk)).await {
            Ok(dialed) => dialed,
            Err(_) => Err(Error::new(
                ErrorKind::Unavailable,
                format!("{address} did not answer within {patience:?}."),
            )),
        }
    }

    async fn connect(&self, address: &str, bulk: bool) -> Result<Dialed> {
        let unreachable = |error: io::Error| {
            let message = format!("{address} cannot be reached: {error}.");
            Error::new(ErrorKind::Unavailable, message).with_source(error)
        };
        let stream = TcpStream::connect(address).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let stream = crate::tls::secured(tls, address, stream).await?;
            let exported = stream
                .get_ref()
                .1
                .export_keying_material([0; 32], EXPORTER_LABEL, None)
                .ok();
            return self.shake_hands(Box::new(stream), exported, bulk).await;
        }
        self.shake_hands(Box::new(stream), None, bulk).await
    }

    async fn shake_hands(
        &self,
        mut io: Box<dyn Io>,
        exported: Option<[u8; 32]>,
        bulk: bool,
    ) -> Result<Dialed> {
        match self.config.options.protocol {
            Protocol::V1 => self.greet_v1(&mut io).await?,
            Protocol::V2 => {
                let server = self.prove(&mut io, exported, bulk).await?;
                return Ok(Dialed { io, server });
            }
        }
        let server = ServerHello::default();
        Ok(Dialed { io, server })
    }

    async fn greet_v1(&self, io: &mut Box<dyn Io>) -> Result<()> {
        let credentials = Credentials {
            token_id: self.config.token_id.clone(),
            secret: self.config.secret.clone(),
        };
        io.write_all(&credentials.to_hello()?)
            .await
            .map_err(ended)?;
        let mut welcome = [0; WELCOME_BYTES];
        io.read_exact(&mut welcome).await.map_err(ended)?;
        match Welcome::parse(&welcome)? {
            Welcome::Accepted => Ok(()),
            Welcome::Refused => Err(self.refused()),
            Welcome::VersionMismatch => Err(Error::new(
                ErrorKind::Unsupported,
                "The server does not speak version 1 of the protocol.",
            )),
        }
    }

    /// Version 2: neither side sends the secret, and each knows then that the other one has it.
    async fn prove(
        &self,
        io: &mut Box<dyn Io>,
        exported: Option<[u8; 32]>,
        bulk: bool,
    ) -> Result<ServerHello> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce)
            .map_err(io::Error::other)
            .map_err(Error::lost)?;
        let ours = v2::hello(&ClientHello {
            token_id: self.config.token_id.clone(),
            nonce,
            agent: AGENT.to_owned(),
            bulk,
        })?;
        io.write_all(&ours).await.map_err(ended)?;
        let theirs = self.step(io).await?;
        let server = ServerHello::from_metadata(&theirs[PREFIX_BYTES..])?;
        let transcript = Transcript::new(&ours, &theirs, exported.as_ref());
        let proof = self.key.client_proof(&transcript);
        io.write_all(&proof).await.map_err(ended)?;
        let answer = self.step(io).await?;
        match answer[PREFIX_BYTES..].first_chunk::<PROOF_BYTES>() {
            Some(proof) if self.key.proves_server(&transcript, proof) => Ok(server),
            _ => Err(Error::protocol(
                "The server has not proven that it has the secret of the access key: it is not the one that it should be.",
            )),
        }
    }

    /// How the server goes on, and what belongs to it.
    async fn step(&self, io: &mut Box<dyn Io>) -> Result<Vec<u8>> {
        let mut bytes = vec![0; PREFIX_BYTES];
        io.read_exact(&mut bytes).await.map_err(ended)?;
        let prefix = bytes
            .first_chunk()
            .ok_or_else(|| Error::protocol("A step is short."))?;
        let prefix = Prefix::parse(prefix)?;
        match prefix.step()? {
            Step::Proceed if prefix.version == v2::VERSION => {
                bytes.resize(PREFIX_BYTES + usize::from(prefix.length), 0);
                io.read_exact(&mut bytes[PREFIX_BYTES..])
                    .await
                    .map_err(ended)?;
                Ok(bytes)
            }
            Step::Refused => Err(self.refused()),
            Step::Unavailable => Err(Error::new(
                ErrorKind::Unavailable,
                "The server takes no connections now.",
            )),
            Step::VersionMismatch | Step::Proceed => Err(Error::new(
                ErrorKind::Unsupported,
                "The server does not speak version 2 of the protocol. protocol=v1 asks for version 1, which sends the \
                 secret to whoever answers.",
            )),
        }
    }

    fn refused(&self) -> Error {
        let message = format!(
            "The access key {} or its secret is wrong, revoked or expired.",
            self.config.token_id
        );
        Error::new(ErrorKind::Unauthenticated, message)
    }
}

/// The connection ended within the handshake: nothing was asked yet.
fn ended(error: io::Error) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "The server ended the connection within the handshake.",
    )
    .with_source(error)
}

/// Reads what there is; an end is an error.
pub(crate) async fn fill(
    io: &mut (impl AsyncRead + Unpin + ?Sized),
    input: &mut BytesMut,
) -> io::Result<()> {
    input.reserve(READ_BYTES);
    match io.read_buf(input).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// Whether a stream comes behind another one; their ids begin again when all were used.
pub(crate) fn is_behind(id: u32, other: u32) -> bool {
    id.wrapping_sub(other).cast_signed() > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_come_behind_others_also_where_their_ids_begin_again() {
        assert!(is_behind(2, 1) && !is_behind(1, 1) && !is_behind(1, 2));
        assert!(is_behind(0, u32::MAX) && is_behind(5, u32::MAX - 5) && !is_behind(u32::MAX, 3));
    }
}
