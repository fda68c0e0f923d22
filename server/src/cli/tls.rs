//! How the verbs of `jay` call the server of their configuration when it speaks TLS.
//!
//! They know its certificate from the very file that the server reads, so they ask for that one and no other; under
//! which name they call does not matter then.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{
        WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::{
    config::Config,
    listener::tls::{TlsError, TlsFiles, certificates, read},
    self_signed,
};

/// The certificate that the server of `config` has; `None`: it speaks plain HTTP.
pub fn files(config: &Config) -> Option<TlsFiles> {
    match &config.tls {
        Some(files) => Some(TlsFiles {
            cert: files.cert.clone(),
            key: files.key.clone(),
            names: ("JAY_TLS_CERT", "JAY_TLS_KEY"),
        }),
        None => self_signed::in_use(&config.data_dir),
    }
}

/// What a URL of the server of `config` begins with.
pub fn scheme(config: &Config) -> &'static str {
    match files(config) {
        Some(_) => "https",
        None => "http",
    }
}

/// Trusts the certificate in `files` alone.
pub fn trusting(files: &TlsFiles) -> Result<Arc<ClientConfig>, TlsError> {
    let (name, path) = (files.names.0, &files.cert);
    let mut chain = certificates(name, path, &read(name, path)?)?;
    client(Some(chain.swap_remove(0)))
}

/// Trusts whoever answers: for questions that hold no secret, whose answer nothing depends on that matters to others.
/// So a server that keeps its old certificate because the new one is broken is found healthy.
pub fn trusting_anybody() -> Result<Arc<ClientConfig>, TlsError> {
    client(None)
}

fn client(expected: Option<CertificateDer<'static>>) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = aws_lc_rs::default_provider();
    let verifier = Verifier {
        expected,
        algorithms: provider.signature_verification_algorithms,
    };
    let config = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Mismatch {
            names: ("TLS", "its versions"),
            error,
        })?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Verifier {
    expected: Option<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        found: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.expected {
            Some(expected) if expected != found => {
                let error = CertificateError::ApplicationVerificationFailure;
                Err(Error::InvalidCertificate(error))
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
