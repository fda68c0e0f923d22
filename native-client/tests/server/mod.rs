//! The real server, which the build puts beside the tests.
#![allow(dead_code)] // Each test takes what it needs.

use std::{
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use jay_client::{Bucket, Client};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Of the admin API.
const ADMIN_TOKEN: &str = "an admin token for these tests only";

/// A server on ports of its own, ended with the test.
pub struct Server {
    process: Child,
    pub url: String,
    pub s3_endpoint: String,
    pub address: SocketAddr,
    admin: SocketAddr,
    _dir: TempDir,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub async fn start_with(variables: &[(&str, &str)]) -> Self {
        let beside = std::env::current_exe().unwrap();
        let jay = beside.ancestors().nth(2).unwrap().join("jay");
        assert!(
            jay.exists(),
            "build the server first: cargo build --profile ci -p jay-server --bins ({})",
            jay.display()
        );
        let dir = TempDir::with_prefix("jay-client-").unwrap();
        let ports = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [s3, admin, native] = ports.each_ref().map(|port| port.local_addr().unwrap());
        drop(ports);
        let process = Command::new(jay)
            .arg("serve")
            .env("JAY_DATA_DIR", dir.path().join("data"))
            .env("JAY_LISTEN_ADDR", s3.to_string())
            .env("JAY_ADMIN_ADDR", admin.to_string())
            .env("JAY_NATIVE_ADDR", native.to_string())
            .env("JAY_RATE_LIMIT", "0")
            .env("JAY_ADMIN_TOKEN", ADMIN_TOKEN)
            .env(
                "JAY_SIGNING_SECRET",
                "a signing secret for these tests only",
            )
            .env("JAY_SEED_TOKEN_ACCOUNT", "test")
            .env("JAY_SEED_TOKEN_ID", "id")
            .env("JAY_SEED_TOKEN_SECRET", "a secret of these tests")
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self {
            process,
            url: url(native),
            s3_endpoint: format!("http://{s3}"),
            address: native,
            admin,
            _dir: dir,
        };
        for _ in 0..400 {
            if Client::connect(&server.url).await.is_ok() {
                return server;
            }
            assert!(
                server.process.try_wait().unwrap().is_none(),
                "the server has ended"
            );
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the server does not answer");
    }

    /// What the admin API says of the connections that are open.
    pub async fn connections(&self) -> String {
        let mut stream = tokio::net::TcpStream::connect(self.admin).await.unwrap();
        let asked = format!(
            "GET /_jay/connections HTTP/1.1\r\nhost: jay\r\nconnection: close\r\nauthorization: Bearer {ADMIN_TOKEN}\r\n\r\n"
        );
        stream.write_all(asked.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    }

    /// Bytes of memory that the process has.
    pub fn memory(&self) -> usize {
        memory(&self.process.id().to_string())
    }

    pub async fn bucket(&self) -> Bucket {
        let client = Client::connect(&self.url).await.unwrap();
        client.create_bucket("bucket").await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// By which a server at this address is reached.
pub fn url(address: SocketAddr) -> String {
    format!("jay://id:a%20secret%20of%20these%20tests@{address}")
}

/// Bytes of memory that a process has; `self` is this one.
pub fn memory(process: &str) -> usize {
    let pages = std::fs::read_to_string(format!("/proc/{process}/statm")).unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// So many bytes that follow from a seed.
pub fn bytes(size: usize, seed: u64) -> Bytes {
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut all: Vec<u8> = std::iter::repeat_with(next)
        .take(size.div_ceil(8))
        .flatten()
        .collect();
    all.truncate(size);
    all.into()
}

/// Status and body of a request over plain HTTP.
pub async fn fetch(method: &str, url: &str, body: &str) -> (u16, String) {
    let (host, path) = url
        .strip_prefix("http://")
        .unwrap()
        .split_once('/')
        .unwrap();
    let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}
