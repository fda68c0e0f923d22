//! TLS of a port: certificate and key from files, read again when they change.
//!
//! `serve` makes one [`Tls`] for all ports and runs [`Tls::watch`] beside them; the listener asks [`Tls::accept`] for
//! each connection. A new pair serves new connections, those that are open keep theirs; a new pair that is broken
//! is reported and the old one stays. Absent on purpose: client certificates, and HTTP/2, which the fronts do not speak.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use sha2::{Digest as _, Sha256};
use tokio::{
    net::TcpStream,
    signal::unix::{SignalKind, signal},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use zeroize::Zeroizing;

/// How often the files are looked at.
const RELOAD_EVERY: Duration = Duration::from_secs(5);
/// Longest file of either kind, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where a certificate chain and its key are; both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate of the server first, then those that lead to its root.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// What named the files, for messages: `JAY_TLS_CERT` and `JAY_TLS_KEY`.
    pub names: (&'static str, &'static str),
}

/// Why a pair cannot be used; Display says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read.
    #[error("{name}: {path} cannot be read ({error}): give this user rights on it, or correct the path", path = path.display())]
    Unreadable {
        /// What named the file.
        name: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{name}: {path} holds no {what} in PEM: {advice}", path = path.display())]
    Empty {
        /// What named the file.
        name: &'static str,
        /// The file.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// The two do not belong together, or no TLS can be done with them.
    #[error("{} and {} cannot be used together ({error}): give a certificate and the key that it was made for", names.0, names.1)]
    Mismatch {
        /// What named the files.
        names: (&'static str, &'static str),
        /// Why.
        error: rustls::Error,
    },
}

/// A pair, read and understood.
pub struct TlsConfig {
    server: Arc<ServerConfig>,
    fingerprint: [u8; 32],
}

impl TlsConfig {
    /// Reads certificate and key.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let contents = Contents::read(files)?;
        let chain = certificates(files.names.0, &files.cert, &contents.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|_| TlsError::Empty {
            name: files.names.1,
            path: files.key.clone(),
            what: "private key",
            advice: "give the key of the certificate, without a passphrase",
        })?;
        let mismatch = |error| TlsError::Mismatch {
            names: files.names,
            error,
        };
        let mut server = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(mismatch)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(mismatch)?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            server: Arc::new(server),
            fingerprint: contents.fingerprint(),
        })
    }
}

/// The certificates in the file `path`, which `name` named.
pub fn certificates(
    name: &'static str,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(TlsError::Empty {
            name,
            path: path.to_owned(),
            what: "certificate",
            advice: "give the chain that the authority handed out, the server's certificate first",
        }),
    }
}

/// The bytes of both files.
struct Contents {
    cert: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

impl Contents {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self {
            cert: read(files.names.0, &files.cert)?,
            key: Zeroizing::new(read(files.names.1, &files.key)?),
        })
    }

    /// Tells contents apart without keeping the key.
    fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update((self.cert.len() as u64).to_be_bytes());
        hash.update(&self.cert);
        hash.update(&*self.key);
        hash.finalize().into()
    }
}

/// The bytes of the file `path`, which `name` named. Not of a pipe or a device, which may never end and cannot be read
/// again when the certificate changes.
pub fn read(name: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let bytes = std::fs::metadata(path).and_then(|known| match known.len() {
        _ if !known.is_file() => Err(io::Error::other("it is no regular file")),
        bytes if bytes > FILE_BYTES_MAX => Err(io::Error::other("it is too long")),
        _ => std::fs::read(path),
    });
    bytes.map_err(|error| TlsError::Unreadable {
        name,
        path: path.to_owned(),
        error,
    })
}

/// See the module.
pub struct Tls {
    files: TlsFiles,
    current: ArcSwap<ServerConfig>,
    /// Contents that were looked at last, good or bad; `None` when they could not be read.
    seen: Mutex<Option<[u8; 32]>>,
}

impl Tls {
    /// Loads the pair.
    pub fn load(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let loaded = TlsConfig::load(&files)?;
        Ok(Arc::new(Self {
            files,
            current: ArcSwap::new(loaded.server),
            seen: Mutex::new(Some(loaded.fingerprint)),
        }))
    }

    /// Shakes hands with a client; no longer than the caller lets it.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = self.current.load_full();
        TlsAcceptor::from(config).accept(stream).await
    }

    /// Loads the pair again whenever its files have changed, and looks at once on SIGHUP. Never returns.
    pub async fn watch(self: Arc<Self>) -> io::Result<std::convert::Infallible> {
        let mut hangup = signal(SignalKind::hangup())?;
        loop {
            tokio::select! {
                () = tokio::time::sleep(RELOAD_EVERY) => {}
                _ = hangup.recv() => tracing::info!("SIGHUP: the certificate is looked at"),
            }
            let tls = self.clone();
            // The files may be far away.
            let _ = tokio::task::spawn_blocking(move || tls.reload()).await;
        }
    }

    /// Takes the pair that is in the files now, if it is another one and works.
    fn reload(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let fingerprint = Contents::read(&self.files)
            .ok()
            .map(|read| read.fingerprint());
        if *seen == fingerprint {
            return;
        }
        *seen = fingerprint;
        match TlsConfig::load(&self.files) {
            Ok(loaded) => {
                // Had the files changed again since, the next look finds that out.
                *seen = Some(loaded.fingerprint);
                self.current.store(loaded.server);
                tracing::info!(cert = %self.files.cert.display(), "the certificate was reloaded");
            }
            Err(error) => {
                tracing::error!(%error, "the new certificate cannot be used; the old one stays");
            }
        }
    }
}

#[cfg(test)]
mod tests;
