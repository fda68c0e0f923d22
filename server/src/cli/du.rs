//! `jay du`: how much is where.

use std::{collections::BTreeMap, ffi::OsString, process::ExitCode};

use anyhow::bail;
use serde_json::json;

use super::{
    carry::Root,
    filter::Filter,
    ls::remote_with_bucket,
    place::Place,
    store::{StoreArgs, Stores},
    teller::{TellArgs, Teller, human, shown},
    tree::{Found, Symlinks},
};

/// Options of `du`.
#[derive(Clone, Debug, clap::Args)]
pub struct UsageArgs {
    /// A bucket or prefix of a jay:// or s3:// place
    place: OsString,
    /// How many levels below it are told apart; 0: only the whole
    #[arg(long, short, default_value_t = 1, value_name = "N")]
    depth: usize,
    /// Sizes as 1.5 MiB
    #[arg(long, short = 'H')]
    human_readable: bool,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    tell: TellArgs,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Clone, Copy, Default)]
struct Amount {
    objects: u64,
    bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// Each prefix, and the whole at the end.
pub async fn run(args: UsageArgs) -> anyhow::Result<ExitCode> {
    let place = remote_with_bucket(&args.place)?;
    let root = Root::open(&Place::Remote(place.clone()), &Stores::new(args.store))?;
    let mut tree = root.walk(&args.filter, Symlinks::default());
    let mut total = Amount::default();
    let mut amounts: BTreeMap<String, Amount> = BTreeMap::new();
    while let Some(found) = tree.recv().await {
        match found {
            Found::Entry(entry) => {
                total.add(entry.size);
                for prefix in prefixes(&entry.key, args.depth) {
                    amounts
                        .entry(prefix.to_owned())
                        .or_default()
                        .add(entry.size);
                }
            }
            Found::Problem(_, why) | Found::End(why) => bail!("{why}"),
        }
    }
    let teller = Teller::new(args.tell, false);
    let whole = place.directory();
    let lines = amounts
        .iter()
        .map(|(prefix, amount)| (whole.join(prefix), *amount));
    for (place, Amount { objects, bytes }) in lines.chain([(whole.clone(), total)]) {
        let name = place.to_string();
        let value = json!({"place": name, "objects": objects, "bytes": bytes});
        teller.say(&value, || {
            let size = match args.human_readable {
                true => human(bytes),
                false => bytes.to_string(),
            };
            format!("{size:>14} {objects:>10} {}", shown(&name))
        });
    }
    Ok(ExitCode::SUCCESS)
}

/// The prefixes of a key that end with one of its first `depth` slashes.
fn prefixes(key: &str, depth: usize) -> impl Iterator<Item = &str> {
    key.match_indices('/')
        .take(depth)
        .map(|(slash, _)| &key[..=slash])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_counts_on_each_level() {
        let of = |key: &'static str, depth| prefixes(key, depth).collect::<Vec<_>>();
        assert_eq!(of("a/b/c", 1), ["a/"]);
        assert_eq!(of("a/b/c", 5), ["a/", "a/b/"]);
        assert!(of("a/b", 0).is_empty() && of("a", 3).is_empty());
    }
}
