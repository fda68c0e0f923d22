//! The command line of `jay-admin`.
//!
//! Names and flags are those of the original, whose flags have one dash: [`with_double_dashes`] makes two of it.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

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
    /// Makes a full backup on the machine of the server
    Backup {
        /// Directory for the backups: an absolute path there
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// Remove all backups but the newest N
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        keep: Option<u32>,
    },
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

/// `args` with a second dash before each long flag that has one.
pub fn with_double_dashes(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let names = long_flags(&Cli::command());
    let mut is_over = false;
    let double = |arg: OsString| {
        is_over |= arg == "--";
        let name = arg
            .to_str()
            .and_then(|text| text.strip_prefix('-')?.split('=').next());
        match name.is_some_and(|name| !is_over && names.iter().any(|known| known == name)) {
            true => [OsString::from("-"), arg].into_iter().collect(),
            false => arg,
        }
    };
    args.into_iter().map(double).collect()
}

fn long_flags(command: &clap::Command) -> Vec<String> {
    let own = command
        .get_arguments()
        .filter_map(|arg| arg.get_long())
        .map(str::to_owned);
    let below = command.get_subcommands().flat_map(long_flags);
    own.chain(below)
        .chain(["help".to_owned(), "version".to_owned()])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        let args = line.split(' ').map(OsString::from);
        Cli::try_parse_from(with_double_dashes(args))
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
