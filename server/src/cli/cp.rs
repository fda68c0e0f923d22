//! `jay cp` and `jay mv`: bodies between files, stores and standard input and output.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, bail};

use super::{
    Usage,
    carry::{Carrier, CarryArgs, Ends, GIVEN_UP, Root},
    cat,
    crew::Crew,
    filter::Filter,
    place::{Place, Remote},
    store::{StoreArgs, Stores},
    teller::{TellArgs, Teller},
    transfer::{Mover, Target, file::Directory},
    tree::{Entry, Found, Source, SymlinkArgs},
};

/// Options of `cp` and `mv`.
#[derive(Clone, Debug, clap::Args)]
pub struct CopyArgs {
    /// From where, and last to where: paths, jay:// and s3:// places, and - for standard input and output
    #[arg(required = true, num_args = 2.., value_name = "PLACE")]
    places: Vec<OsString>,
    /// All that is below a directory or a prefix
    #[arg(long, short)]
    recursive: bool,
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

/// Copies; a move removes each source when it has been copied.
pub async fn run(args: CopyArgs, is_move: bool) -> anyhow::Result<ExitCode> {
    let mut places = args
        .places
        .iter()
        .map(|place| Place::parse(place))
        .collect::<Result<Vec<_>, _>>()?;
    let destination = places.pop().context("clap has seen to two places")?;
    let stores = Stores::new(args.store.clone());
    let is_streamed = places.contains(&Place::Stream) || destination == Place::Stream;
    if is_streamed && (args.recursive || is_move || places.len() > 1) {
        bail!(Usage(
            "- is one body, which is neither a tree nor can be moved".into()
        ));
    }
    if places.len() > 1 && !is_directory(&destination) {
        bail!(Usage(format!(
            "{destination} is no directory, which takes several sources"
        )));
    }
    if places.iter().any(|place| !is_remote(place)) && !is_remote(&destination) {
        bail!(Usage(format!(
            "neither place is in a store: {}, {destination}",
            places[0]
        )));
    }
    if let (Place::Remote(from), Place::Stream) = (&places[0], &destination) {
        cat::copy(&stores, from, None).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let teller = || Teller::new(args.tell, args.carry.quiet).with_bar();
    if let (Place::Stream, Place::Remote(to)) = (&places[0], &destination) {
        return store_stdin(Mover::new(teller(), args.carry.wanted()), &stores, to).await;
    }
    let mut worst = ExitCode::SUCCESS;
    for source in &places {
        let mover = Mover::new(teller(), args.carry.wanted());
        let copy = Copy {
            args: &args,
            stores: &stores,
            is_move,
        };
        let ended = match args.recursive {
            true => copy.tree(mover, source, &destination).await,
            false => copy.one(mover, source, &destination).await,
        }?;
        if ended != ExitCode::SUCCESS {
            worst = ended;
        }
    }
    Ok(worst)
}

fn is_remote(place: &Place) -> bool {
    matches!(place, Place::Remote(_))
}

/// Whether what goes there goes into it.
fn is_directory(place: &Place) -> bool {
    match place {
        Place::Path(path) => path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/"),
        Place::Remote(remote) => remote.is_directory(),
        Place::Stream => false,
    }
}

async fn store_stdin(mover: Mover, stores: &Stores, to: &Remote) -> anyhow::Result<ExitCode> {
    if to.is_directory() {
        bail!(Usage(format!(
            "{to}: what comes from standard input has no name, so give it a key"
        )));
    }
    let target = Target {
        store: stores.open(&to.server)?,
        remote: to.clone(),
    };
    let size = mover.upload_stream(tokio::io::stdin(), &target).await?;
    mover.teller.say(
        &serde_json::json!({"action": "upload", "source": "-", "destination": to.to_string(), "size": size}),
        || format!("upload: - to {to}"),
    );
    Ok(ExitCode::SUCCESS)
}

/// One source on its way.
struct Copy<'a> {
    args: &'a CopyArgs,
    stores: &'a Stores,
    is_move: bool,
}

impl Copy<'_> {
    /// All that is below a place.
    async fn tree(&self, mover: Mover, from: &Place, to: &Place) -> anyhow::Result<ExitCode> {
        let (from, to) = (Root::open(from, self.stores)?, Root::open(to, self.stores)?);
        from.must_be_there()?;
        from.must_be_apart(&to)?;
        let symlinks = self.args.symlinks.symlinks();
        let mut tree = from.walk(&self.args.filter, symlinks);
        let ends = Ends::below(&to, symlinks, self.is_move);
        let carrier = Arc::new(self.carrier(mover, from));
        let mut crew = Crew::new(self.args.carry.concurrency.into());
        while let Some(found) = tree.recv().await {
            if carrier.is_over() {
                crew.done().await;
                bail!(GIVEN_UP);
            }
            match found {
                Found::Entry(entry) => {
                    let (carrier, ends) = (carrier.clone(), ends.clone());
                    crew.add(async move { carrier.carry(&entry, &ends).await })
                        .await;
                }
                Found::Problem(place, why) => carrier.failed(&place, why),
                Found::End(why) => {
                    crew.done().await;
                    bail!("{why}");
                }
            }
        }
        crew.done().await;
        Ok(carrier.ended())
    }

