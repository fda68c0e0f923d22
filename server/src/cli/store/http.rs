//! Signed requests to an S3 server: connections that are kept, answers that are checked, and another attempt where a
//! failure passes. All that is sent here may be sent again.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    body::{Body as _, Incoming},
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use jay_client::ErrorKind;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls_platform_verifier::BuilderVerifierExt as _;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{Error, Result, xml::Element};
use crate::cli::{
    place::NO_SECRETS,
    sign::{Credentials, Signable, Signer, encode, encode_path, hex},
};

/// How long a connection is waited for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long nothing may come from the server. There is no limit on the whole.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// A body that is sent no faster than this is given up, in bytes per second.
const BYTES_PER_SECOND_MIN: u64 = 16 << 10;
/// Most connections at a time.
const CONNECTIONS_MAX: usize = 64;
/// Attempts of a request that fails in passing.
const ATTEMPTS_MAX: u32 = 5;
/// The pause before the second attempt is up to this long; it doubles with each.
const PAUSE: Duration = Duration::from_millis(100);
/// Most of an answer that is not a body: errors, listings.
const TEXT_BYTES_MAX: usize = 16 << 20;

/// Where the S3 server is, and who asks it.
pub struct Settings {
    /// `http://host:port` or `https://`.
    pub endpoint: String,
    /// Which region is signed for.
    pub region: String,
    /// Who signs.
    pub credentials: Credentials,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Settings {
    /// From the variables that all clients of S3 read, where the arguments do not say.
    pub fn from_env(endpoint: Option<&str>, region: Option<&str>) -> anyhow::Result<Self> {
        let missing = "no access key: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (`jay print-config` shows them)";
        let credentials = Credentials {
            access_key_id: variable("AWS_ACCESS_KEY_ID").context(missing)?,
            secret_access_key: variable("AWS_SECRET_ACCESS_KEY").context(missing)?.into(),
            session_token: variable("AWS_SESSION_TOKEN"),
        };
        Self::of(credentials, endpoint, region)
    }

    /// The S3 server that the variables name.
    pub fn endpoint_of_env() -> Option<String> {
        variable("AWS_ENDPOINT_URL_S3").or_else(|| variable("AWS_ENDPOINT_URL"))
    }

    /// The same for whoever has these credentials.
    pub fn of(
        credentials: Credentials,
        endpoint: Option<&str>,
        region: Option<&str>,
    ) -> anyhow::Result<Self> {
        let endpoint = endpoint
            .map(str::to_owned)
            .or_else(Self::endpoint_of_env)
            .context("no S3 server: set AWS_ENDPOINT_URL or give --endpoint-url, as in http://127.0.0.1:9000")?;
        let region = region
            .map(str::to_owned)
            .or_else(|| variable("AWS_REGION"))
            .or_else(|| variable("AWS_DEFAULT_REGION"))
            .unwrap_or_else(|| "us-east-1".into());
        Ok(Self {
            endpoint,
            region,
            credentials,
        })
    }
}

/// Scheme, host and port of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The Host header, which is signed.
    pub authority: String,
    /// Whether TLS is spoken.
    pub is_tls: bool,
}

impl Endpoint {
    /// Reads `http://host:port` or `https://host:port`.
    pub fn parse(url: &str) -> anyhow::Result<Self> {
        if url.contains('@') {
            bail!(NO_SECRETS);
        }
        let wrong = || format!("the endpoint `{url}` is no URL, as http://127.0.0.1:9000 is");
        let uri: Uri = url.parse().with_context(wrong)?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => bail!("the endpoint `{url}` begins neither with http:// nor with https://"),
        };
        if uri.path() != "/" || uri.query().is_some() {
            bail!("the endpoint `{url}` has more than scheme, host and port");
        }
        let authority = uri.authority().with_context(wrong)?;
        let usual = if is_tls { 443 } else { 80 };
        let port = authority.port_u16().unwrap_or(usual);
        let host = authority.host();
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            authority: match port == usual {
                true => host.to_owned(),
                false => format!("{host}:{port}"),
            },
            is_tls,
        })
    }

    /// What the URL of everything on it begins with.
    pub fn url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}", self.authority)
    }
}

