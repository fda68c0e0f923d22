//! TCP between two threads of this machine: the limit of everything that is asked over a socket here.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use crate::row::{Row, histogram, record};

const SMALL_BYTES: usize = 1 << 10;
const LARGE_BYTES: usize = 64 << 20;
const CHUNK_BYTES: usize = 256 << 10;

/// Measures echoes of 1 KiB one after another, and 64 MiB in one direction.
pub fn limits(duration: Duration) -> anyhow::Result<Vec<Row>> {
    Ok(vec![echo(duration)?, stream(duration)?])
}

fn echo(duration: Duration) -> anyhow::Result<Row> {
    let (near, mut far) = pair()?;
    thread::spawn(move || -> std::io::Result<()> {
        let mut message = [0; SMALL_BYTES];
        loop {
            far.read_exact(&mut message)?;
            far.write_all(&message)?;
        }
    });
    let row = Row {
        name: "echo 1 KiB".into(),
        unit: "round trips",
        ..Row::default()
    };
    let message = [b'x'; SMALL_BYTES];
    measure(row, duration, SMALL_BYTES, near, |near| {
        near.write_all(&message)?;
        near.read_exact(&mut [0; SMALL_BYTES])
    })
}

fn stream(duration: Duration) -> anyhow::Result<Row> {
    let (near, mut far) = pair()?;
    thread::spawn(move || -> std::io::Result<()> {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let mut left = LARGE_BYTES;
            while left > 0 {
                let length = left.min(CHUNK_BYTES);
                match far.read(&mut chunk[..length])? {
                    0 => return Ok(()),
                    received => left -= received,
                }
            }
            far.write_all(b"k")?;
        }
    });
    let row = Row {
        name: "stream 64 MiB".into(),
        unit: "bodies",
        ..Row::default()
    };
    let chunk = vec![b'x'; CHUNK_BYTES];
    measure(row, duration, LARGE_BYTES, near, |near| {
        for _ in 0..LARGE_BYTES / CHUNK_BYTES {
            near.write_all(&chunk)?;
        }
        near.read_exact(&mut [0])
    })
}

fn measure(
    row: Row,
    duration: Duration,
    step_bytes: usize,
    mut near: TcpStream,
    mut step: impl FnMut(&mut TcpStream) -> std::io::Result<()>,
) -> anyhow::Result<Row> {
    let mut latencies = histogram();
    let start = Instant::now();
    while start.elapsed() < duration {
        let sent = Instant::now();
        step(&mut near)?;
        record(&mut latencies, sent.elapsed());
    }
    let per_s = latencies.len() as f64 / start.elapsed().as_secs_f64();
    let mib_per_s = Some(per_s * step_bytes as f64 / (1 << 20) as f64);
    Ok(Row {
        per_s,
        mib_per_s,
        ..row
    }
    .with_latencies(&latencies))
}

fn pair() -> std::io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    Ok((near, far))
}
