//! Large bodies, interleaved: durable files, MD5, Jay over S3, and nginx serving a file of the same size take turns.
//!
//! Jay and nginx are read by the same few lines of blocking client, which throws away what it gets, so what is compared
//! are the servers. An upload must be hashed with MD5 for its ETag and be on the disk before it is answered: its limits
//! are MD5 on that many cores and files that are durable under their names, whichever is lower.

use std::{
    fmt,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use md5::{Digest, Md5};
use serde::Serialize;

use crate::{
    compare::median,
    files,
    process::{Binary, Server},
};

const MIB: usize = 1 << 20;
/// Keys of one writer, which it overwrites in turn.
const KEYS: u64 = 4;

/// Options of `jay-limits bodies`.
#[derive(clap::Args)]
pub struct BodiesArgs {
    /// The jay binary
    #[arg(long, value_name = "PATH")]
    jay: PathBuf,
    /// The nginx binary; without it nothing stands beside Jay's reads
    #[arg(long, value_name = "PATH")]
    nginx: Option<PathBuf>,
    /// A jay binary with planted bugs, which then reads without checking anything (see bench/README.md)
    #[arg(long, value_name = "PATH")]
    unverified: Option<PathBuf>,
    /// Only the reads take turns
    #[arg(long)]
    reads_only: bool,
    /// Rounds of each
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Length of a round in seconds
    #[arg(long, default_value_t = 3.0, value_parser = crate::seconds)]
    round_seconds: f64,
}

/// What takes turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Contender {
    File {
        mib: usize,
        writers: u32,
    },
    Md5 {
        cores: u32,
    },
    Put {
        mib: usize,
        writers: u32,
    },
    Get {
        mib: usize,
        readers: u32,
    },
    /// The same from a server that checks no sums.
    GetUnverified {
        mib: usize,
        readers: u32,
    },
    Nginx {
        mib: usize,
        readers: u32,
    },
}

/// What one contender did.
#[derive(Debug, Serialize)]
struct Line {
    contender: Contender,
    /// Median of the rounds.
    mib_per_s: f64,
    rounds: Vec<f64>,
}

/// Medians of the ratios of rounds of one turn.
#[derive(Debug, Serialize)]
struct Ratio {
    of: String,
    to: String,
    ratio: f64,
}

/// The result of an interleaved run.
#[derive(Debug, Serialize)]
pub struct Bodies {
    lines: Vec<Line>,
    ratios: Vec<Ratio>,
}

/// Runs all rounds in `dir`.
pub fn run(args: &BodiesArgs, dir: &Path) -> anyhow::Result<Bodies> {
    let binary = Binary::at(&args.jay, &[])?;
    let server = Server::start(&binary, &dir.join("store"))?;
    let jay = Target::of(&server)?;
    let mut unchecked = args
        .unverified
        .as_deref()
        .map(|path| Binary::at(path, &[]))
        .transpose()?;
    if let Some(binary) = &mut unchecked {
        binary.variables = vec![
            ("JAY_PLANT", "ReadUnchecked"),
            ("JAY_VERIFY_SAMPLE_RATE", "0"),
        ];
    }
    let unchecked_server = match &unchecked {
        Some(binary) => Some(Server::start(binary, &dir.join("store-unverified"))?),
        None => None,
    };
    let unverified = unchecked_server.as_ref().map(Target::of).transpose()?;
    let nginx = args.nginx.as_deref();
    let nginx = nginx.map(|nginx| Nginx::start(nginx, dir)).transpose()?;

    let mut contenders = vec![
        Contender::File { mib: 8, writers: 4 },
        Contender::Md5 { cores: 1 },
        Contender::Put { mib: 8, writers: 4 },
        Contender::File {
            mib: 64,
            writers: 2,
        },
        Contender::Md5 { cores: 2 },
        Contender::Put {
            mib: 64,
            writers: 2,
        },
        Contender::Get {
            mib: 64,
            readers: 2,
        },
    ];
    contenders.retain(|contender| !args.reads_only || matches!(contender, Contender::Get { .. }));
    contenders.extend(unverified.is_some().then_some(Contender::GetUnverified {
        mib: 64,
        readers: 2,
    }));
    contenders.extend(nginx.is_some().then_some(Contender::Nginx {
        mib: 64,
        readers: 2,
    }));
    let duration = Duration::from_secs_f64(args.round_seconds);
    let mut rounds = vec![Vec::new(); contenders.len()];
    for turn in 0..args.rounds as usize {
        for step in 0..contenders.len() {
            let at = (turn + step) % contenders.len();
            eprintln!("{}, turn {} of {}", contenders[at], turn + 1, args.rounds);
            let rate = match contenders[at] {
                Contender::File { mib, writers } => files::rate(dir, mib, writers, duration)?,
                Contender::Md5 { cores } => md5_rate(cores, duration),
                Contender::Put { mib, writers } => jay.put_rate(mib, writers, duration)?,
                Contender::Get { readers, .. } => {
                    get_rate(jay.address, "/bodies/file", jay.head(), readers, duration)?
                }
                Contender::GetUnverified { readers, .. } => {
                    let jay = unverified.as_ref().context("only with --unverified")?;
                    get_rate(jay.address, "/bodies/file", jay.head(), readers, duration)?
                }
                Contender::Nginx { readers, .. } => {
                    let nginx = nginx.as_ref().context("only with nginx")?;
                    get_rate(nginx.address, "/file", "", readers, duration)?
                }
            };
            rounds[at].push(rate);
        }
    }
    server.stop()?;
    if let Some(server) = unchecked_server {
        server.stop()?;
    }
    Ok(Bodies::new(&contenders, rounds))
}

