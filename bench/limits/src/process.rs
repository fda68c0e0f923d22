//! Jay as a child process: started on free ports of the loop-back, watched, stopped as an operator would.

use std::{
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const ACCESS_KEY_ID: &str = "JAYLIMITS";
/// Guards nothing but a benchmark on the loop-back.
const SECRET: &str = "jay-limits-0123456789-0123456789-0123456789";
/// How long a start or a stop may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The binary and how it is started.
pub struct Binary {
    /// Path of `jay`.
    pub path: PathBuf,
    /// Arguments that start the server.
    pub arguments: Vec<String>,
    /// Variables that it gets on top of its configuration.
    pub variables: Vec<(&'static str, &'static str)>,
}

impl Binary {
    /// The binary at `path`, which must be there.
    pub fn at(path: &Path, arguments: &[String]) -> anyhow::Result<Self> {
        let found = path.canonicalize();
        Ok(Self {
            path: found.with_context(|| format!("no jay binary at {}", path.display()))?,
            arguments: arguments.to_vec(),
            variables: Vec::new(),
        })
    }
}

/// A running server.
pub struct Server<'a> {
    binary: &'a Binary,
    child: Child,
    listen: SocketAddr,
    log: PathBuf,
}

impl<'a> Server<'a> {
    /// Starts the server on `data_dir` and waits until it is ready.
    pub fn start(binary: &'a Binary, data_dir: &Path) -> anyhow::Result<Self> {
        let [listen, admin, native] = free_addresses()?;
        let log = data_dir.with_extension("log");
        let output = File::options().create(true).append(true).open(&log)?;
        let child = Command::new(&binary.path)
            .args(&binary.arguments)
            .envs(binary.variables.iter().copied())
            .env("JAY_DATA_DIR", data_dir)
            .env("JAY_LISTEN_ADDR", listen.to_string())
            .env("JAY_ADMIN_ADDR", admin.to_string())
            .env("JAY_NATIVE_ADDR", native.to_string())
            .env("JAY_SIGNING_SECRET", SECRET)
            .env("JAY_ADMIN_TOKEN", SECRET)
            .env("JAY_SEED_TOKEN_ACCOUNT", "limits")
            .env("JAY_SEED_TOKEN_ID", ACCESS_KEY_ID)
            .env("JAY_SEED_TOKEN_SECRET", SECRET)
            .env("JAY_RATE_LIMIT", "0")
            .env(
                "JAY_LOG_LEVEL",
                std::env::var("JAY_LOG_LEVEL").unwrap_or("warn".into()),
            )
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("{} could not be started", binary.path.display()))?;
        let mut server = Self {
            binary,
            child,
            listen,
            log,
        };
        server.wait_until_ready(admin)?;
        Ok(server)
    }

    /// Where it serves S3.
    pub fn address(&self) -> SocketAddr {
        self.listen
    }

    /// What stands behind `Bearer` in a request to it.
    pub fn bearer() -> String {
        format!("{ACCESS_KEY_ID}:{SECRET}")
    }

    /// Runs `jay bench` against it with `arguments` and returns its report.
    pub fn bench(&self, arguments: &[String]) -> anyhow::Result<Value> {
        let output = Command::new(&self.binary.path)
            .args([
                "bench",
                "--json",
                "--endpoint",
                &format!("http://{}", self.listen),
            ])
            .args(arguments)
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .env_remove("AWS_SESSION_TOKEN")
            .env("AWS_REGION", "us-east-1")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!(
                "jay bench {} failed: {said}{}",
                arguments.join(" "),
                self.last_words()
            );
        }
        serde_json::from_slice(&output.stdout).context("the report of jay bench is not JSON")
    }

    /// Runs `work` while sampling the server's memory; answers also the mean and the peak of its resident set in bytes.
    pub fn watch_memory<T>(&self, work: impl FnOnce() -> T) -> anyhow::Result<(T, Memory)> {
        // Resets the peak (proc(5), clear_refs); where that is not allowed the peak is that of the whole life.
        let _ = std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5");
        let done = AtomicBool::new(false);
        let (outcome, samples) = thread::scope(|scope| {
            let sampler = scope.spawn(|| {
                let mut samples = Vec::new();
                while !done.load(Relaxed) {
                    samples.extend(self.status_bytes("VmRSS:"));
                    thread::sleep(Duration::from_millis(50));
                }
                samples
            });
            let outcome = work();
            done.store(true, Relaxed);
            (outcome, sampler.join().expect("the sampler does not panic"))
        });
        let peak_bytes = self
            .status_bytes("VmHWM:")
            .context("the server has ended")?;
        let mean_bytes = samples.iter().sum::<u64>() / samples.len().max(1) as u64;
        Ok((
            outcome,
            Memory {
                mean_bytes,
                peak_bytes,
            },
        ))
    }

    /// Sends SIGTERM and waits for the end; answers how long that took.
    pub fn stop(mut self) -> anyhow::Result<Duration> {
        let start = Instant::now();
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        while start.elapsed() < PATIENCE {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(start.elapsed()),
                Some(status) => bail!("the server ended with {status}{}", self.last_words()),
                None => thread::sleep(Duration::from_millis(1)),
            }
        }
        bail!(
            "the server did not end within {PATIENCE:?} of SIGTERM{}",
            self.last_words()
        )
    }

    fn status_bytes(&self, field: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let value = status.lines().find_map(|line| line.strip_prefix(field))?;
        Some(
            value
                .trim()
                .strip_suffix("kB")?
                .trim()
                .parse::<u64>()
                .ok()?
                * 1024,
        )
    }

    fn wait_until_ready(&mut self, admin: SocketAddr) -> anyhow::Result<()> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "the server ended at once with {status}{}",
                    self.last_words()
                );
            }
            if is_ready(admin) && TcpStream::connect(self.listen).is_ok() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(5));
        }
        bail!(
            "the server was not ready within {PATIENCE:?}{}",
            self.last_words()
        )
    }

    /// The end of the server's log, for messages.
    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(10).collect();
        lines
            .iter()
            .rev()
            .map(|line| format!("\n  | {line}"))
            .collect()
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        // After `stop` it has ended, and both answer an error that says so.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server's resident set.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Memory {
    /// Mean of the samples.
    pub mean_bytes: u64,
    /// The kernel's own peak (VmHWM).
    pub peak_bytes: u64,
}

fn is_ready(admin: SocketAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(admin)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream
            .write_all(b"GET /health/ready HTTP/1.1\r\nHost: jay\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.split(' ').nth(1) == Some("200"))
}

/// Addresses that nobody uses now. All are held until all are known, so they differ.
fn free_addresses() -> std::io::Result<[SocketAddr; 3]> {
    let listen = || TcpListener::bind("127.0.0.1:0");
    let held = [listen()?, listen()?, listen()?];
    let [a, b, c] = &held;
    Ok([a.local_addr()?, b.local_addr()?, c.local_addr()?])
}
