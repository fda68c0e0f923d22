//! The admin API of a running server, for the verbs that go through it when the store is in use.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use bytes::{Bytes, BytesMut};
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::tls;
use crate::{
    admin::{STORE, hex},
    config::Config,
    credentials::Credentials,
};

/// Longest line that is believed, in bytes.
const LINE_BYTES_MAX: usize = 64 << 20;

/// Calls the server of a configuration as its operator.
pub struct Operator {
    addr: std::net::SocketAddr,
    /// How to speak TLS, where the server does.
    tls: Option<Arc<ClientConfig>>,
    token: Zeroizing<String>,
    /// The store that is meant.
    store: Option<String>,
}

impl Operator {
    /// Takes the admin token from the configuration, else from the data directory.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let token = match &config.admin_token {
            Some(token) => token.clone(),
            None => Credentials::load(&config.data_dir)?
                .context(
                    "the admin token is not known here: set JAY_ADMIN_TOKEN as the server has it",
                )?
                .admin_token
                .clone(),
        };
        Ok(Self {
            addr: config.admin_addr.connect_addr(),
            tls: tls::files(config)
                .map(|files| tls::trusting(&files))
                .transpose()?,
            token,
            store: jay_engine::store_id(&config.data_dir).map(hex),
        })
    }

    /// Runs a job that answers in lines of JSON, each of which is handed to `on_line`.
    pub fn job(
        &self,
        path: &str,
        body: &Value,
        on_line: impl FnMut(Value) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(self.send(path, body, on_line))
    }

    async fn send(
        &self,
        path: &str,
        body: &Value,
        on_line: impl FnMut(Value) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let addr = self.addr;
        let stream = tokio::net::TcpStream::connect(addr).await;
        let stream = stream.with_context(|| {
            format!("the store is in use, but no server answers on the admin port {addr} (JAY_ADMIN_ADDR)")
        })?;
        let Some(tls) = &self.tls else {
            return self.send_over(stream, path, body, on_line).await;
        };
        let connector = TlsConnector::from(tls.clone());
        let stream = connector.connect(ServerName::from(addr.ip()), stream).await;
        let stream = stream.with_context(|| {
            format!("the server on the admin port {addr} does not have the certificate that is configured here")
        })?;
        self.send_over(stream, path, body, on_line).await
    }

    async fn send_over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        path: &str,
        body: &Value,
        mut on_line: impl FnMut(Value) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let addr = self.addr;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let bearer = Zeroizing::new(format!("Bearer {}", *self.token));
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, addr.to_string())
            .header(header::AUTHORIZATION, bearer.as_str())
            .header(header::CONTENT_TYPE, "application/json");
        let request = match &self.store {
            Some(store) => request.header(STORE, store),
            None => request,
        };
        let request = request.body(Full::<Bytes>::from(body.to_string()))?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let mut frames = answer.into_body();
        let mut rest = BytesMut::new();
        while let Some(frame) = frames.frame().await {
            let Ok(data) = frame.context("the server broke off")?.into_data() else {
                continue;
            };
            rest.extend_from_slice(&data);
            while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
                let line = rest.split_to(end + 1);
                let value: Value = serde_json::from_slice(&line)?;
                match value.get("error").and_then(Value::as_str) {
                    // A job that fails later has begun its answer already.
                    Some(error) if status.is_success() => bail!("the server answers: {error}"),
                    Some(error) => bail!("the server answers: {error} ({status})"),
                    None => on_line(value)?,
                }
            }
            if rest.len() > LINE_BYTES_MAX {
                bail!("the server sends a line without end");
            }
        }
        drop(sender);
        connection.abort();
        Ok(())
    }
}
