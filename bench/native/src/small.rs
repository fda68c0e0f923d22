//! Small objects: closed loops of so many requests at a time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use aws_sdk_s3::{
    config::{Credentials, Region},
    presigning::PresigningConfig,
    primitives::ByteStream,
};
use bytes::Bytes;
use jay_client::{Client, Config};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::{Args, BUCKET, median};

/// Keys that are read and written.
const KEYS: usize = 256;

#[derive(Clone, Copy, PartialEq)]
enum Operation {
    Get,
    Put,
}

/// One who sends requests.
#[derive(Clone)]
enum Contender {
    Native(Client),
    Sdk(aws_sdk_s3::Client),
    Bare(Arc<Bare>),
}

/// What the bare loop sends: whole requests, by key.
struct Bare {
    address: String,
    gets: Vec<Bytes>,
    puts: Vec<Bytes>,
}

pub async fn run(args: &Args) -> anyhow::Result<()> {
    let body = Bytes::from(vec![b'x'; args.size]);
    let sdk = sdk()?;
    let v2 = native("v2").await?;
    if !v2.bucket_exists(BUCKET).await? {
        v2.create_bucket(BUCKET).await?;
    }
    for n in 0..KEYS {
        v2.bucket(BUCKET).put(key(n), body.clone()).await?;
    }
    let mut contenders = Vec::new();
    for name in &args.contenders {
        contenders.push((name.as_str(), match name.as_str() {
            "v2" => Contender::Native(v2.clone()),
            "v1" => Contender::Native(native("v1").await?),
            "sdk" => Contender::Sdk(sdk.clone()),
            "bare" => Contender::Bare(Arc::new(bare(&sdk, &body).await?)),
            other => bail!("there is no contender {other}: v2, v1, sdk, bare"),
        }));
    }
    println!("requests a second, medians of {} turns of {} s; objects of {} bytes", args.turns, args.seconds, args.size);
    let names: Vec<String> = contenders.iter().map(|(name, _)| format!("{name:>9}")).collect();
    println!("{:14}{}   v2 to bare, to v1 (medians of the ratios of one turn)", "", names.concat());
    for operation in [Operation::Get, Operation::Put] {
        for &concurrency in &args.concurrency {
            let mut rates = vec![Vec::new(); contenders.len()];
            for turn in 0..=args.turns {
                for (n, (name, contender)) in contenders.iter().enumerate() {
                    let rate = turn_of(args, contender, operation, concurrency, &body).await;
                    let rate = rate.with_context(|| (*name).to_owned())?;
                    // The first one is for warming up.
                    if turn > 0 {
                        rates[n].push(rate);
                    }
                }
            }
            let told: Vec<String> = rates.iter().map(|rates| format!("{:9.0}", median(rates))).collect();
            let of = |name: &str| contenders.iter().position(|(n, _)| *n == name);
            let ratio = |other: &str| match (of("v2"), of(other)) {
                (Some(v2), Some(other)) => {
                    let pairs = rates[v2].iter().zip(&rates[other]);
                    format!("{:6.2}", median(&pairs.map(|(a, b)| a / b).collect::<Vec<_>>()))
                }
                _ => String::new(),
            };
            let name = if operation == Operation::Get { "GET" } else { "PUT" };
            println!("{name} x {concurrency:<8}{}   {} {}", told.concat(), ratio("bare"), ratio("v1"));
        }
    }
    Ok(())
}

fn key(n: usize) -> String {
    format!("small/{n}")
}

async fn native(protocol: &str) -> anyhow::Result<Client> {
    let mut config = Config::from_env()?;
    config.set("protocol", protocol)?;
    let client = Client::new(config)?;
    client.ping().await?;
    Ok(client)
}

fn sdk() -> anyhow::Result<aws_sdk_s3::Client> {
    let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
    let credentials = Credentials::new(
        variable("AWS_ACCESS_KEY_ID")?,
        variable("AWS_SECRET_ACCESS_KEY")?,
        None,
        None,
        "environment",
    );
    let config = aws_sdk_s3::Config::builder()
        .behavior_version_latest()
        .credentials_provider(credentials)
        .region(Region::new("us-east-1"))
        .endpoint_url(variable("AWS_ENDPOINT_URL")?)
        .force_path_style(true)
        .http_client(aws_smithy_http_client::Builder::new().build_http());
    Ok(aws_sdk_s3::Client::from_conf(config.build()))
}

