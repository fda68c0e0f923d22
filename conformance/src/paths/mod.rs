//! The paths into the store, and the clients on them: how each driver and the system behind it are started.

mod asked;
pub mod engine;
pub mod native;
mod server;

use std::{
    path::{Path as FilePath, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use tempfile::TempDir;

use self::server::Server;

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
        let native = |version: &str| Self {
            name: format!("native-{version}"),
            program: this.clone(),
            arguments: vec!["native-driver".into(), version.into()],
            jay: Some(jay.to_owned()),
        };
        Ok(vec![
            Self {
                name: "engine".into(),
                program: this.clone(),
                arguments: vec!["engine-driver".into()],
                jay: None,
            },
            native("v1"),
            native("v2"),
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
        server::clean(&mut command)
            .args(&self.arguments)
            .env("JAY_CONFORMANCE_DIR", system.directory.path());
        if let Some(server) = &system.server {
            command.envs(server.client_variables());
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The capabilities that FORMAT.md gives a driver.
    fn told(driver: &str) -> BTreeSet<String> {
        let format = std::fs::read_to_string("FORMAT.md").unwrap();
        let (_, table) = format.split_once("### Capabilities").unwrap();
        let rows = table.lines().filter(|line| line.starts_with('|'));
        let mut rows = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
        let column = rows.next().unwrap().iter().position(|cell| *cell == driver);
        let column = column.unwrap();
        let rows = rows.skip(1).take_while(|row| row.len() == 8);
        let named = rows.filter(|row| row[column] == "x" || driver == "capability");
        let named = named.flat_map(|row| row[1].split(", ").collect::<Vec<_>>());
        named
            .map(|name| name.trim_matches('`').to_owned())
            .collect()
    }

    #[test]
    fn the_table_of_capabilities_is_true() {
        let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let v2 = [native::CAPABILITIES, native::CAPABILITIES_V2].concat();
        assert_eq!(told("engine"), of(engine::CAPABILITIES));
        assert_eq!(told("native-v1"), of(native::CAPABILITIES));
        assert_eq!(told("native-v2"), of(&v2));
        let driver = std::fs::read_to_string("drivers/python-boto3/driver.py").unwrap();
        let list = driver.split_once("CAPABILITIES = [").unwrap().1;
        let list = list.split_once(']').unwrap().0;
        let boto3: Vec<_> = list.split('"').skip(1).step_by(2).collect();
        assert_eq!(told("boto3"), of(&boto3));
        let schema = std::fs::read_to_string("scenario.schema.json").unwrap();
        let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
        let all = schema["$defs"]["capability"]["enum"].as_array().unwrap();
        let all: Vec<_> = all.iter().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(told("capability"), of(&all));
    }
}