/// A request that is about to be signed and sent.
#[derive(Clone)]
pub struct Ask<'a> {
    /// Its operation, by its name in S3, for messages.
    pub operation: &'static str,
    pub method: Method,
    /// Empty for the list of buckets.
    pub bucket: &'a str,
    /// Empty for what is asked of a bucket.
    pub key: &'a str,
    /// Names and values, not encoded.
    pub query: Vec<(&'static str, String)>,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl<'a> Ask<'a> {
    /// A request without query, headers and body.
    pub fn new(operation: &'static str, method: Method, bucket: &'a str, key: &'a str) -> Self {
        Self {
            operation,
            method,
            bucket,
            key,
            query: Vec::new(),
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// With a parameter of the query.
    pub fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// With a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With a body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Its path, encoded.
    pub fn path(&self) -> String {
        match (self.bucket, self.key) {
            ("", _) => "/".to_owned(),
            (bucket, "") => format!("/{}", encode(bucket)),
            (bucket, key) => format!("/{}/{}", encode(bucket), encode_path(key)),
        }
    }

    fn about(&self) -> String {
        match (self.bucket, self.key) {
            ("", _) => self.operation.to_owned(),
            (bucket, "") => format!("{} {bucket}", self.operation),
            (bucket, key) => format!("{} {bucket}/{key}", self.operation),
        }
    }
}

/// A success, whose body is read from here.
pub struct Answer {
    /// Its headers.
    pub headers: HeaderMap,
    body: Incoming,
    /// Goes back when the body has been read.
    connection: Option<Connection>,
}

impl Answer {
    /// The next piece of the body; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let Some(frame) = patiently(self.body.frame()).await? else {
                // Only now another request may go over it.
                self.keep_connection();
                return Ok(None);
            };
            if let Ok(data) = frame.map_err(|error| lost(&error))?.into_data()
                && !data.is_empty()
            {
                return Ok(Some(data));
            }
        }
    }

    fn keep_connection(&mut self) {
        if let Some(connection) = self.connection.take() {
            lock(&connection.kept).push(connection.sender);
        }
    }

    /// All of it, when it is short.
    async fn text(mut self) -> Result<Bytes> {
        let body = Limited::new(&mut self.body, TEXT_BYTES_MAX);
        let read = patiently(body.collect()).await?;
        let text = read.map_err(|error| {
            Error::new(
                ErrorKind::ConnectionLost,
                format!("the answer broke off: {error}"),
            )
        })?;
        self.keep_connection();
        Ok(text.to_bytes())
    }
}

/// The client of one server.
pub struct Http {
    endpoint: Endpoint,
    signer: Mutex<Signer>,
    tls: Option<TlsConnector>,
    places: Arc<Semaphore>,
    kept: Kept,
}

type Kept = Arc<Mutex<Vec<SendRequest<Full<Bytes>>>>>;

/// A connection for as long as somebody uses it.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    kept: Kept,
    _place: OwnedSemaphorePermit,
}

impl Http {
    /// A client that connects with its first request. Trusts the certificates of `ca_file`, else those of the system.
    pub fn new(settings: Settings, ca_file: Option<PathBuf>) -> anyhow::Result<Self> {
        let endpoint = Endpoint::parse(&settings.endpoint)?;
        let tls = endpoint.is_tls.then(|| connector(ca_file)).transpose()?;
        Ok(Self {
            endpoint,
            signer: Mutex::new(Signer::new(settings.credentials, settings.region)),
            tls,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            kept: Kept::default(),
        })
    }

    /// The region that is signed for.
    pub fn region(&self) -> String {
        lock(&self.signer).region().to_owned()
    }

    /// Sends a request whose answer is a document.
    pub async fn document(&self, ask: &Ask<'_>) -> Result<Element> {
        let text = self.send(ask).await?.text().await;
        let text = text.map_err(|error| error.about(ask))?;
        let document = Element::parse(&text)
            .ok_or_else(|| Error::new(ErrorKind::Protocol, "the answer is no XML").about(ask))?;
        // Long work is answered with 200 before it has ended, and then with an error.
        match document.name() {
            "Error" => Err(refused(&document).about(ask)),
            _ => Ok(document),
        }
    }

    /// Sends a request whose answer has nothing but headers.
    pub async fn done(&self, ask: &Ask<'_>) -> Result<HeaderMap> {
        let answer = self.send(ask).await?;
        let headers = answer.headers.clone();
        answer.text().await.map_err(|error| error.about(ask))?;
        Ok(headers)
    }

    /// Sends a request, again when it fails in passing.
    pub async fn send(&self, ask: &Ask<'_>) -> Result<Answer> {
        let mut attempts = 1;
        loop {
            match self.send_once(ask).await {
                Ok(answer) => return Ok(answer),
                Err(error) if may_pass(&error) && attempts < ATTEMPTS_MAX => {
                    tokio::time::sleep(pause(attempts, error.retry_after)).await;
                    attempts += 1;
                }
                Err(error) => return Err(error.about(ask)),
            }
        }
    }

