//! The real server, which the build puts beside the tests.
#![allow(dead_code)] // Each test takes what it needs.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use jay_client::{Bucket, Client};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A server on ports of its own, ended with the test.
pub struct Server {
    process: Child,
    pub url: String,
    pub s3_endpoint: String,
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
            .env("JAY_SEED_TOKEN_ACCOUNT", "test")
            .env("JAY_SEED_TOKEN_ID", "id")
            .env("JAY_SEED_TOKEN_SECRET", "a secret of these tests")
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let url = format!("jay://id:a%20secret%20of%20these%20tests@{native}");
        let mut server = Self {
            process,
            url,
            s3_endpoint: format!("http://{s3}"),
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