/// Whole requests with presigned URLs, so that the loop has nothing to compute.
async fn bare(sdk: &aws_sdk_s3::Client, body: &Bytes) -> anyhow::Result<Bare> {
    let hour = || PresigningConfig::expires_in(Duration::from_secs(3600));
    let mut made = Bare { address: String::new(), gets: Vec::new(), puts: Vec::new() };
    for n in 0..KEYS {
        let get = sdk.get_object().bucket(BUCKET).key(key(n)).presigned(hour()?).await?;
        let put = sdk.put_object().bucket(BUCKET).key(key(n)).presigned(hour()?).await?;
        let target = |url: &str| -> anyhow::Result<(String, String)> {
            let (authority, path) = url.trim_start_matches("http://").split_once('/').context("a URL has a path")?;
            Ok((authority.to_owned(), format!("/{path}")))
        };
        let (address, path) = target(get.uri())?;
        made.gets.push(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").into());
        let (_, path) = target(put.uri())?;
        let head = format!("PUT {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n", body.len());
        made.puts.push([head.as_bytes(), body].concat().into());
        made.address = address;
    }
    Ok(made)
}

/// Requests a second of one turn.
async fn turn_of(
    args: &Args,
    contender: &Contender,
    operation: Operation,
    concurrency: usize,
    body: &Bytes,
) -> anyhow::Result<f64> {
    let (is_over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut workers = JoinSet::new();
    for worker in 0..concurrency {
        let (contender, body) = (contender.clone(), body.clone());
        let (is_over, done) = (is_over.clone(), done.clone());
        workers.spawn(async move { work(contender, operation, worker, body, &is_over, &done).await });
    }
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs_f64(args.seconds)).await;
    let (count, took) = (done.load(Ordering::Relaxed), began.elapsed());
    is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    Ok(count as f64 / took.as_secs_f64())
}

async fn work(
    contender: Contender,
    operation: Operation,
    worker: usize,
    body: Bytes,
    is_over: &AtomicBool,
    done: &AtomicU64,
) -> anyhow::Result<()> {
    let mut bare = match &contender {
        Contender::Bare(bare) => {
            let stream = TcpStream::connect(&bare.address).await?;
            stream.set_nodelay(true)?;
            Some((stream, Vec::with_capacity(64 << 10)))
        }
        _ => None,
    };
    let mut n = worker * 31;
    while !is_over.load(Ordering::Relaxed) {
        n = (n + 1) % KEYS;
        let size = match (&contender, operation) {
            (Contender::Native(client), Operation::Get) => {
                client.bucket(BUCKET).get(key(n)).await?.bytes().await?.len()
            }
            (Contender::Native(client), Operation::Put) => {
                client.bucket(BUCKET).put(key(n), body.clone()).await?;
                body.len()
            }
            (Contender::Sdk(client), Operation::Get) => {
                let got = client.get_object().bucket(BUCKET).key(key(n)).send().await?;
                got.body.collect().await?.into_bytes().len()
            }
            (Contender::Sdk(client), Operation::Put) => {
                let body = ByteStream::from(body.clone());
                client.put_object().bucket(BUCKET).key(key(n)).body(body).send().await?;
                1024
            }
            (Contender::Bare(requests), operation) => {
                let (stream, input) = bare.as_mut().context("it was connected")?;
                match operation {
                    Operation::Get => {
                        stream.write_all(&requests.gets[n]).await?;
                        answer(stream, input).await?
                    }
                    Operation::Put => {
                        stream.write_all(&requests.puts[n]).await?;
                        answer(stream, input).await?;
                        body.len()
                    }
                }
            }
        };
        anyhow::ensure!(size == body.len() || size == 1024, "an answer of {size} bytes");
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Reads an answer: its status and length, and then so many bytes.
async fn answer(stream: &mut TcpStream, input: &mut Vec<u8>) -> anyhow::Result<usize> {
    input.clear();
    loop {
        if let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = std::str::from_utf8(&input[..end])?;
            anyhow::ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
            });
            let length: usize = length.context("an answer without length")?;
            while input.len() < end + 4 + length {
                anyhow::ensure!(stream.read_buf(input).await? > 0, "the connection ended");
            }
            return Ok(length);
        }
        anyhow::ensure!(stream.read_buf(input).await? > 0, "the connection ended");
    }
}
