//! `jay rm`: deletes objects.

use std::{ffi::OsString, process::ExitCode};

use anyhow::bail;
use serde::Serialize;

use super::{
    Usage,
    carry::Root,
    filter::Filter,
    ls::remote_with_bucket,
    place::{Place, Remote},
    store::{KEYS_MAX, StoreArgs, Stores},
    teller::{TellArgs, Teller, shown},
    transfer::Target,
    tree::{Found, Source, Symlinks},
};

/// Options of `rm`.
#[derive(Clone, Debug, clap::Args)]
pub struct RemoveArgs {
    /// Objects of jay:// or s3:// places
    #[arg(required = true, value_name = "PLACE")]
    places: Vec<OsString>,
    /// All objects below a prefix, or of a bucket
    #[arg(long, short)]
    recursive: bool,
    #[command(flatten)]
    filter: Filter,
    /// Say what would be deleted, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Say nothing but errors
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    tell: TellArgs,
    #[command(flatten)]
    store: StoreArgs,
}

/// What was deleted, for programs.
#[derive(Serialize)]
struct Deleted<'a> {
    action: &'static str,
    source: &'a str,
    /// Of a prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    objects: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

/// Deletes.
pub async fn run(args: RemoveArgs) -> anyhow::Result<ExitCode> {
    let places = args
        .places
        .iter()
        .map(remote_with_bucket)
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(place) = places
        .iter()
        .find(|place| place.key.is_empty() && !args.recursive)
    {
        bail!(Usage(format!(
            "{place} is no object: -r deletes all objects of a bucket"
        )));
    }
    if !args.recursive && !args.filter.is_empty() {
        bail!(Usage(
            "--include and --exclude choose of what is below a prefix, so they need -r".into()
        ));
    }
    let remove = Remove {
        stores: Stores::new(args.store.clone()),
        teller: Teller::new(args.tell, args.quiet),
        args,
    };
    let mut attempted = 0;
    for place in places {
        attempted += match remove.args.recursive {
            // Nobody has to see the keys.
            true if remove.args.filter.is_empty() && !remove.args.dry_run => {
                remove.prefix(&place).await?
            }
            true => remove.chosen(&place).await?,
            false => remove.one(&place).await,
        };
    }
    Ok(remove.teller.ended(attempted))
}

struct Remove {
    args: RemoveArgs,
    stores: Stores,
    teller: Teller,
}

impl Remove {
    fn target(&self, remote: Remote) -> anyhow::Result<Target> {
        Ok(Target {
            store: self.stores.open(&remote.server)?,
            remote,
        })
    }

    async fn one(&self, place: &Remote) -> u64 {
        let name = place.to_string();
        let delete = async {
            let target = self.target(place.clone())?;
            if !self.args.dry_run {
                target.store.delete(&place.bucket, &place.key, None).await?;
            }
            anyhow::Ok(())
        };
        match delete.await {
            Ok(()) => self.say(&name, None),
            Err(error) => self.teller.failed(&name, format_args!("{error:#}")),
        }
        1
    }

    async fn prefix(&self, place: &Remote) -> anyhow::Result<u64> {
        let target = self.target(place.directory())?;
        let (bucket, prefix) = (&target.remote.bucket, &target.remote.key);
        let deleted = target.store.delete_prefix(bucket, prefix).await?;
        self.say(&target.remote.to_string(), Some(deleted));
        Ok(deleted)
    }

    /// Those that the filter takes.
    async fn chosen(&self, place: &Remote) -> anyhow::Result<u64> {
        let root = Root::open(&Place::Remote(place.clone()), &self.stores)?;
        let target = self.target(place.directory())?;
        let mut tree = root.walk(&self.args.filter, Symlinks::default());
        let (mut batch, mut attempted) = (Vec::new(), 0);
        while let Some(found) = tree.recv().await {
            match found {
                Found::Entry(entry) => {
                    if let Source::Object(object) = entry.source {
                        batch.push(object.key);
                    }
                }
                Found::Problem(place, why) => self.teller.failed(&place, why),
                Found::End(why) => bail!("{why}"),
            }
            if batch.len() == KEYS_MAX {
                attempted += self.batch(&target, &std::mem::take(&mut batch)).await?;
            }
        }
        attempted += self.batch(&target, &batch).await?;
        Ok(attempted)
    }

    async fn batch(&self, target: &Target, keys: &[String]) -> anyhow::Result<u64> {
        let results = match self.args.dry_run {
            true => keys.iter().map(|_| Ok(())).collect(),
            false if keys.is_empty() => Vec::new(),
            false => {
                target
                    .store
                    .delete_many(&target.remote.bucket, keys)
                    .await?
            }
        };
        for (key, result) in keys.iter().zip(results) {
            let name = target.remote.with_key(key.clone()).to_string();
            match result {
                Ok(()) => self.say(&name, None),
                Err(error) => self.teller.failed(&name, error),
            }
        }
        Ok(keys.len() as u64)
    }

    fn say(&self, source: &str, objects: Option<u64>) {
        let deleted = Deleted {
            action: "delete",
            source,
            objects,
            dry_run: self.args.dry_run,
        };
        self.teller.say(&deleted, || {
            let dry = if self.args.dry_run { "(dry run) " } else { "" };
            match objects {
                None => format!("{dry}delete: {}", shown(source)),
                Some(objects) => format!("{dry}delete: {objects} objects below {}", shown(source)),
            }
        });
    }
}
