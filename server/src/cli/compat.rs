//! The command line of another store, so that a test set-up changes only its image: `server [options] DIR`.

use std::path::PathBuf;

use crate::config::{Config, ListenAddr};

/// Options of `server`.
#[derive(clap::Args)]
pub struct ServerArgs {
    /// Where everything is kept
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Where S3 is served
    #[arg(long, value_name = "ADDRESS")]
    address: Option<ListenAddr>,
    /// Where the admin API is
    #[arg(long, value_name = "ADDRESS")]
    console_address: Option<ListenAddr>,
}

impl ServerArgs {
    /// The configuration with what the command line says.
    pub fn over(self, config: Config) -> Config {
        Config {
            data_dir: self.dir,
            listen_addr: self.address.unwrap_or(config.listen_addr),
            admin_addr: self.console_address.unwrap_or(config.admin_addr),
            ..config
        }
    }
}

/// What test set-ups of another store wait for on the standard output.
pub const STARTED: &str = "Status:         1 Online, 0 Offline. ";
