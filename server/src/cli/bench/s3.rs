//! One worker's client of S3: a kept-alive connection, signed requests, checked answers.

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
    header,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{error::Elapsed, timeout},
};

use super::{
    client::{Failure, LIST_PAGE_KEYS},
    content::{Content, ContentBody, Verifier},
};
use crate::cli::{
    sign::{Signable, Signer, UNSIGNED_PAYLOAD},
    store::Endpoint,
};

/// Most of an answer that is not a body: errors and listings.
const TEXT_BYTES_MAX: usize = 4 << 20;

impl Failure {
    /// From an error answer: its S3 code and message.
    pub fn answer(status: StatusCode, text: &str) -> Self {
        let code = match element(text, "Code") {
            Some(code) => code.to_owned(),
            None => format!("HTTP {}", status.as_u16()),
        };
        let detail = element(text, "Message").unwrap_or(text).to_owned();
        Self {
            code: code.into(),
            detail,
            status: Some(status),
        }
    }
}

/// The text of the first `<name>` in a small XML document.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

/// A client with at most one connection. A clone starts without one.
pub struct S3 {
    endpoint: Arc<Endpoint>,
    signer: Signer,
    timeout: Duration,
    sign_payload: bool,
    connection: Option<SendRequest<ContentBody>>,
    /// Kept-alive connections that the server closed under a request, which was then sent anew.
    pub reconnects: u64,
}

impl Clone for S3 {
    fn clone(&self) -> Self {
        Self {
            endpoint: self.endpoint.clone(),
            signer: self.signer.clone(),
            connection: None,
            reconnects: 0,
            ..*self
        }
    }
}

impl S3 {
    /// A client that connects with its first request.
    pub fn new(endpoint: Endpoint, signer: Signer, timeout: Duration, sign_payload: bool) -> Self {
        let endpoint = Arc::new(endpoint);
        Self {
            endpoint,
            signer,
            timeout,
            sign_payload,
            connection: None,
            reconnects: 0,
        }
    }

    /// Where it sends to.
    pub fn url(&self) -> String {
        self.endpoint.url()
    }