    async fn send_once(&self, ask: &Ask<'_>) -> Result<Answer> {
        let request = self.sign(ask)?;
        let (response, connection) = self.exchange(request).await?;
        let (head, body) = response.into_parts();
        let answer = Answer {
            headers: head.headers,
            body,
            connection: Some(connection),
        };
        if head.status.is_success() {
            return Ok(answer);
        }
        let headers = answer.headers.clone();
        // What cannot be read of an error changes nothing about its status.
        let text = answer.text().await.unwrap_or_default();
        let document = Element::parse(&text).unwrap_or_default();
        Err(refusal(head.status, &document, &headers))
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Connection)> {
        let bytes = request.body().size_hint().exact().unwrap_or_default();
        let patience = IDLE_TIMEOUT + Duration::from_secs(bytes / BYTES_PER_SECOND_MIN);
        let mut connection = self.connection().await?;
        loop {
            let (response, is_kept) = match connection {
                Connected::Kept(ref mut open) => (open.sender.send_request(request.clone()), true),
                Connected::Fresh(ref mut open) => {
                    (open.sender.send_request(request.clone()), false)
                }
            };
            match within(patience, response).await? {
                Ok(response) => return Ok((response, connection.into_inner())),
                // The server has closed it meanwhile, as it may.
                Err(error) if is_kept && (error.is_canceled() || error.is_incomplete_message()) => {
                    let place = connection.into_inner()._place;
                    connection = Connected::Fresh(self.connect(place).await?);
                }
                Err(error) => return Err(lost(&error)),
            }
        }
    }

    async fn connection(&self) -> Result<Connected> {
        let place = self.places.clone().acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        while let Some(sender) = { lock(&self.kept).pop() } {
            if sender.is_ready() {
                return Ok(Connected::Kept(Connection {
                    sender,
                    kept: self.kept.clone(),
                    _place: place,
                }));
            }
        }
        self.connect(place).await.map(Connected::Fresh)
    }

    async fn connect(&self, place: OwnedSemaphorePermit) -> Result<Connection> {
        let endpoint = &self.endpoint;
        let url = endpoint.url();
        let unavailable = |what: String| {
            Error::new(
                ErrorKind::Unavailable,
                format!("no connection to {url}: {what}"),
            )
        };
        let connecting = async {
            let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
            stream.set_nodelay(true)?;
            let Some(tls) = &self.tls else {
                return self.speak(stream).await;
            };
            let name =
                ServerName::try_from(endpoint.host.clone()).map_err(std::io::Error::other)?;
            self.speak(tls.connect(name, stream).await?).await
        };
        let sender = timeout(CONNECT_TIMEOUT, connecting)
            .await
            .map_err(|_| unavailable(format!("nothing within {CONNECT_TIMEOUT:?}")))?
            .map_err(|error| unavailable(error.to_string()))?;
        Ok(Connection {
            sender,
            kept: self.kept.clone(),
            _place: place,
        })
    }