impl Bodies {
    fn new(contenders: &[Contender], rounds: Vec<Vec<f64>>) -> Self {
        let at = |wanted: Contender| contenders.iter().position(|c| *c == wanted);
        let mut ratios = Vec::new();
        let mut compare = |of: Contender, to: Contender| {
            if let (Some(a), Some(b)) = (at(of), at(to)) {
                let pairs = rounds[a].iter().zip(&rounds[b]).map(|(a, b)| a / b);
                ratios.push(Ratio {
                    of: of.to_string(),
                    to: to.to_string(),
                    ratio: median(pairs).unwrap_or(f64::NAN),
                });
            }
        };
        for (mib, writers) in [(8, 4), (64, 2)] {
            let put = Contender::Put { mib, writers };
            compare(put, Contender::File { mib, writers });
            compare(put, Contender::Md5 { cores: 1 });
            compare(put, Contender::Md5 { cores: 2 });
        }
        let get = Contender::Get {
            mib: 64,
            readers: 2,
        };
        compare(
            get,
            Contender::GetUnverified {
                mib: 64,
                readers: 2,
            },
        );
        compare(
            get,
            Contender::Nginx {
                mib: 64,
                readers: 2,
            },
        );
        let lines = contenders
            .iter()
            .zip(rounds)
            .map(|(&contender, rounds)| Line {
                contender,
                mib_per_s: median(rounds.iter().copied()).unwrap_or(f64::NAN),
                rounds,
            });
        Self {
            lines: lines.collect(),
            ratios,
        }
    }
}

fn md5_rate(cores: u32, duration: Duration) -> f64 {
    let body = vec![b'x'; MIB];
    let start = Instant::now();
    let count: u64 = thread::scope(|scope| {
        let hash = || {
            let mut count = 0;
            while start.elapsed() < duration {
                std::hint::black_box(Md5::digest(std::hint::black_box(&body)));
                count += 1;
            }
            count
        };
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(hash)).collect();
        let counts = threads.into_iter().map(|thread| thread.join());
        counts
            .map(|count| count.expect("hashing does not panic"))
            .sum()
    });
    count as f64 / start.elapsed().as_secs_f64()
}

/// A server, and the head lines that it wants with each request.
struct Target {
    address: SocketAddr,
    authorization: String,
}

impl Target {
    /// Makes the bucket and the object that is read.
    fn of(server: &Server) -> anyhow::Result<Self> {
        let target = Self {
            address: server.address(),
            authorization: format!("Authorization: Bearer {}\r\n", Server::bearer()),
        };
        let mut connection = Connection::open(target.address)?;
        connection.put("/bodies", target.head(), &[], 0)?;
        connection.put("/bodies/file", target.head(), &vec![b'x'; MIB], 64)?;
        Ok(target)
    }

    fn head(&self) -> &str {
        &self.authorization
    }

    /// MiB per second that are durable under keys.
    fn put_rate(&self, mib: usize, writers: u32, duration: Duration) -> anyhow::Result<f64> {
        let body = vec![b'x'; MIB];
        let write = |writer: u32, end: Instant| {
            let mut connection = Connection::open(self.address)?;
            let mut count = 0;
            while Instant::now() < end {
                let path = format!("/bodies/{mib}-{writer}-{}", count % KEYS);
                connection.put(&path, self.head(), &body, mib)?;
                count += 1;
            }
            anyhow::Ok(count)
        };
        let per_s = in_parallel(writers, duration, write)?;
        Ok(per_s * mib as f64)
    }
}

/// MiB per second that arrive.
fn get_rate(
    address: SocketAddr,
    path: &str,
    head: &str,
    readers: u32,
    duration: Duration,
) -> anyhow::Result<f64> {
    let read = |_, end: Instant| {
        let mut connection = Connection::open(address)?;
        let mut bytes = 0;
        while Instant::now() < end {
            bytes += connection.get(path, head)?;
        }
        anyhow::Ok(bytes)
    };
    Ok(in_parallel(readers, duration, read)? / MIB as f64)
}

/// Runs `work` in threads until the time is over; the sum of what they did, per second.
fn in_parallel(
    threads: u32,
    duration: Duration,
    work: impl Fn(u32, Instant) -> anyhow::Result<u64> + Sync,
) -> anyhow::Result<f64> {
    let start = Instant::now();
    let total: anyhow::Result<u64> = thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..threads)
            .map(|number| scope.spawn(move || work(number, start + duration)))
            .collect();
        let done = threads.into_iter().map(|thread| thread.join());
        done.map(|count| count.expect("clients do not panic")).sum()
    });
    Ok(total? as f64 / start.elapsed().as_secs_f64())
}

