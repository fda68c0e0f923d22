//! `jay health`: is the server of this configuration ready? For containers and scripts.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustls::{ClientConnection, pki_types::ServerName};

use super::tls;
use crate::config::Config;

/// Longest wait for connection and answer, each.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Prints the answer of `/health/ready`; an error unless it is 200.
pub fn run(config: &Config) -> anyhow::Result<()> {
    let addr = config.admin_addr.connect_addr();
    let answer = ask(addr, tls::files(config).is_some())
        .with_context(|| format!("no answer from the admin port at {addr}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    print!("{body}");
    match head.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => bail!("not ready"),
    }
}

fn ask(addr: std::net::SocketAddr, speaks_tls: bool) -> anyhow::Result<String> {
    let stream = TcpStream::connect_timeout(&addr, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    if !speaks_tls {
        return exchange(stream, addr);
    }
    let name = ServerName::from(addr.ip());
    let connection = ClientConnection::new(tls::trusting_anybody()?, name)?;
    exchange(rustls::StreamOwned::new(connection, stream), addr)
}

fn exchange(mut stream: impl Read + Write, addr: std::net::SocketAddr) -> anyhow::Result<String> {
    write!(
        stream,
        "GET /health/ready HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.take(64 << 10).read_to_string(&mut answer)?;
    Ok(answer)
}
