//! The stores that a command names, each opened once.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail};
use jay_client::{Client, Config, Options};
use zeroize::Zeroizing;

use super::{Settings, Store, Way, http::Http, native::Native, s3::S3};
use crate::cli::{place::Server, sign::Credentials};

/// How long a body may wait for a connection: as many wait as `jay` lets go at a time, and connections may be slow.
const POOL_TIMEOUT: Duration = Duration::from_secs(3600);

/// See the module.
#[derive(Default)]
pub struct Stores {
    args: StoreArgs,
    open: Mutex<HashMap<String, Arc<Store>>>,
}

/// How stores are reached.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct StoreArgs {
    /// The S3 server of s3:// places, and the one that links are for [default: $AWS_ENDPOINT_URL]
    #[arg(long, value_name = "URL")]
    pub endpoint_url: Option<String>,
    /// Region to sign for [default: $AWS_REGION, else $AWS_DEFAULT_REGION, else us-east-1]
    #[arg(long)]
    pub region: Option<String>,
    /// Trust the certificates in this PEM file instead of those of the system [default: $AWS_CA_BUNDLE]
    #[arg(long, value_name = "PATH")]
    pub ca_file: Option<PathBuf>,
}

impl Stores {
    /// Stores that are reached so.
    pub fn new(args: StoreArgs) -> Self {
        Self {
            args,
            open: Mutex::default(),
        }
    }

    /// The store on this server; the same one for the same server.
    pub fn open(&self, server: &Server) -> anyhow::Result<Arc<Store>> {
        let (name, config) = match server {
            Server::S3 => ("s3".to_owned(), None),
            native => {
                let config = self.config(native)?;
                (config.addresses.join(","), Some(config))
            }
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = open.get(&name) {
            return Ok(store.clone());
        }
        let store = Arc::new(Store::new(match config {
            Some(config) => Way::Native(Native::new(Client::new(config)?)),
            None => {
                let settings = self.settings(&Server::S3)?;
                Way::S3(S3::new(Http::new(settings, self.ca_file())?))
            }
        }));
        open.insert(name, store.clone());
        Ok(store)
    }

    /// Where the S3 server is, and who asks it. An access key of Jay's is the same on both ports.
    pub fn settings(&self, server: &Server) -> anyhow::Result<Settings> {
        let (endpoint, region) = (
            self.args.endpoint_url.as_deref(),
            self.args.region.as_deref(),
        );
        if *server == Server::S3 {
            return Settings::from_env(endpoint, region);
        }
        let config = self.config(server)?;
        let credentials = Credentials {
            access_key_id: config.token_id,
            secret_access_key: config.secret,
            session_token: None,
        };
        Settings::of(credentials, endpoint, region)
    }

    /// How the native protocol is spoken to a server.
    pub fn config(&self, server: &Server) -> anyhow::Result<Config> {
        let url = std::env::var("JAY_URL").ok().filter(|url| !url.is_empty());
        let known = url.map(|url| Config::parse(&Zeroizing::new(url)));
        let mut config = match (server, known) {
            // JAY_URL says how the same server is spoken to, and by whom.
            (Server::Native(url), Some(Ok(known))) if is_same(url, &known) => known,
            (Server::Native(url), _) => Config::parse(url)?,
            (_, Some(known)) => known.context("JAY_URL")?,
            (_, None) => bail!(
                "jay:/// is the server that JAY_URL names, which is not set: set it, or write jay://host:port/bucket/key"
            ),
        };
        if config.options.pool_timeout == Options::default().pool_timeout {
            config.options.pool_timeout = POOL_TIMEOUT;
        }
        config.ca_file = config.ca_file.or_else(|| self.ca_file());
        Ok(config)
    }

    fn ca_file(&self) -> Option<PathBuf> {
        let variable = || std::env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty());
        self.args
            .ca_file
            .clone()
            .or_else(|| variable().map(PathBuf::from))
    }
}

/// Whether `scheme://hosts` is the server of this configuration.
fn is_same(url: &str, known: &Config) -> bool {
    let Some((scheme, hosts)) = url.split_once("://") else {
        return false;
    };
    // Addresses are read with any access key.
    let named = Config::parse(&format!("{scheme}://any:any@{hosts}"));
    named.is_ok_and(|named| named.addresses == known.addresses && named.is_tls == known.is_tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_known_by_its_addresses() {
        let known = Config::parse("jay://id:secret@one,two:1/bucket?retries=2").unwrap();
        assert!(is_same("jay://one:4444,two:1", &known));
        for url in [
            "jays://one:4444,two:1",
            "jay://one",
            "jay://two:1,one",
            "jay://one,two",
        ] {
            assert!(!is_same(url, &known), "{url}");
        }
    }
}