    /// One body.
    async fn one(&self, mover: Mover, from: &Place, to: &Place) -> anyhow::Result<ExitCode> {
        let (root, mut entry) = match from {
            Place::Path(path) => file(path)?,
            Place::Remote(remote) => self.object(remote).await?,
            Place::Stream => unreachable!("standard input is another way"),
        };
        let ends = self.end(to, &mut entry)?;
        if let (Root::Prefix(one), Ends::Prefix(other)) = (&root, &ends)
            && one.is_in_bucket_of(other)
            && matches!(&entry.source, Source::Object(object) if object.key == entry.key)
            && (self.is_move || !self.args.carry.changes_something())
        {
            bail!(Usage(format!("{from} and {to} are the same object")));
        }
        let carrier = self.carrier(mover, root);
        carrier.carry(&entry, &ends).await;
        Ok(carrier.ended())
    }

    fn carrier(&self, mover: Mover, from: Root) -> Carrier {
        Carrier::new(mover, from, self.is_move, self.args.carry.dry_run)
    }

    async fn object(&self, remote: &Remote) -> anyhow::Result<(Root, Entry)> {
        if remote.is_directory() {
            bail!(Usage(format!(
                "{remote} is no object: -r takes all that is below it"
            )));
        }
        let target = Target {
            store: self.stores.open(&remote.server)?,
            remote: remote.clone(),
        };
        let object = target.head().await?;
        let entry = Entry {
            key: remote.name().to_owned(),
            size: object.size,
            modified: object.modified,
            source: Source::Object(Box::new(object)),
        };
        Ok((Root::Prefix(target), entry))
    }

    /// Where the body goes; its key is made to be relative to that.
    fn end(&self, to: &Place, entry: &mut Entry) -> anyhow::Result<Ends> {
        match to {
            Place::Remote(remote) => {
                if remote.bucket.is_empty() {
                    bail!(Usage(format!("{remote} names no bucket")));
                }
                let name = if remote.is_directory() {
                    &entry.key
                } else {
                    ""
                };
                if remote.is_directory() && name.is_empty() {
                    bail!("the name of the file is no UTF-8, which keys are");
                }
                entry.key = format!("{}{name}", remote.key);
                Ok(Ends::Prefix(Target {
                    store: self.stores.open(&remote.server)?,
                    remote: remote.with_key(String::new()),
                }))
            }
            Place::Path(path) if is_directory(to) => {
                Ok(Ends::Directory(self.directory(path.clone())))
            }
            Place::Path(path) => {
                let name = path.file_name().context("the destination has no name")?;
                let above = path.parent().unwrap_or(Path::new(""));
                // The directory of a bare name is this one.
                let above = if above.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    above
                };
                Ok(Ends::File(self.directory(above.to_owned()), name.into()))
            }
            Place::Stream => unreachable!("standard output is another way"),
        }
    }

    fn directory(&self, path: PathBuf) -> Directory {
        Directory::new(path, true, self.is_move)
    }
}

/// A file as the one entry of its directory.
fn file(path: &Path) -> anyhow::Result<(Root, Entry)> {
    let about = || path.display().to_string();
    let metadata = std::fs::metadata(path).with_context(about)?;
    if metadata.is_dir() {
        bail!(Usage(format!(
            "{} is a directory: -r takes all that is in it",
            about()
        )));
    }
    if !metadata.is_file() {
        bail!(
            "{}: it is no file; a pipe goes through standard input, as -",
            about()
        );
    }
    let name = path.file_name().with_context(about)?;
    let entry = Entry {
        // A name that can be no key may be given another one.
        key: name.to_str().unwrap_or_default().to_owned(),
        size: metadata.len(),
        modified: metadata.modified()?,
        source: Source::File(path.to_owned()),
    };
    Ok((Root::Directory(path.to_owned()), entry))
}