/// One connection that is kept alive.
struct Connection {
    stream: BufReader<TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self {
            stream: BufReader::new(stream),
            buffer: vec![0; 256 << 10],
        })
    }

    /// Sends `piece` `times` times as one body.
    fn put(&mut self, path: &str, head: &str, piece: &[u8], times: usize) -> anyhow::Result<()> {
        let length = piece.len() * times;
        let request = format!(
            "PUT {path} HTTP/1.1\r\nHost: limits\r\n{head}Content-Length: {length}\r\n\r\n"
        );
        let stream = self.stream.get_mut();
        stream.write_all(request.as_bytes())?;
        (0..times).try_for_each(|_| stream.write_all(piece))?;
        let bytes = self.head(path)?;
        self.discard(bytes)
    }

    /// Reads a body and throws it away; its length.
    fn get(&mut self, path: &str, head: &str) -> anyhow::Result<u64> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: limits\r\n{head}\r\n");
        self.stream.get_mut().write_all(request.as_bytes())?;
        let bytes = self.head(path)?;
        self.discard(bytes)?;
        Ok(bytes)
    }

    /// Reads the head of an answer that must be 200; how long the body is.
    fn head(&mut self, path: &str) -> anyhow::Result<u64> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        if line.split(' ').nth(1) != Some("200") {
            bail!("{path} was answered with {}", line.trim());
        }
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let Some((name, value)) = line.split_once(':') else {
                return Ok(length);
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse()?;
            }
        }
    }

    fn discard(&mut self, mut bytes: u64) -> anyhow::Result<()> {
        while bytes > 0 {
            let most = self.buffer.len().min(bytes as usize);
            match self.stream.read(&mut self.buffer[..most])? {
                0 => bail!("the body broke off"),
                read => bytes -= read as u64,
            }
        }
        Ok(())
    }
}

/// nginx with a file of 64 MiB.
struct Nginx {
    child: Child,
    address: SocketAddr,
}

impl Nginx {
    fn start(binary: &Path, dir: &Path) -> anyhow::Result<Self> {
        let root = dir.join("nginx");
        std::fs::create_dir(&root)?;
        std::fs::write(root.join("file"), vec![b'x'; 64 * MIB])?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let here = root.display();
        let configuration = format!(
            "daemon off; worker_processes auto; pid {here}/pid; error_log {here}/error.log;\n\
             user root; events {{}}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;\n\
             server {{ listen {address}; root {here}; }} }}\n"
        );
        std::fs::write(root.join("nginx.conf"), configuration)?;
        let child = Command::new(binary)
            .arg("-p")
            .arg(&root)
            .arg("-c")
            .arg(root.join("nginx.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{} could not be started", binary.display()))?;
        let nginx = Self { child, address };
        for _ in 0..500 {
            if TcpStream::connect(address).is_ok() {
                return Ok(nginx);
            }
            thread::sleep(Duration::from_millis(10));
        }
        bail!("nginx does not listen: see {here}/error.log");
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it: it is asked, not killed.
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { mib, writers } => write!(f, "file {mib} MiB x {writers}"),
            Self::Md5 { cores } => write!(f, "md5 x {cores}"),
            Self::Put { mib, writers } => write!(f, "PUT {mib} MiB x {writers}"),
            Self::Get { mib, readers } => write!(f, "GET {mib} MiB x {readers}"),
            Self::GetUnverified { mib, readers } => write!(f, "unverified {mib} x {readers}"),
            Self::Nginx { mib, readers } => write!(f, "nginx {mib} MiB x {readers}"),
        }
    }
}

impl fmt::Display for Bodies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<20}{:>9}{:>16}", "", "MiB/s", "min..max")?;
        for line in &self.lines {
            let least = line.rounds.iter().copied().fold(f64::INFINITY, f64::min);
            let most = line.rounds.iter().copied().fold(0.0, f64::max);
            let name = line.contender.to_string();
            let range = format!("{least:.0}..{most:.0}");
            writeln!(f, "{name:<20}{:>9.0}{range:>16}", line.mib_per_s)?;
        }
        writeln!(f)?;
        for ratio in &self.ratios {
            writeln!(
                f,
                "{:<16} to {:<16}{:>6.2}",
                ratio.of, ratio.to, ratio.ratio
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_rounds_of_the_same_turn() {
        let (put, file) = (
            Contender::Put { mib: 8, writers: 4 },
            Contender::File { mib: 8, writers: 4 },
        );
        let rounds = vec![vec![50.0, 5.0, 40.0], vec![100.0, 10.0, 100.0]];
        let bodies = Bodies::new(&[put, file], rounds);
        assert_eq!(bodies.ratios.len(), 1);
        assert_eq!(bodies.ratios[0].ratio, 0.5);
        assert_eq!(bodies.lines[0].mib_per_s, 40.0);
    }
}
