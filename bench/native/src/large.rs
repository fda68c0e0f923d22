//! A large object, and what the machine could do at best.

use std::{io::Write as _, process::Stdio, time::Instant};

use anyhow::Context;
use bytes::Bytes;
use jay_client::{Body, Client, Config};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::Command,
};

use crate::{Args, BUCKET, median};

/// Bytes that are sent at a time, and bytes that share a checksum.
const CHUNK: usize = 256 << 10;
const BLOCK: usize = 64 << 10;

pub async fn run(args: &Args) -> anyhow::Result<()> {
    let client = Client::new(Config::from_env()?)?;
    if !client.bucket_exists(BUCKET).await? {
        client.create_bucket(BUCKET).await?;
    }
    let mib = args.large;
    println!("\nMiB/s, medians of {} turns; one object of {mib} MiB", args.turns);
    let (mut gets, mut loops, mut puts, mut disks) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for turn in 0..=args.turns {
        let put = put(&client, mib).await?;
        let disk = write_file(args)?;
        let get = get(&client, mib).await?;
        let loop_back = loop_back(mib).await?;
        // The first turn is for warming up.
        if turn > 0 {
            gets.push(get);
            loops.push(loop_back);
            puts.push(put);
            disks.push(disk);
        }
    }
    client.bucket(BUCKET).delete("large").await?;
    let ratio = |of: &[f64], to: &[f64]| median(&of.iter().zip(to).map(|(a, b)| a / b).collect::<Vec<_>>());
    println!("GET  {:6.0}, loop-back with checksums {:6.0}: ratio {:.2}", median(&gets), median(&loops), ratio(&gets, &loops));
    println!("PUT  {:6.0}, a file written and synced {:6.0}: ratio {:.2}", median(&puts), median(&disks), ratio(&puts, &disks));
    Ok(())
}

fn rate(mib: usize, began: Instant) -> f64 {
    mib as f64 / began.elapsed().as_secs_f64()
}

/// A durable PUT without MD5 and SHA-256.
async fn put(client: &Client, mib: usize) -> anyhow::Result<f64> {
    let chunk = Bytes::from(vec![7; CHUNK]);
    let chunks = futures_of(chunk, mib << 20);
    let began = Instant::now();
    let body = Body::from_reader(chunks, Some((mib as u64) << 20));
    client.bucket(BUCKET).put("large", body).without_digests().await?;
    Ok(rate(mib, began))
}

/// So many bytes of the same chunk again and again.
fn futures_of(chunk: Bytes, size: usize) -> impl tokio::io::AsyncRead + Send + 'static {
    struct Repeated(Bytes, usize);
    impl tokio::io::AsyncRead for Repeated {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buf: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            let count = buf.remaining().min(self.1).min(self.0.len());
            buf.put_slice(&self.0[..count]);
            self.1 -= count;
            std::task::Poll::Ready(Ok(()))
        }
    }
    Repeated(chunk, size)
}

async fn get(client: &Client, mib: usize) -> anyhow::Result<f64> {
    let began = Instant::now();
    let mut object = client.bucket(BUCKET).get("large").await?;
    let mut size = 0;
    while let Some(bytes) = object.next_chunk().await? {
        size += bytes.len();
    }
    anyhow::ensure!(size == mib << 20, "{size} bytes came");
    Ok(rate(mib, began))
}

/// A file of the same size, written and synced.
fn write_file(args: &Args) -> anyhow::Result<f64> {
    let path = args.dir.join("bench-native.tmp");
    let chunk = vec![7; CHUNK];
    let began = Instant::now();
    let mut file = std::fs::File::create(&path)?;
    for _ in 0..(args.large << 20) / CHUNK {
        file.write_all(&chunk)?;
    }
    file.sync_data()?;
    let rate = rate(args.large, began);
    std::fs::remove_file(&path)?;
    Ok(rate)
}

/// Another process sends, this one reads; both checksum every block.
async fn loop_back(mib: usize) -> anyhow::Result<f64> {
    let mut sender = Command::new(std::env::current_exe()?)
        .args(["--sender", &mib.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(sender.stdout.take().context("it is piped")?).lines();
    let address = lines.next_line().await?.context("it tells where it listens")?;
    let mut stream = TcpStream::connect(address).await?;
    let mut chunk = vec![0; CHUNK];
    let mut sum = 0;
    let began = Instant::now();
    for _ in 0..(mib << 20) / CHUNK {
        stream.read_exact(&mut chunk).await?;
        sum ^= checksums(&chunk);
    }
    let rate = rate(mib, began);
    sender.wait().await?;
    anyhow::ensure!(sum == 0 || sum != 0, "it is used");
    Ok(rate)
}

/// See [`loop_back`].
pub async fn send(mib: usize) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let (mut stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let chunk = vec![7; CHUNK];
    let mut sum = 0;
    for _ in 0..(mib << 20) / CHUNK {
        sum ^= checksums(&chunk);
        stream.write_all(&chunk).await?;
    }
    std::hint::black_box(sum);
    Ok(())
}

fn checksums(chunk: &[u8]) -> u64 {
    let sums = chunk.chunks(BLOCK).map(|block| crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, block));
    sums.fold(0, |all, sum| all ^ sum)
}
