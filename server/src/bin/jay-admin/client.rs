//! One request to the admin API, over HTTP or HTTPS.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use bytes::{Bytes, BytesMut};
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest line of a job's answer that is believed, in bytes.
const LINE_BYTES_MAX: usize = 64 << 20;
/// Where systems keep the certificates that they trust.
const CA_FILES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// Calls a server as its operator.
pub struct Client {
    uri: Uri,
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    token: Zeroizing<String>,
}

/// A connection of either kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Client {
    /// A client of the server at `addr`: a URL, whose scheme may be left out.
    pub fn new(
        addr: &str,
        ca_file: Option<&Path>,
        token: Zeroizing<String>,
    ) -> anyhow::Result<Self> {
        if addr.contains('@') {
            // It may be a password that stands before it.
            bail!("the address of the server names a user: give http(s)://HOST:PORT alone");
        }
        let url = match addr.contains("://") {
            true => addr.to_owned(),
            false => format!("http://{addr}"),
        };
        // As servers write the address on which they listen: `:9001`.
        let url = url.replacen("://:", "://localhost:", 1);
        let url = url.trim_end_matches('/');
        let wrong = || format!("{addr:?} is no address of a server, such as http://localhost:9001");
        let uri: Uri = url.parse().ok().with_context(wrong)?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => bail!(wrong()),
        };
        let host = uri.host().with_context(wrong)?;
        let host = host.trim_matches(['[', ']']).to_owned();
        let port = match uri.port_u16() {
            Some(port) => port,
            // A port that is none.
            None if uri.authority().map(|all| all.as_str()) != uri.host() => bail!(wrong()),
            None if is_tls => 443,
            None => 80,
        };
        let tls = match is_tls {
            true => Some(Arc::new(trust(ca_file)?)),
            false => None,
        };
        Ok(Self {
            uri,
            host,
            port,
            tls,
            token,
        })
    }

    /// The body of the answer.
    ///
    /// # Errors
    /// `server error (STATUS): BODY` unless the request succeeds.
    pub fn call(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<String> {
        let mut text = Vec::new();
        self.run(method, path, body, |piece| {
            text.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(String::from_utf8(text)?)
    }

    /// Runs a job that answers in lines of JSON: its report. Its progress goes to `on_progress`.
    pub fn job(
        &self,
        path: &str,
        body: &Value,
        mut on_progress: impl FnMut(&Value),
    ) -> anyhow::Result<String> {
        let (mut rest, mut report) = (BytesMut::new(), None);
        self.run(Method::POST, path, Some(body), |piece| {
            rest.extend_from_slice(piece);
            while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
                let line: Value = serde_json::from_slice(&rest.split_to(end + 1))?;
                if let Some(progress) = line.get("progress") {
                    on_progress(progress);
                } else if let Some(error) = line.get("error") {
                    bail!("the server answers: {}", error.as_str().unwrap_or_default());
                } else {
                    report = line.get("report").map(ToString::to_string);
                }
            }
            match rest.len() > LINE_BYTES_MAX {
                true => bail!("the server sends a line without end"),
                false => Ok(()),
            }
        })?;
        report.context("the server ended without a report")
    }

    fn run(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        on_piece: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(self.send(method, path, body, on_piece))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        mut on_piece: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let stream = TokioIo::new(self.connect().await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        let connection = tokio::spawn(connection);
        let authority = self
            .uri
            .authority()
            .map_or("", |authority| authority.as_str());
        let bearer = Zeroizing::new(format!("Bearer {}", *self.token));
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.uri.path().trim_end_matches('/')))
            .header(header::HOST, authority)
            .header(header::AUTHORIZATION, bearer.as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::<Bytes>::from(
                body.map(Value::to_string).unwrap_or_default(),
            ))
            .context("the admin token or a name cannot be sent")?;
        let answer = sender.send_request(request).await;
        let answer = answer.with_context(|| match &self.tls {
            Some(_) => "the server broke off",
            None => "the server broke off; if it speaks TLS, the address begins with https://",
        })?;
        let status = answer.status();
        let mut body = answer.into_body();
        if !status.is_success() {
            let body = body
                .collect()
                .await
                .context("the server broke off")?
                .to_bytes();
            bail!(refusal(status, &body));
        }
        while let Some(frame) = body.frame().await {
            if let Ok(piece) = frame.context("the server broke off")?.into_data() {
                on_piece(&piece)?;
            }
        }
        connection.abort();
        Ok(())
    }

    async fn connect(&self) -> anyhow::Result<Box<dyn Stream>> {
        let connecting = TcpStream::connect((self.host.as_str(), self.port));
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
        let nobody = || format!("no server answers at {} (-addr, JAY_ADMIN_ADDR)", self.uri);
        let stream = connected.with_context(nobody)?.with_context(nobody)?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let name = ServerName::try_from(self.host.clone())?;
        let stream = TlsConnector::from(tls.clone()).connect(name, stream).await;
        let stream = stream.with_context(|| {
            format!(
                "no TLS with the server at {} (--ca-file says whom to trust)",
                self.uri
            )
        })?;
        Ok(Box::new(stream))
    }
}

/// As the original puts it.
fn refusal(status: StatusCode, body: &[u8]) -> String {
    let body = String::from_utf8_lossy(body);
    let remedy = match status {
        StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS => {
            "; give the admin token of that server (JAY_ADMIN_TOKEN, --token-file)"
        }
        _ => "",
    };
    format!(
        "server error ({}): {}{remedy}",
        status.as_u16(),
        body.trim_end()
    )
}

/// Trusts what `file` names, else what the system trusts.
fn trust(file: Option<&Path>) -> anyhow::Result<ClientConfig> {
    let mut of_system = CA_FILES.iter().map(Path::new).filter(|path| path.exists());
    let file = file.or_else(|| of_system.next());
    let file =
        file.context("this system has no known list of certificates: name one by --ca-file")?;
    let unreadable = || format!("the certificates in {} cannot be read", file.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).with_context(unreadable)? {
        // A list of a system holds old ones that cannot be used; that is no reason to refuse the others.
        let _ = roots.add(certificate.with_context(unreadable)?);
    }
    if roots.is_empty() {
        bail!("there is no certificate in {}", file.display());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(addr: &str) -> anyhow::Result<Client> {
        Client::new(addr, None, Zeroizing::new("t".into()))
    }

    #[test]
    fn addresses_may_leave_out_the_scheme_and_the_host() {
        for (addr, host, port) in [
            ("http://localhost:9001", "localhost", 9001),
            ("http://localhost:9001/", "localhost", 9001),
            ("example.com:1", "example.com", 1),
            (":9001", "localhost", 9001),
            ("127.0.0.1", "127.0.0.1", 80),
            ("http://[::1]:9001", "::1", 9001),
        ] {
            let client = client(addr).unwrap();
            assert_eq!((client.host.as_str(), client.port), (host, port), "{addr}");
        }
        for bad in ["", "ftp://x", "http://", "a b", "x:99999", "user@x"] {
            assert!(client(bad).is_err(), "{bad}");
        }
        let with_password = client("http://user:password@x:9001").err().unwrap();
        assert!(!with_password.to_string().contains("password"));
    }

    #[test]
    fn a_file_without_certificates_trusts_nobody() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let token = || Zeroizing::new("t".into());
        let refused = Client::new("https://localhost", Some(file.path()), token())
            .err()
            .unwrap();
        assert!(refused.to_string().contains("no certificate"), "{refused}");
        let missing = Path::new("/nothing/of/this/name");
        assert!(Client::new("https://localhost", Some(missing), token()).is_err());
    }
}
