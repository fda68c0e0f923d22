//! `jay sync`: makes a tree of what another one is, by moving what is missing there or differs.

use std::{ffi::OsString, process::ExitCode, sync::Arc};

use anyhow::bail;

use super::{
    Usage,
    carry::{Carrier, CarryArgs, Ends, GIVEN_UP, Root},
    compare::{By, difference},
    crew::Crew,
    filter::Filter,
    pairs::{Pair, Pairs, Side},
    place::Place,
    store::{StoreArgs, Stores},
    teller::{TellArgs, Teller},
    transfer::Mover,
    tree::{Entry, SymlinkArgs, Symlinks},
};

/// Options of `sync`.
#[derive(Clone, Debug, clap::Args)]
pub struct SyncArgs {
    /// The tree that is right: a directory, or a prefix of a jay:// or s3:// place
    source: OsString,
    /// The tree that becomes the same
    destination: OsString,
    /// Delete what the source does not have
    #[arg(long)]
    delete: bool,
    /// Compare content, where without it size and time decide: files are read, of objects the sums are known
    #[arg(long)]
    checksum: bool,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    symlinks: SymlinkArgs,
    #[command(flatten)]
    carry: CarryArgs,
    #[command(flatten)]
    tell: TellArgs,
    #[command(flatten)]
    store: StoreArgs,
}

/// One way, from the source to the destination.
pub async fn run(args: SyncArgs) -> anyhow::Result<ExitCode> {
    let stores = Stores::new(args.store.clone());
    let places = (
        Place::parse(&args.source)?,
        Place::parse(&args.destination)?,
    );
    let (from, to) = (
        Root::open(&places.0, &stores)?,
        Root::open(&places.1, &stores)?,
    );
    if let (Root::Directory(_), Root::Directory(_)) = (&from, &to) {
        bail!(Usage("neither place is in a store".into()));
    }
    from.must_be_there()?;
    from.must_be_apart(&to)?;
    let teller = Teller::new(args.tell, args.carry.quiet).with_bar();
    let mover = Mover::new(teller, args.carry.wanted());
    let carrier = Carrier::new(mover, from.clone(), false, args.carry.dry_run);
    let symlinks = args.symlinks.symlinks();
    let sync = Arc::new(Sync {
        carrier,
        ends: Ends::below(&to, symlinks, false),
        by: if args.checksum { By::Content } else { By::Time },
        from,
        to,
    });
    let found = sync.clone().bring(&args, symlinks).await?;
    sync.delete(found).await;
    Ok(sync.carrier.ended())
}

struct Sync {
    carrier: Carrier,
    from: Root,
    to: Root,
    ends: Ends,
    by: By,
}

/// What was seen on the way.
#[derive(Default)]
struct Seen {
    /// What only the destination has, if that is to be deleted.
    extra: Vec<Entry>,
    /// Whether the source has anything.
    has_source: bool,
    /// Whether some of the source could not be seen.
    has_problems: bool,
}

impl Sync {
    /// Brings what is missing or differs.
    async fn bring(self: Arc<Self>, args: &SyncArgs, symlinks: Symlinks) -> anyhow::Result<Seen> {
        let mut pairs = Pairs::new(
            self.from.walk(&args.filter, symlinks),
            // A symbolic link there is nobody's copy, and what it leads to is not to be touched.
            self.to.walk(&args.filter, Symlinks::Skipped),
        );
        let mut crew = Crew::new(args.carry.concurrency.into());
        let mut seen = Seen::default();
        while let Some(pair) = pairs.next().await {
            if self.carrier.is_over() {
                crew.done().await;
                bail!(GIVEN_UP);
            }
            seen.has_source |= matches!(pair, Pair::One(Side::Left, _) | Pair::Both(..));
            let sync = self.clone();
            match pair {
                Pair::One(Side::Left, entry) => {
                    crew.add(async move { sync.carrier.carry(&entry, &sync.ends).await })
                        .await;
                }
                Pair::Both(source, destination) => {
                    crew.add(async move { sync.update(&source, &destination).await })
                        .await;
                }
                Pair::One(Side::Right, entry) if args.delete && self.may_go(&entry) => {
                    seen.extra.push(entry);
                }
                Pair::One(Side::Right, _) => {}
                Pair::Problem(side, place, why) => {
                    seen.has_problems |= side == Side::Left;
                    self.carrier.failed(&place, why);
                }
                Pair::End(_, why) => {
                    crew.done().await;
                    bail!("{why}");
                }
            }
        }
        crew.done().await;
        Ok(seen)
    }

    async fn update(&self, source: &Entry, destination: &Entry) {
        let ends = ((&self.from, source), (&self.to, destination));
        match difference(ends.0, ends.1, self.by).await {
            Ok(None) => {}
            Ok(Some(_)) => self.carrier.carry(source, &self.ends).await,
            Err(error) => {
                let place = self.from.place_of(source);
                self.carrier.failed(&place, format_args!("{error:#}"));
            }
        }
    }

    /// Objects that stand for directories are nothing that a directory could miss.
    fn may_go(&self, entry: &Entry) -> bool {
        !(entry.is_directory_marker() && matches!(self.from, Root::Directory(_)))
    }

    /// Deletes what only the destination has, when it is certain that the source does not.
    async fn delete(&self, seen: Seen) {
        let teller = &self.carrier.mover().teller;
        match seen {
            Seen { extra, .. } if extra.is_empty() => {}
            Seen { has_problems, .. } if has_problems => {
                teller.remark("nothing is deleted, because some of the source could not be seen");
            }
            Seen { has_source, extra, .. } if !has_source => self.carrier.failed(
                &self.to.to_string(),
                format_args!(
                    "{} has nothing, so nothing is deleted for it ({} files are here): `rm -r` would delete all",
                    self.from,
                    extra.len()
                ),
            ),
            Seen { extra, .. } => self.carrier.delete(&self.to, &extra).await,
        }
    }
}
