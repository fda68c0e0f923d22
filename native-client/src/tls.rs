//! TLS of `jays://`.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::error::{Error, ErrorKind, Result};

fn wrong(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}

/// What trusts the certificates of the system, or those of `ca_file`.
pub(crate) fn connector(ca_file: Option<&Path>) -> Result<TlsConnector> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(format!("TLS cannot be had: {error}.")))?;
    let config = match ca_file {
        None => builder
            .with_platform_verifier()
            .map_err(|error| {
                wrong(format!(
                    "The certificates of the system cannot be read: {error}."
                ))
            })?
            .with_no_client_auth(),
        Some(path) => {
            let unreadable = |error| {
                wrong(format!(
                    "The certificates in {} cannot be read: {error}.",
                    path.display()
                ))
            };
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
                let certificate = certificate.map_err(unreadable)?;
                roots.add(certificate).map_err(|error| {
                    wrong(format!(
                        "A certificate in {} is no authority: {error}.",
                        path.display()
                    ))
                })?;
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The connection inside TLS.
pub(crate) async fn secured(
    connector: &TlsConnector,
    address: &str,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let name = ServerName::try_from(host)
        .map_err(|error| wrong(format!("{address} has no name for TLS: {error}.")))?;
    connector.connect(name, stream).await.map_err(|error| {
        let message = format!("No TLS session with {address}: {error}.");
        Error::new(ErrorKind::Unavailable, message).with_source(error)
    })
}
