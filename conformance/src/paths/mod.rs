//! The paths into the store, and the clients on them: how each driver and the system behind it are started.

pub mod engine;
mod s3;

use std::{
    path::{Path as FilePath, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use tempfile::TempDir;

use self::s3::Server;

/// A driver, and what it speaks to.
pub struct Path {
    /// The driver's name.
    pub name: String,
    program: PathBuf,
    arguments: Vec<PathBuf>,
    /// The server to start; the engine in process has none.
    jay: Option<PathBuf>,
}

/// What a driver speaks to, with a directory of its own.
pub struct System {
    server: Option<Server>,
    directory: TempDir,
}

impl Path {
    /// All of them.
    pub fn all(jay: &FilePath, python: &FilePath, suite: &FilePath) -> anyhow::Result<Vec<Self>> {
        let this = std::env::current_exe().context("this program has no path")?;
        Ok(vec![
            Self {
                name: "engine".into(),
                program: this,
                arguments: vec!["engine-driver".into()],
                jay: None,
            },
            Self {
                name: "boto3".into(),
                program: python.to_owned(),
                arguments: vec!["-B".into(), suite.join("drivers/python-boto3/driver.py")],
                jay: Some(jay.to_owned()),
            },
        ])
    }

    /// A driver that is a few lines of shell, with no system behind it.
    #[cfg(test)]
    pub fn of_script(script: &str) -> Self {
        Self {
            name: "shell".into(),
            program: "sh".into(),
            arguments: vec!["-c".into(), script.into()],
            jay: None,
        }
    }

    /// The server under test, if there is one.
    pub fn server(&self) -> Option<&FilePath> {
        self.jay.as_deref()
    }

    /// Starts the system; `fault` is one of its deliberate ones.
    pub fn start(&self, fault: Option<&str>) -> anyhow::Result<System> {
        let directory = TempDir::with_prefix("jay-conformance-")?;
        let start = |jay: &PathBuf| Server::start(jay, &directory.path().join("data"), fault);
        let server = self.jay.as_ref().map(start).transpose()?;
        Ok(System { server, directory })
    }

    /// The command that starts the driver.
    pub fn driver(&self, system: &System) -> Command {
        let mut command = Command::new(&self.program);
        s3::clean(&mut command)
            .args(&self.arguments)
            .env("JAY_CONFORMANCE_DIR", system.directory.path());
        if let Some(server) = &system.server {
            command.envs(server.client_variables());
        }
        command
    }
}
