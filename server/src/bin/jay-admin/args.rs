//! The command line of `jay-admin`.
//!
//! Names and flags are those of the original, whose flags have one dash: [`jay_server::args`] makes two of it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Speaks to the admin port of a Jay server as its operator.
///
/// The admin token is taken from JAY_ADMIN_TOKEN, or from a file. Tables are for terminals; anything else gets JSON.
/// Flags may be written with one dash or with two.
#[derive(Parser)]
#[command(name = "jay-admin", version, max_term_width = 100)]
pub struct Cli {
    /// The admin port, as a URL; http:// may be left out [default: JAY_ADMIN_ADDR, else http://localhost:9001]
    #[arg(long, global = true, value_name = "URL")]
    pub addr: Option<String>,
    /// The admin token; JAY_ADMIN_TOKEN or --token-file are better, for everybody on the machine sees arguments
    #[arg(long, global = true, value_name = "TOKEN", hide = true)]
    pub token: Option<String>,
    /// A file with the admin token [default: JAY_ADMIN_TOKEN_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The certificates that are trusted, in PEM, when the address begins with https:// [default: those of the system]
    #[arg(long, global = true, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Print JSON, on a terminal too
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Makes an account
    CreateAccount {
        /// What it is called
        #[arg(long, default_value = "", hide_default_value = true)]
        name: String,
    },
    /// Lists the accounts
    ListAccounts,
    /// Makes the access keys of an account useless until it is resumed
    SuspendAccount(Id),
    /// Ends the suspension of an account
    ResumeAccount(Id),
    /// Makes an access key, whose secret is shown this once
    CreateToken(CreateToken),
    /// Lists the access keys
    ListTokens {
        /// Only those of this account
        #[arg(long, value_name = "ID")]
        account: Option<String>,
    },
    /// Shows an access key
    ShowToken(Id),
    /// Revokes an access key, at once and for ever
    RevokeToken(Id),
    /// Makes a link that carries the rights of an access key
    Presign(Presign),
    /// Lists, shows, makes and deletes buckets
    #[command(subcommand)]
    Buckets(Buckets),
    /// Sets, shows, removes and explains policies of buckets
    #[command(subcommand)]
    Policy(Policy),
    /// Lets everybody read the objects of a bucket, or ends that
    SetPublic {
        /// The bucket
        #[arg(long)]
        bucket: String,
        /// Whether everybody may read
        #[arg(long, value_name = "true|false", default_value_t = true, action = clap::ArgAction::Set)]
        public: bool,
    },
    /// Limits the bytes in a bucket, or ends that
    SetQuota {
        /// The bucket
        #[arg(long)]
        bucket: String,
        /// Most bytes, or "none"
        #[arg(long, value_name = "N|none")]
        bytes: Quota,
    },
    /// Lists the objects in quarantine
    QuarantineList,
    /// Checks an object in quarantine again
    QuarantineRevalidate(Quarantined),
    /// Deletes all objects that are in quarantine, or one
    QuarantinePurge {
        /// The bucket, as the list shows it
        #[arg(long, requires = "key")]
        bucket_id: Option<String>,
        /// The key
        #[arg(long, requires = "bucket_id")]
        key: Option<String>,
    },
    /// Lists the open connections, and closes them
    #[command(subcommand)]
    Connections(Connections),
    /// Makes and lists full backups on the machine of the server
    #[command(subcommand)]
    Backup(Backup),
    /// Begins a pass of the scrubber, and shows how far it is
    #[command(subcommand)]
    Scrub(Scrub),
    /// Takes a snapshot of the index
    Snapshot,
    /// Checks the whole store
    Fsck {
        /// Look only whether all bodies are there, without reading them
        #[arg(long)]
        fast: bool,
    },
    /// Shows what the store has found in itself
    Upkeep,
    /// Shows the settings in effect, without secrets
    Config,
    /// Shows the metrics
    Metrics,
    /// Prints completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Writes the man pages into a directory
    Man {
        /// The directory
        dir: PathBuf,
    },
}

/// Names an account or an access key.
#[derive(Args)]
pub struct Id {
    /// Its id
    #[arg(long)]
    pub id: String,
}

/// Names an object in quarantine.
#[derive(Args)]
pub struct Quarantined {
    /// The bucket, as the list shows it
    #[arg(long)]
    pub bucket_id: String,
    /// The key
    #[arg(long)]
    pub key: String,
}

/// Options of `create-token`.
#[derive(Args)]
pub struct CreateToken {
    /// Id of the account that it belongs to
    #[arg(long, value_name = "ID")]
    pub account: String,
    /// What it is for
    #[arg(long, default_value = "", hide_default_value = true)]
    pub name: String,
    /// What it may do, such as object:get,object:list [default: everything]
    #[arg(long, value_delimiter = ',', value_name = "ACTIONS")]
    pub actions: Vec<String>,
    /// In which buckets [default: all that its account may use]
    #[arg(long, value_delimiter = ',', value_name = "BUCKETS")]
    pub buckets: Vec<String>,
    /// For which beginnings of keys [default: all]
    #[arg(long, value_delimiter = ',', value_name = "PREFIXES")]
    pub prefixes: Vec<String>,
    /// When it ends: a time such as 2030-01-31T00:00:00Z, or from now, such as 30d or 12h [default: never]
    #[arg(long, value_name = "WHEN")]
    pub expires: Option<String>,
}