    /// Makes the bucket unless it is there; answers whether it was made.
    pub async fn ensure_bucket(&mut self, bucket: &str) -> Result<bool, Failure> {
        let path = format!("/{bucket}");
        let missing = match self
            .text(Method::HEAD, &path, "", ContentBody::text(""))
            .await
        {
            Ok(_) => return Ok(false),
            Err(failure) => failure,
        };
        if missing.status != Some(StatusCode::NOT_FOUND) {
            return Err(missing);
        }
        let configuration = match self.signer.region() {
            "us-east-1" => String::new(),
            region => format!(
                "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                 <LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
            ),
        };
        match self
            .text(Method::PUT, &path, "", ContentBody::text(configuration))
            .await
        {
            Ok(_) => Ok(true),
            Err(failure) if failure.code == "BucketAlreadyOwnedByYou" => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Removes the bucket; one that others still use stays.
    pub async fn delete_bucket(&mut self, bucket: &str) -> Result<(), Failure> {
        let path = format!("/{bucket}");
        match self
            .text(Method::DELETE, &path, "", ContentBody::text(""))
            .await
        {
            Err(failure) if failure.code != "BucketNotEmpty" => Err(failure),
            _ => Ok(()),
        }
    }

    /// Stores `content` at `path`.
    pub async fn put_object(&mut self, path: &str, content: Content) -> Result<(), Failure> {
        self.text(Method::PUT, path, "", ContentBody::new(content))
            .await
            .map(drop)
    }

    /// Reads the object at `path`, compares it with `expected` if that is known, and answers its size.
    pub async fn get_object(
        &mut self,
        path: &str,
        expected: Option<Content>,
    ) -> Result<u64, Failure> {
        let outcome = timeout(self.timeout, self.read_and_compare(path, expected)).await;
        self.settle(outcome)
    }

    async fn read_and_compare(
        &mut self,
        path: &str,
        expected: Option<Content>,
    ) -> Result<u64, Failure> {
        let answer = self
            .send(Method::GET, path, "", ContentBody::text(""))
            .await?;
        let mut body = successful(answer).await?.into_body();
        let mut verifier = expected.map(Verifier::new);
        let mut size = 0;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(Failure::connection)?.into_data() else {
                continue;
            };
            size += data.len() as u64;
            if let Some(verifier) = &mut verifier {
                verifier.update(&data).map_err(Failure::wrong_body)?;
            }
        }
        verifier
            .map_or(Ok(()), Verifier::finish)
            .map_err(Failure::wrong_body)?;
        Ok(size)
    }

    /// Asks for the object's size, and compares it with `expected` if that is known.
    pub async fn head_object(
        &mut self,
        path: &str,
        expected: Option<Content>,
    ) -> Result<(), Failure> {
        let (headers, _) = self
            .exchange(Method::HEAD, path, "", ContentBody::text(""))
            .await?;
        let size = headers.get(header::CONTENT_LENGTH);
        let size = size.and_then(|size| size.to_str().ok()?.parse::<u64>().ok());
        match expected {
            Some(content) if size != Some(content.size) => Err(Failure::wrong_body(format!(
                "Content-Length is {size:?} instead of {}",
                content.size
            ))),
            _ => Ok(()),
        }
    }

    /// Deletes the object at `path`.
    pub async fn delete_object(&mut self, path: &str) -> Result<(), Failure> {
        self.text(Method::DELETE, path, "", ContentBody::text(""))
            .await
            .map(drop)
    }

    /// Lists a page of the keys in `folder` above `start_after`; answers its size in bytes.
    pub async fn list_objects(
        &mut self,
        bucket: &str,
        folder: &str,
        start_after: &str,
    ) -> Result<u64, Failure> {
        let query = format!(
            "list-type=2&max-keys={LIST_PAGE_KEYS}&prefix={folder}%2F&start-after={folder}%2F{start_after}"
        );
        let path = format!("/{bucket}");
        let page = self
            .text(Method::GET, &path, &query, ContentBody::text(""))
            .await?;
        if !page.trim_end().ends_with("</ListBucketResult>") {
            return Err(Failure::wrong_body(format!("not a listing: {page:.80}")));
        }
        Ok(page.len() as u64)
    }

    /// Sends a request whose answer is small and returns that.
    async fn text(
        &mut self,
        method: Method,
        path: &str,
        query: &str,
        body: ContentBody,
    ) -> Result<String, Failure> {
        self.exchange(method, path, query, body)
            .await
            .map(|(_, text)| text)
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        query: &str,
        body: ContentBody,
    ) -> Result<(HeaderMap, String), Failure> {
        let limit = self.timeout;
        let outcome = timeout(limit, async {
            let answer = self.send(method, path, query, body).await?;
            let (head, body) = successful(answer).await?.into_parts();
            Ok((head.headers, read_text(body).await?))
        })
        .await;
        self.settle(outcome)
    }

    /// Makes a failure of a timeout; whatever leaves an answer half read also drops the connection.
    fn settle<T>(&mut self, outcome: Result<Result<T, Failure>, Elapsed>) -> Result<T, Failure> {
        let outcome = outcome.unwrap_or_else(|_| {
            let detail = format!("no complete answer within {:?}", self.timeout);
            Err(Failure {
                code: Failure::TIMEOUT.into(),
                detail,
                status: None,
            })
        });
        if outcome
            .as_ref()
            .is_err_and(|failure| failure.status.is_none())
        {
            self.connection = None;
        }
        outcome
    }

    /// Signs and sends. A kept-alive connection may close just then, which is not the request's fault: it is sent once
    /// more (RFC 9110, section 9.2.2: all requests here are idempotent).
    async fn send(
        &mut self,
        method: Method,
        path: &str,
        query: &str,
        body: ContentBody,
    ) -> Result<Response<Incoming>, Failure> {
        let request = self.sign(method, path, query, body)?;
        if let Some(mut kept) = self.connection.take()
            && kept.ready().await.is_ok()
        {
            match kept.send_request(request.clone()).await {
                Ok(answer) => {
                    self.connection = Some(kept);
                    return Ok(answer);
                }
                Err(error) if error.is_canceled() || error.is_incomplete_message() => {
                    self.reconnects += 1;
                }
                Err(error) => return Err(Failure::connection(error)),
            }
        }
        let mut fresh = self.connect().await?;
        let answer = fresh
            .send_request(request)
            .await
            .map_err(Failure::connection)?;
        self.connection = Some(fresh);
        Ok(answer)
    }

    async fn connect(&self) -> Result<SendRequest<ContentBody>, Failure> {
        let address = (self.endpoint.host.as_str(), self.endpoint.port);
        let stream = TcpStream::connect(address)
            .await
            .map_err(Failure::connection)?;
        stream.set_nodelay(true).map_err(Failure::connection)?;
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(Failure::connection)?;
        // The task ends with the connection; its errors reach the request that waits for an answer.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn sign(
        &mut self,
        method: Method,
        path: &str,
        query: &str,
        body: ContentBody,
    ) -> Result<Request<ContentBody>, Failure> {
        let timestamp = jiff::Timestamp::now()
            .strftime("%Y%m%dT%H%M%SZ")
            .to_string();
        let payload = match self.sign_payload {
            true => Cow::Owned(body.sha256()),
            false => Cow::Borrowed(UNSIGNED_PAYLOAD),
        };
        let token = self.signer.session_token().map(str::to_owned);
        let mut headers = vec![
            ("host", self.endpoint.authority.as_str()),
            ("x-amz-content-sha256", &payload),
            ("x-amz-date", &timestamp),
        ];
        if let Some(token) = &token {
            headers.push(("x-amz-security-token", token));
        }
        let authorization = self.signer.authorization(&Signable {
            method: method.as_str(),
            path,
            query,
            headers: &headers,
            payload: &payload,
            timestamp: &timestamp,
        });
        let uri = match query {
            "" => Cow::Borrowed(path),
            query => Cow::Owned(format!("{path}?{query}")),
        };
        let sends_body = method == Method::PUT;
        let mut request = Request::builder().method(method).uri(&*uri);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if sends_body {
            request = request.header(header::CONTENT_LENGTH, body.size());
        }
        request
            .header(header::AUTHORIZATION, authorization)
            .body(body)
            .map_err(Failure::connection)
    }
}

/// Passes a success on and makes a failure of everything else.
async fn successful(answer: Response<Incoming>) -> Result<Response<Incoming>, Failure> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let text = read_text(answer.into_body()).await.unwrap_or_default();
    Err(Failure::answer(status, &text))
}

async fn read_text(body: Incoming) -> Result<String, Failure> {
    let body = http_body_util::Limited::new(body, TEXT_BYTES_MAX);
    match body.collect().await {
        Ok(collected) => {
            let bytes: Bytes = collected.to_bytes();
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        Err(error) => {
            let detail = format!("the answer broke off: {error}");
            Err(Failure {
                code: Failure::CONNECTION.into(),
                detail,
                status: None,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_answer_is_named_by_its_code() {
        let xml =
            "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>Later.</Message></Error>";
        let failure = Failure::answer(StatusCode::SERVICE_UNAVAILABLE, xml);
        assert_eq!(failure.to_string(), "SlowDown: Later.");
        let bare = Failure::answer(StatusCode::BAD_GATEWAY, "");
        assert_eq!(bare.code, "HTTP 502");
    }
}