    async fn speak(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> std::io::Result<SendRequest<Full<Bytes>>> {
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
        // The task ends with the connection; its errors reach the request that waits for an answer.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn sign(&self, ask: &Ask<'_>) -> Result<Request<Full<Bytes>>> {
        let timestamp = timestamp();
        let payload = hex(&Sha256::digest(&ask.body));
        let (path, query) = (ask.path(), canonical_query(&ask.query));
        let mut signer = lock(&self.signer);
        let token = signer.session_token().map(str::to_owned);
        let mut headers = vec![
            ("host", self.endpoint.authority.as_str()),
            ("x-amz-content-sha256", &payload),
            ("x-amz-date", &timestamp),
        ];
        headers.extend(
            token
                .as_deref()
                .map(|token| ("x-amz-security-token", token)),
        );
        headers.extend(
            ask.headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
        headers.sort_unstable();
        let authorization = signer.authorization(&Signable {
            method: ask.method.as_str(),
            path: &path,
            query: &query,
            headers: &headers,
            payload: &payload,
            timestamp: &timestamp,
        });
        drop(signer);
        let uri = match query.as_str() {
            "" => path,
            query => format!("{path}?{query}"),
        };
        let mut request = Request::builder().method(&ask.method).uri(uri);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if matches!(ask.method, Method::PUT | Method::POST) {
            request = request.header(header::CONTENT_LENGTH, ask.body.len());
        }
        let request = request
            .header(header::AUTHORIZATION, authorization)
            .body(Full::new(ask.body.clone()));
        request.map_err(|error| {
            Error::new(
                ErrorKind::InvalidArgument,
                format!("the request cannot be sent: {error}"),
            )
        })
    }
}

/// Of an internal error of a server nobody knows, so it is asked again too.
fn may_pass(error: &Error) -> bool {
    error.is_passing() || error.kind == ErrorKind::Internal
}

enum Connected {
    Kept(Connection),
    Fresh(Connection),
}

impl Connected {
    fn into_inner(self) -> Connection {
        let (Self::Kept(connection) | Self::Fresh(connection)) = self;
        connection
    }
}

/// A URL by which anybody may do what `ask` says, for so long.
pub fn link(
    signer: &mut Signer,
    endpoint: &Endpoint,
    ask: &Ask<'_>,
    expires_in: Duration,
) -> String {
    let path = ask.path();
    let query = signer.link(
        &Signable {
            method: ask.method.as_str(),
            path: &path,
            query: "",
            headers: &[("host", &endpoint.authority)],
            payload: "",
            timestamp: &timestamp(),
        },
        expires_in,
    );
    format!("{}{path}?{query}", endpoint.url())
}

fn timestamp() -> String {
    let now = jiff::Timestamp::now();
    now.strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn canonical_query(query: &[(&str, String)]) -> String {
    let mut encoded: Vec<_> = query
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    encoded.sort_unstable();
    encoded.join("&")
}

/// What trusts the certificates of `ca_file`, else those of the system.
fn connector(ca_file: Option<PathBuf>) -> anyhow::Result<TlsConnector> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?;
    let Some(path) = ca_file else {
        let config = builder
            .with_platform_verifier()
            .context("the certificates of the system cannot be read")?;
        return Ok(TlsConnector::from(Arc::new(config.with_no_client_auth())));
    };
    let unreadable = || format!("the certificates in {} cannot be read", path.display());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&path).with_context(unreadable)? {
        roots
            .add(certificate.with_context(unreadable)?)
            .with_context(unreadable)?;
    }
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// What an error answer says.
fn refusal(status: StatusCode, document: &Element, headers: &HeaderMap) -> Error {
    let code = document.text("Code").to_owned();
    let message = document.text("Message");
    let kind = kind_of(&code).unwrap_or(match status.as_u16() {
        304 => ErrorKind::NotModified,
        400 => ErrorKind::InvalidArgument,
        404 => ErrorKind::ObjectNotFound,
        403 => ErrorKind::PermissionDenied,
        401 => ErrorKind::Unauthenticated,
        412 => ErrorKind::PreconditionFailed,
        416 => ErrorKind::InvalidRange,
        429 => ErrorKind::RateLimited,
        502..=504 => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    });
    // A HEAD is answered without a document.
    let text = match (code.as_str(), message) {
        ("", _) => format!("{} ({})", kind.name(), status.as_u16()),
        (code, "") => code.to_owned(),
        (code, message) => format!("{message} ({code})"),
    };
    let after = headers.get(header::RETRY_AFTER);
    let after = after.and_then(|value| value.to_str().ok()?.parse().ok());
    Error {
        retry_after: after.map(Duration::from_secs),
        ..Error::new(kind, text)
    }
}

/// What an entry of an answer says about one of many keys.
pub fn refused(entry: &Element) -> Error {
    refusal(StatusCode::OK, entry, &HeaderMap::new())
}

fn kind_of(code: &str) -> Option<ErrorKind> {
    Some(match code {
        "NoSuchBucket" => ErrorKind::BucketNotFound,
        "NoSuchKey" => ErrorKind::ObjectNotFound,
        "NoSuchUpload" => ErrorKind::UploadNotFound,
        "BucketAlreadyOwnedByYou" | "BucketAlreadyExists" => ErrorKind::BucketExists,
        "BucketNotEmpty" => ErrorKind::BucketNotEmpty,
        "PreconditionFailed" => ErrorKind::PreconditionFailed,
        "OperationAborted" | "ConditionalRequestConflict" => ErrorKind::Conflict,
        "InvalidRange" => ErrorKind::InvalidRange,
        "EntityTooLarge" => ErrorKind::TooLarge,
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" => ErrorKind::Unauthenticated,
        "AccessDenied" => ErrorKind::PermissionDenied,
        "QuotaExceeded" => ErrorKind::QuotaExceeded,
        "InsufficientStorage" => ErrorKind::StorageFull,
        "BadDigest" | "XAmzContentSHA256Mismatch" => ErrorKind::ChecksumMismatch,
        "SlowDown" => ErrorKind::RateLimited,
        "ServiceUnavailable" => ErrorKind::Unavailable,
        "RequestTimeout" => ErrorKind::Timeout,
        "NotImplemented" => ErrorKind::Unsupported,
        _ => return None,
    })
}

impl Error {
    fn about(mut self, ask: &Ask<'_>) -> Self {
        self.text = format!("{}: {}", ask.about(), self.text).into();
        self
    }
}

/// The connection broke.
fn lost(error: &hyper::Error) -> Error {
    let cause = std::error::Error::source(error).map(|source| format!(": {source}"));
    let text = format!("the connection broke: {error}{}", cause.unwrap_or_default());
    Error::new(ErrorKind::ConnectionLost, text)
}

async fn patiently<T>(work: impl Future<Output = T>) -> Result<T> {
    within(IDLE_TIMEOUT, work).await
}

async fn within<T>(patience: Duration, work: impl Future<Output = T>) -> Result<T> {
    timeout(patience, work).await.map_err(|_| {
        let text = format!("nothing came from the server for {patience:?}");
        Error::new(ErrorKind::Timeout, text)
    })
}

/// A random part of a time that doubles with each attempt, and never less than the server wants.
pub fn pause(attempts: u32, wanted: Option<Duration>) -> Duration {
    let mut random = [0; 4];
    // Without randomness it is just longer.
    let _ = getrandom::fill(&mut random);
    let part = 1.0 - f64::from(u32::from_ne_bytes(random)) / f64::from(u32::MAX);
    let most = PAUSE * (1 << (attempts - 1).min(6));
    wanted.unwrap_or_default() + most.mul_f64(part)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is guarded here is whole between two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_scheme_host_and_port() {
        let parsed = |url| Endpoint::parse(url).unwrap();
        assert_eq!(
            parsed("http://127.0.0.1:9000").url(),
            "http://127.0.0.1:9000"
        );
        assert_eq!(parsed("http://s3.test:80/").authority, "s3.test");
        assert_eq!(parsed("https://s3.test").port, 443);
        assert_eq!(parsed("http://[::1]:9000").host, "::1");
        for url in ["localhost:9000", "http://a/b", "http://a?b", "", "ftp://a"] {
            assert!(Endpoint::parse(url).is_err(), "{url}");
        }
        let error = Endpoint::parse("http://id:geheim@h").unwrap_err();
        assert!(!format!("{error:#}").contains("geheim"));
    }

    #[test]
    fn a_refusal_is_named_by_its_code_or_its_status() {
        let said = |status: u16, xml: &str| {
            let document = Element::parse(xml.as_bytes()).unwrap_or_default();
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, "2".parse().unwrap())]);
            refusal(StatusCode::from_u16(status).unwrap(), &document, &headers)
        };
        let slow = said(
            503,
            "<Error><Code>SlowDown</Code><Message>Later.</Message></Error>",
        );
        assert_eq!(
            (slow.kind, slow.to_string().as_str()),
            (ErrorKind::RateLimited, "Later. (SlowDown)")
        );
        assert_eq!(slow.retry_after, Some(Duration::from_secs(2)));
        assert_eq!(said(404, "").to_string(), "ObjectNotFound (404)");
        assert!(said(502, "<html>").is_passing() && !said(500, "").is_passing());
        // The code wins.
        assert_eq!(
            said(404, "<Error><Code>NoSuchBucket</Code></Error>").kind,
            ErrorKind::BucketNotFound
        );
    }

    #[test]
    fn pauses_grow_and_keep_what_the_server_wants() {
        for attempt in 1..20 {
            assert!(pause(attempt, None) <= PAUSE * 64);
            assert!(pause(attempt, Some(Duration::from_secs(9))) >= Duration::from_secs(9));
        }
        let most = |attempt| (0..100).map(|_| pause(attempt, None)).max().unwrap();
        assert!(most(1) <= PAUSE && most(5) > PAUSE * 4);
    }

    #[test]
    fn queries_are_sorted_and_encoded() {
        let query = [("uploads", String::new()), ("prefix", "a b/ä&".into())];
        assert_eq!(canonical_query(&query), "prefix=a%20b%2F%C3%A4%26&uploads=");
        let ask = Ask::new("GetObject", Method::GET, "b", "a b/../c+d");
        assert_eq!(ask.path(), "/b/a%20b/../c%2Bd");
    }
}
