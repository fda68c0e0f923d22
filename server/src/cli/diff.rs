//! `jay diff`: what differs between two trees. Nothing is written.

use std::{ffi::OsString, process::ExitCode};

use anyhow::bail;
use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use super::{
    Usage,
    carry::Root,
    compare::{By, difference},
    filter::Filter,
    pairs::{Pair, Pairs, Side},
    place::Place,
    store::{StoreArgs, Stores},
    teller::{TellArgs, Teller, shown},
    tree::{Entry, SymlinkArgs},
};

/// Comparisons that are under way at a time.
const AT_ONCE: usize = 32;
/// The end when it could not be compared.
const EXIT_TROUBLE: u8 = 2;

/// Options of `diff`.
#[derive(Clone, Debug, clap::Args)]
pub struct DiffArgs {
    /// A tree: a directory, or a prefix of a jay:// or s3:// place
    first: OsString,
    /// Another one
    second: OsString,
    /// Read all files, those too that have size and time of their object
    #[arg(long)]
    checksum: bool,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    symlinks: SymlinkArgs,
    #[command(flatten)]
    tell: TellArgs,
    #[command(flatten)]
    store: StoreArgs,
}

/// A difference, for programs.
#[derive(Serialize)]
struct Difference<'a> {
    key: &'a str,
    /// `first`, `second` or `both`.
    only_in: Option<&'static str>,
    /// Of what is in both: size or content.
    differs_in: Option<&'static str>,
}

/// 0 when nothing differs, 1 when something does, 2 when not everything could be compared.
pub async fn run(args: DiffArgs) -> anyhow::Result<ExitCode> {
    match compare(args).await {
        Ok(code) => Ok(code),
        Err(error) if error.is::<Usage>() => Err(error),
        Err(error) => {
            eprintln!("jay: {error:#}");
            Ok(ExitCode::from(EXIT_TROUBLE))
        }
    }
}

async fn compare(args: DiffArgs) -> anyhow::Result<ExitCode> {
    let stores = Stores::new(args.store);
    let first = Root::open(&Place::parse(&args.first)?, &stores)?;
    let second = Root::open(&Place::parse(&args.second)?, &stores)?;
    if let (Root::Directory(_), Root::Directory(_)) = (&first, &second) {
        bail!(Usage("neither place is in a store".into()));
    }
    first.must_be_there()?;
    second.must_be_there()?;
    let by = if args.checksum {
        By::Content
    } else {
        By::TimeOrContent
    };
    let symlinks = args.symlinks.symlinks();
    let pairs = Pairs::new(
        first.walk(&args.filter, symlinks),
        second.walk(&args.filter, symlinks),
    );
    let teller = Teller::new(args.tell, false);
    let ends = (&first, &second);
    let mut compared = stream::unfold(Some(pairs), |pairs| async {
        let mut pairs = pairs?;
        let pair = pairs.next().await?;
        let is_over = matches!(pair, Pair::End(..));
        Some((pair, (!is_over).then_some(pairs)))
    })
    .map(|pair| look(ends, pair, by))
    .buffered(AT_ONCE)
    .boxed_local();
    let mut differs = false;
    while let Some(outcome) = compared.next().await {
        match outcome {
            Outcome::Same => {}
            Outcome::Differs(key, only_in, differs_in) => {
                differs = true;
                tell(&teller, &key, only_in, differs_in);
            }
            Outcome::Failed(place, why) => teller.failed(&place, why),
        }
    }
    Ok(ExitCode::from(match (teller.failures(), differs) {
        (0, false) => 0,
        (0, true) => 1,
        _ => EXIT_TROUBLE,
    }))
}

enum Outcome {
    Same,
    Differs(String, Option<Side>, Option<&'static str>),
    Failed(String, String),
}

async fn look((first, second): (&Root, &Root), pair: Pair, by: By) -> Outcome {
    match pair {
        // They stand for directories, which nobody holds against each other.
        Pair::One(_, entry) if is_apart(&entry, first, second) => Outcome::Same,
        Pair::One(side, entry) => Outcome::Differs(entry.key, Some(side), None),
        Pair::Both(one, other) => match difference((first, &one), (second, &other), by).await {
            Ok(None) => Outcome::Same,
            Ok(what) => Outcome::Differs(one.key, None, what),
            Err(error) => Outcome::Failed(first.place_of(&one), format!("{error:#}")),
        },
        Pair::Problem(_, place, why) => Outcome::Failed(place, why),
        Pair::End(Side::Left, why) => Outcome::Failed(first.to_string(), why),
        Pair::End(Side::Right, why) => Outcome::Failed(second.to_string(), why),
    }
}

fn is_apart(entry: &Entry, first: &Root, second: &Root) -> bool {
    let has_directory = matches!(first, Root::Directory(_)) || matches!(second, Root::Directory(_));
    entry.is_directory_marker() && has_directory
}

fn tell(teller: &Teller, key: &str, only_in: Option<Side>, differs_in: Option<&'static str>) {
    let difference = Difference {
        key,
        only_in: only_in.map(|side| match side {
            Side::Left => "first",
            Side::Right => "second",
        }),
        differs_in,
    };
    teller.say(&difference, || match only_in {
        Some(Side::Left) => format!("< {}", shown(key)),
        Some(Side::Right) => format!("> {}", shown(key)),
        None => format!("! {} ({})", shown(key), differs_in.unwrap_or("content")),
    });
}
