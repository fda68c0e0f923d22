//! A `jay` of its own for a driver that speaks to a server: zero configuration, free ports, a new data directory.

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

/// The smallest part that the server under test takes, so that scenarios stay small.
const PART_BYTES_MIN: &str = "65536";
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A server that runs until it is dropped.
pub struct Server {
    child: Child,
    connection: Connection,
    /// Where the native protocol is spoken, without the access key.
    native_url: String,
}

/// What `jay print-config --json` says.
#[derive(Deserialize)]
struct Connection {
    endpoint_url: String,
    region: String,
    access_key_id: String,
    secret_access_key: String,
}

impl Server {
    /// Starts `jay` on `data` and waits until it is ready.
    pub fn start(jay: &Path, data: &Path, fault: Option<&str>) -> anyhow::Result<Self> {
        let [s3, admin, native] = free_ports()?.map(|port| format!("127.0.0.1:{port}"));
        let command = |verb: &str| {
            let mut command = Command::new(jay);
            clean(&mut command)
                .arg(verb)
                .env("JAY_DATA_DIR", data)
                .env("JAY_LISTEN_ADDR", &s3)
                .env("JAY_ADMIN_ADDR", &admin)
                .env("JAY_NATIVE_ADDR", &native)
                .env("JAY_S3_MIN_PART_SIZE", PART_BYTES_MIN)
                .env("JAY_RATE_LIMIT", "0")
                .stdin(Stdio::null());
            command
        };
        let log: PathBuf = data.with_extension("log");
        let out = File::create(&log)?;
        let mut serve = command("serve");
        serve.stdout(out.try_clone()?).stderr(out);
        if let Some(fault) = fault {
            serve.env("JAY_PLANT", fault);
        }
        let child = serve.spawn();
        let mut child =
            child.with_context(|| format!("{} does not start (--jay PATH)", jay.display()))?;
        let ready = || {
            let health = command("health")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            health.is_ok_and(|status| status.success())
        };
        if let Err(error) = wait(&mut child, ready) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error.context(std::fs::read_to_string(&log).unwrap_or_default()));
        }
        let told = command("print-config").arg("--json").output()?;
        ensure!(told.status.success(), "jay print-config failed");
        let connection = serde_json::from_slice(&told.stdout)?;
        Ok(Self {
            child,
            connection,
            native_url: format!("jay://{native}"),
        })
    }

    /// What clients read their connection from.
    pub fn client_variables(&self) -> [(&'static str, &str); 9] {
        let connection = &self.connection;
        [
            ("AWS_ENDPOINT_URL", &connection.endpoint_url),
            ("AWS_ACCESS_KEY_ID", &connection.access_key_id),
            ("AWS_SECRET_ACCESS_KEY", &connection.secret_access_key),
            ("AWS_DEFAULT_REGION", &connection.region),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
            ("JAY_URL", &self.native_url),
            ("JAY_TOKEN_ID", &connection.access_key_id),
            ("JAY_TOKEN_SECRET", &connection.secret_access_key),
        ]
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nothing of the caller's shell may change what is tested.
pub fn clean(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("AWS_") || text.starts_with("JAY_") {
            command.env_remove(&name);
        }
    }
    command
}

fn wait(child: &mut Child, ready: impl Fn() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + START_TIMEOUT;
    while !ready() {
        if let Some(status) = child.try_wait()? {
            bail!("the server ended with {status}");
        }
        ensure!(
            Instant::now() < deadline,
            "the server was not ready in time"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn free_ports() -> anyhow::Result<[u16; 3]> {
    let listeners = [
        TcpListener::bind("127.0.0.1:0")?,
        TcpListener::bind("127.0.0.1:0")?,
        TcpListener::bind("127.0.0.1:0")?,
    ];
    let port = |i: usize| listeners[i].local_addr().map(|address| address.port());
    Ok([port(0)?, port(1)?, port(2)?])
}