/// Options of `presign`.
#[derive(Args)]
pub struct Presign {
    /// Id of the access key
    #[arg(long, value_name = "ID")]
    pub token_id: String,
    /// The bucket
    #[arg(long)]
    pub bucket: String,
    /// The key
    #[arg(long, default_value = "", hide_default_value = true)]
    pub key: String,
    /// GET, HEAD, PUT or DELETE
    #[arg(long, default_value = "GET")]
    pub method: String,
    /// How long it holds, in seconds, 604800 at most
    #[arg(long, default_value_t = 3600, value_name = "SECONDS")]
    pub expires: i64,
    /// Whose form it has
    #[arg(long, value_enum, default_value_t = Style::Jay)]
    pub style: Style,
}

/// The form of a link.
#[derive(Clone, Copy, ValueEnum)]
pub enum Style {
    /// Jay's own
    Jay,
    /// That of AWS
    #[value(name = "sigv4")]
    SigV4,
}

#[derive(Subcommand)]
pub enum Buckets {
    /// Lists all buckets
    List,
    /// Shows a bucket
    Show {
        /// Its name
        name: String,
    },
    /// Makes a bucket
    Create {
        /// Its name
        name: String,
        /// Id of the account that it shall belong to
        #[arg(long, value_name = "ID")]
        account: String,
    },
    /// Deletes a bucket, which must be empty
    Delete {
        /// Its name
        name: String,
    },
}

#[derive(Subcommand)]
pub enum Connections {
    /// Lists the open connections of all ports, and what they do
    List,
    /// Closes a connection, and gives up the request under way on it
    Close {
        /// Its id, as the list shows it
        #[arg(long, value_name = "N")]
        id: u64,
    },
}

#[derive(Subcommand)]
pub enum Backup {
    /// Makes a backup; the next one copies only what is new
    Create {
        /// Directory for the backups: an absolute path on the machine of the server
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// Remove all backups but the newest N
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        keep: Option<u32>,
    },
    /// Lists the backups in a directory, the newest first
    List {
        /// Directory of the backups: an absolute path on the machine of the server
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
    },
}

#[derive(Subcommand)]
pub enum Scrub {
    /// Begins a pass now, which checks the bytes of a share of everything, from where the last one ended
    Start {
        /// Check the bytes of everything
        #[arg(long)]
        everything: bool,
    },
    /// Shows how far the scrubber is
    Status,
}

#[derive(Subcommand)]
pub enum Policy {
    /// Sets the policy of a bucket
    Set {
        /// The bucket
        bucket: String,
        /// A file with the policy in JSON; - for standard input
        file: PathBuf,
    },
    /// Shows the policy of a bucket
    Get {
        /// The bucket
        bucket: String,
    },
    /// Removes the policy of a bucket
    Delete {
        /// The bucket
        bucket: String,
    },
    /// Says what decides about a request, and why
    Explain(Explain),
}

/// Options of `policy explain`.
#[derive(Args)]
pub struct Explain {
    /// The bucket
    pub bucket: String,
    /// What is done, such as object:get
    #[arg(long)]
    pub action: String,
    /// Id of the access key [default: a request without one]
    #[arg(long, value_name = "ID")]
    pub token_id: Option<String>,
    /// The object that it is about
    #[arg(long, conflicts_with = "prefix")]
    pub key: Option<String>,
    /// The prefix that it lists
    #[arg(long)]
    pub prefix: Option<String>,
    /// The address from which it comes
    #[arg(long)]
    pub ip: Option<String>,
}

/// A limit of bytes, or none.
#[derive(Clone, Copy)]
pub struct Quota(pub Option<u64>);

impl std::str::FromStr for Quota {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self(None)),
            text => text
                .parse()
                .map(|bytes| Self(Some(bytes)))
                .map_err(|_| "a number of bytes, or none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::CommandFactory as _;
    use jay_server::args::with_double_dashes;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        let args = line.split(' ').map(OsString::from);
        Cli::try_parse_from(with_double_dashes(args, &Cli::command()))
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_original_is_understood_with_one_dash_and_with_two() {
        for line in [
            "jay-admin -addr x:1 -token t create-account -name myapp",
            "jay-admin create-token -account a -name deploy",
            "jay-admin create-token -account=a -name=deploy -actions object:get,object:list -prefixes images/",
            "jay-admin list-tokens",
            "jay-admin revoke-token -id i",
            "jay-admin metrics",
            "jay-admin presign -bucket b -key k -token-id i -method PUT -expires 60",
            "jay-admin quarantine-list",
            "jay-admin quarantine-revalidate -bucket-id 1 -key k",
            "jay-admin quarantine-purge",
        ] {
            assert!(parse(line).is_ok(), "{line}");
            let twice = line.replace(" -", " --");
            assert!(parse(&twice).is_ok(), "{twice}");
        }
    }

    #[test]
    fn lists_are_split_at_commas() {
        let Command::CreateToken(asked) =
            parse("jay-admin create-token -account a -actions object:get,object:list")
                .unwrap()
                .command
        else {
            panic!("another command");
        };
        assert_eq!(asked.actions, ["object:get", "object:list"]);
        assert!(asked.buckets.is_empty() && asked.expires.is_none());
    }

    #[test]
    fn values_that_begin_with_a_dash_stay() {
        assert!(parse("jay-admin create-account -nonsense x").is_err());
        let Command::CreateAccount { name } = parse("jay-admin create-account -name=-odd")
            .unwrap()
            .command
        else {
            panic!("another command");
        };
        assert_eq!(name, "-odd");
    }

    #[test]
    fn quotas_are_numbers_or_none() {
        assert_eq!("17".parse::<Quota>().unwrap().0, Some(17));
        assert_eq!("none".parse::<Quota>().unwrap().0, None);
        assert!("1G".parse::<Quota>().is_err());
    }
}
