//! The log line of one request, written when its answer has ended or when it was given up; it is counted here
//! too, so that no front can forget that.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::StatusCode;

use super::{Front, Http, Protocol, Shared, client::client, connection::Link, connections::Shown};
use crate::metrics::{Ended, Outcome, PortMetrics};

/// What a front knows of a request that the log should tell.
pub struct RequestContext {
    /// 16 hex digits, given to the caller too.
    pub request_id: String,
    /// Who connected.
    pub peer: IpAddr,
    /// Who sent the request: the peer, or the client that a trusted proxy names. Never an IPv4 address in IPv6 form.
    pub client: IpAddr,
    /// The path as the log tells it: without the query, for presigned ones carry signatures, and what matters of it is
    /// in the operation.
    pub path: String,
    /// The operation's S3 name, or "" while it is not known.
    pub operation: &'static str,
    /// Access key id of the caller, once proven.
    pub token_id: Option<String>,
    /// The bucket that is addressed.
    pub bucket: Option<String>,
    /// The key that is addressed.
    pub key: Option<String>,
    /// The code of the error that was answered.
    pub error_code: Option<&'static str>,
    /// The caller's proof of who it is was wrong, and that is why it was refused.
    pub auth_failed: bool,
    /// Bytes of the object that came in, after transfer codings were taken off; the listener's own count
    /// of the raw body stands in while this is 0.
    pub bytes_in: u64,
    link: Link,
}

/// Longest name of a bucket that is shown: longer ones are none, and would fill the memory.
const SHOWN_BUCKET_BYTES_MAX: usize = 63;

impl RequestContext {
    /// Shows what is known of the request to who looks at the open connections. A front calls it before the work.
    pub fn show(&self) {
        let bucket = self.bucket.clone();
        self.link.lock().shown = Shown {
            operation: self.operation,
            bucket: bucket.filter(|name| name.len() <= SHOWN_BUCKET_BYTES_MAX),
            token_id: self.token_id.clone(),
        };
    }

    /// Lets what the operation is be shown from where it is found out.
    pub fn window(&self) -> Window {
        Window(self.link.clone())
    }

    fn is_shown(&self) -> bool {
        self.link.lock().shown.operation == self.operation
    }
}

/// Through which one request is seen from outside; cheap to clone.
#[derive(Clone)]
pub struct Window(Link);

impl Window {
    /// Shows the name of the operation.
    pub fn show(&self, operation: &'static str) {
        self.0.lock().shown.operation = operation;
    }
}

/// One request from its head to the end of its answer. Dropping it writes the line.
pub struct Record {
    /// What the front adds.
    pub context: RequestContext,
    method: http::Method,
    started: Instant,
    head: Option<(StatusCode, Duration)>,
    bytes_in: Arc<AtomicU64>,
    bytes_out: u64,
    complete: bool,
    logged: bool,
    metrics: Arc<PortMetrics>,
}

impl Record {
    /// A request that begins, from `client` by way of `peer`; `path` is what the log shows of what it addresses.
    pub fn new<P: Protocol>(
        method: http::Method,
        path: String,
        (peer, client): (IpAddr, IpAddr),
        shared: &Shared<P>,
        link: Link,
    ) -> Self {
        let context = RequestContext {
            request_id: request_id(),
            peer,
            client,
            path,
            operation: "",
            token_id: None,
            bucket: None,
            key: None,
            error_code: None,
            auth_failed: false,
            bytes_in: 0,
            link,
        };
        Self {
            context,
            method,
            started: Instant::now(),
            head: None,
            bytes_in: Arc::default(),
            bytes_out: 0,
            complete: false,
            logged: P::LOGGED,
            metrics: shared.metrics.clone(),
        }
    }

    pub(super) fn of_http<B, F: Front>(
        request: &http::Request<B>,
        peer: IpAddr,
        shared: &Shared<Http<F>>,
        link: Link,
    ) -> Self {
        let client = client(peer, request.headers(), &shared.edge.proxies);
        // Without the query: presigned ones carry signatures, and what matters of it is in the operation.
        let path = request.uri().path().to_owned();
        Self::new(request.method().clone(), path, (peer, client), shared, link)
    }

    /// The counter of the raw body.
    pub(super) fn bytes_in(&self) -> Arc<AtomicU64> {
        self.bytes_in.clone()
    }

    /// The front has answered.
    pub fn answered(&mut self, status: StatusCode) {
        // A front may have learned only now what the request is.
        if !self.context.is_shown() {
            self.context.show();
        }
        self.head = Some((status, self.started.elapsed()));
    }

    /// `bytes` of the answer's body are on their way.
    pub fn sent(&mut self, bytes: u64) {
        self.bytes_out += bytes;
        self.context.link.lock().piece(true);
    }

    /// The peer has taken all of that, or nearly so.
    pub fn taken(&mut self) {
        self.context.link.lock().piece(false);
    }

    /// The whole answer is on its way.
    pub fn complete(&mut self) {
        self.complete = true;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let context = &self.context;
        context.link.lock().request_ended();
        let status = self.head.map_or(0, |(status, _)| status.as_u16());
        // An answer to HEAD has no body to send, whatever length it tells.
        let complete = self.complete || (self.head.is_some() && self.method == http::Method::HEAD);
        let bytes_in = match context.bytes_in {
            0 => self.bytes_in.load(Ordering::Relaxed),
            bytes => bytes,
        };
        let took = self.started.elapsed();
        self.metrics.request(&Ended {
            operation: context.operation,
            outcome: Outcome::of(status, complete),
            error_code: context.error_code,
            auth_failed: context.auth_failed,
            took,
            bytes_in,
            bytes_out: self.bytes_out,
        });
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    request_id = context.request_id,
                    method = self.method.as_str(),
                    path = context.path,
                    operation = context.operation,
                    token_id = context.token_id,
                    bucket = context.bucket,
                    key = context.key,
                    status,
                    error_code = context.error_code,
                    // The peer went away before the answer's end.
                    aborted = (!complete).then_some(true),
                    bytes_in,
                    bytes_out = self.bytes_out,
                    ttfb_ms = self.head.map(|(_, after)| milliseconds(after)),
                    total_ms = milliseconds(took),
                    client = %context.client,
                    peer = %context.peer,
                    "request"
                )
            };
        }
        match self.logged {
            true => line!(info),
            false => line!(debug),
        }
    }
}

/// Milliseconds with three decimals.
fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// 16 random hex digits.
fn request_id() -> String {
    let mut bytes = [0; 8];
    // Only a name: should the system have no randomness, the time will do.
    if getrandom::fill(&mut bytes).is_err() {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        bytes = (now.as_nanos() as u64).to_be_bytes();
    }
    format!("{:016x}", u64::from_be_bytes(bytes))
}
