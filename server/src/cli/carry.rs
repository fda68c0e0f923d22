//! What `cp`, `mv`, `sync` and `diff` share: the two ends of a transfer, and carrying one entry from the one to the other.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use anyhow::{Context as _, bail, ensure};
use jay_client::ErrorKind;
use serde::Serialize;

use super::{
    Usage,
    filter::Filter,
    place::Place,
    store::{self, KEYS_MAX, Object, Stores},
    teller::shown,
    transfer::{
        Mover, Target, Wanted,
        file::{Directory, aside},
    },
    tree::{self, Entry, Source, Symlinks, Tree, relative_path},
};

/// Why the rest is not tried.
pub const GIVEN_UP: &str = "the rest is given up; the same command goes on where this one ended";

/// Options of all verbs that carry something.
#[derive(Clone, Debug, clap::Args)]
pub struct CarryArgs {
    /// Content type of what is stored, in the place of what its name says
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// User metadata of what is stored; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    metadata: Vec<(String, String)>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Say nothing but errors
    #[arg(long, short)]
    pub quiet: bool,
    /// Files on their way at a time
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrency: u16,
}

impl CarryArgs {
    /// Whether objects get something that their source does not have.
    pub fn changes_something(&self) -> bool {
        self.content_type.is_some() || !self.metadata.is_empty()
    }

    /// What objects get.
    pub fn wanted(&self) -> Wanted {
        Wanted {
            content_type: self.content_type.clone(),
            metadata: self.metadata.iter().cloned().collect(),
        }
    }
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it has no =")?;
    match name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && !name.is_empty()
    {
        true => Ok((name.to_ascii_lowercase(), value.to_owned())),
        false => Err("a name has letters, digits, -, _ and .".into()),
    }
}

/// Where entries are, or where they go.
#[derive(Clone)]
pub enum Root {
    /// A directory of this machine.
    Directory(PathBuf),
    /// A prefix of keys, or all of a bucket.
    Prefix(Target),
}

impl Root {
    /// A place as a directory.
    pub fn open(place: &Place, stores: &Stores) -> anyhow::Result<Self> {
        match place {
            Place::Path(path) => Ok(Self::Directory(path.clone())),
            Place::Remote(remote) if !remote.bucket.is_empty() => Ok(Self::Prefix(Target {
                store: stores.open(&remote.server)?,
                remote: remote.directory(),
            })),
            Place::Remote(remote) => bail!(Usage(format!("{remote} names no bucket"))),
            Place::Stream => bail!(Usage("- is no directory".into())),
        }
    }

    /// All that is in it.
    pub fn walk(&self, filter: &Filter, symlinks: Symlinks) -> Tree {
        match self {
            Self::Directory(path) => tree::of_directory(path.clone(), filter.clone(), symlinks),
            Self::Prefix(target) => {
                tree::of_store(target.store.clone(), &target.remote, filter.clone())
            }
        }
    }

    /// Where an object of it is.
    pub fn target_of(&self, object: &Object) -> Target {
        match self {
            Self::Directory(path) => unreachable!("no object is in {}", path.display()),
            Self::Prefix(root) => Target {
                store: root.store.clone(),
                remote: root.remote.with_key(object.key.clone()),
            },
        }
    }

    /// The name of an entry of it.
    pub fn place_of(&self, entry: &Entry) -> String {
        match &entry.source {
            Source::File(path) => path.display().to_string(),
            Source::Object(object) => self.target_of(object).remote.to_string(),
        }
    }

    /// An error unless it is there, as a source must be.
    pub fn must_be_there(&self) -> anyhow::Result<()> {
        if let Self::Directory(path) = self {
            let metadata = std::fs::metadata(path).with_context(|| path.display().to_string())?;
            if !metadata.is_dir() {
                bail!("{}: it is no directory", path.display());
            }
        }
        Ok(())
    }

    /// An error when one is in the other, where a copy would come upon itself.
    pub fn must_be_apart(&self, other: &Self) -> anyhow::Result<()> {
        if let (Self::Prefix(one), Self::Prefix(other)) = (self, other)
            && one.is_in_bucket_of(other)
            && (one.remote.key.starts_with(&other.remote.key)
                || other.remote.key.starts_with(&one.remote.key))
        {
            bail!(Usage(format!(
                "{} and {} overlap",
                one.remote, other.remote
            )));
        }
        Ok(())
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "{}", path.display()),
            Self::Prefix(target) => write!(f, "{}", target.remote),
        }
    }
}

/// Where one body goes.
enum End {
    /// Into a file.
    File(Directory, PathBuf),
    /// Into an object.
    Object(Target),
}

/// Where entries go.
#[derive(Clone)]
pub enum Ends {
    /// Below a directory.
    Directory(Directory),
    /// Below a prefix.
    Prefix(Target),
    /// Into this one file of a directory, whatever their key.
    File(Directory, PathBuf),
}

impl Ends {
    /// Below this.
    pub fn below(root: &Root, symlinks: Symlinks, is_durable: bool) -> Self {
        match root {
            Root::Directory(path) => Self::Directory(Directory::new(
                path.clone(),
                symlinks == Symlinks::Followed,
                is_durable,
            )),
            Root::Prefix(target) => Self::Prefix(target.clone()),
        }
    }

    /// Where an entry of this key goes; or why it cannot.
    fn end(&self, key: &str) -> Result<End, &'static str> {
        Ok(match self {
            Self::Directory(directory) => End::File(directory.clone(), relative_path(key)?),
            Self::Prefix(target) => End::Object(target.join(key)),
            Self::File(directory, relative) => End::File(directory.clone(), relative.clone()),
        })
    }
}

/// See the module.
pub struct Carrier {
    mover: Mover,
    from: Root,
    /// Of a move: what was carried goes.
    is_move: bool,
    is_dry_run: bool,
    attempted: AtomicU64,
    carried: AtomicU64,
    bytes: AtomicU64,
    deleted: AtomicU64,
    is_over: AtomicBool,
}

/// What was done with something, for programs.
#[derive(Serialize)]
struct Done<'a> {
    action: &'a str,
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

/// All that was done.
#[derive(Serialize)]
struct Total {
    carried: u64,
    bytes: u64,
    deleted: u64,
    failed: u64,
}

impl Carrier {
    /// Carries entries of `from`.
    pub fn new(mover: Mover, from: Root, is_move: bool, is_dry_run: bool) -> Self {
        Self {
            mover,
            from,
            is_move,
            is_dry_run,
            attempted: AtomicU64::new(0),
            carried: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            deleted: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        }
    }

    /// Does the work.
    pub fn mover(&self) -> &Mover {
        &self.mover
    }

    /// Counts and tells a failure.
    pub fn failed(&self, place: &str, why: impl std::fmt::Display) {
        self.attempted.fetch_add(1, Relaxed);
        self.mover.teller.failed(place, why);
    }

    /// Whether there is no use in going on: a server is gone, or knows the access key no more.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    fn failed_with(&self, place: &str, error: &anyhow::Error) {
        let of_store = error.downcast_ref::<store::Error>();
        if of_store
            .is_some_and(|error| error.is_unreachable() || error.kind == ErrorKind::Unauthenticated)
        {
            self.is_over.store(true, Relaxed);
        }
        self.failed(place, format_args!("{error:#}"));
    }

    /// Carries an entry, and tells of it.
    pub async fn carry(&self, entry: &Entry, to: &Ends) {
        let source = self.from.place_of(entry);
        if let Ends::Directory(directory) = to
            && entry.is_directory_marker()
        {
            return self.make_directory(entry, directory, &source).await;
        }
        let end = match to.end(&entry.key) {
            Ok(end) => end,
            Err(why) => return self.failed(&source, why),
        };
        let destination = match &end {
            End::File(directory, relative) => directory.join(relative).display().to_string(),
            End::Object(target) => target.remote.to_string(),
        };
        let action = match (self.is_move, &entry.source, &end) {
            (true, ..) => "move",
            (_, Source::File(_), _) => "upload",
            (_, Source::Object(_), End::File(..)) => "download",
            (_, Source::Object(_), End::Object(_)) => "copy",
        };
        self.mover.teller.expect(entry.size);
        if !self.is_dry_run
            && let Err(error) = self.bring(entry, &end).await
        {
            return self.failed_with(&source, &error);
        }
        self.attempted.fetch_add(1, Relaxed);
        self.carried.fetch_add(1, Relaxed);
        self.bytes.fetch_add(entry.size, Relaxed);
        self.say(action, &source, Some(&destination), Some(entry.size));
    }

    /// An object that stands for a directory becomes one.
    async fn make_directory(&self, entry: &Entry, directory: &Directory, source: &str) {
        let made = match relative_path(entry.key.trim_end_matches('/')) {
            Ok(_) if self.is_dry_run => return,
            Ok(relative) => directory.make(&relative).await,
            Err(why) => return self.failed(source, why),
        };
        if let Err(error) = made {
            self.failed(source, format_args!("{error:#}"));
        }
    }

    async fn bring(&self, entry: &Entry, end: &End) -> anyhow::Result<()> {
        match (&entry.source, end) {
            (Source::File(path), End::Object(to)) => {
                self.mover.upload(path, entry.size, to).await?;
            }
            (Source::Object(object), End::File(directory, relative)) => {
                let from = self.from.target_of(object);
                let brought = self
                    .mover
                    .download(&from, object.size, directory, relative)
                    .await?;
                return self.let_go(&from, &brought).await;
            }
            (Source::Object(object), End::Object(to)) => {
                let from = self.from.target_of(object);
                self.mover.copy(&from, object, to).await?;
                return self.let_go(&from, object).await;
            }
            (Source::File(_), End::File(..)) => bail!("neither is in a store"),
        }
        match self.is_move {
            true => remove_unchanged(entry).await,
            false => Ok(()),
        }
    }

    /// Removes the source of a move, unless it is another object by now.
    async fn let_go(&self, from: &Target, object: &Object) -> anyhow::Result<()> {
        if self.is_move {
            let (bucket, key) = (&from.remote.bucket, &from.remote.key);
            let delete = from.store.delete(bucket, key, Some(&object.etag));
            delete
                .await
                .context("it was carried, and stays where it was too")?;
        }
        Ok(())
    }

    /// Removes what the other side does not have, and tells of it.
    pub async fn delete(&self, root: &Root, entries: &[Entry]) {
        match root {
            Root::Directory(path) => {
                for entry in entries {
                    let removed = match self.is_dry_run {
                        true => Ok(()),
                        false => remove_below(path, &entry.key).await,
                    };
                    self.deleted(root, entry, removed);
                }
            }
            Root::Prefix(target) => {
                for batch in entries.chunks(KEYS_MAX) {
                    self.delete_batch(root, target, batch).await;
                }
            }
        }
    }

    async fn delete_batch(&self, root: &Root, target: &Target, entries: &[Entry]) {
        let keys: Vec<_> = entries
            .iter()
            .map(|entry| target.join(&entry.key).remote.key)
            .collect();
        let results = match self.is_dry_run {
            true => Ok(keys.iter().map(|_| Ok(())).collect()),
            false => target.store.delete_many(&target.remote.bucket, &keys).await,
        };
        match results {
            Ok(results) => {
                for (entry, result) in entries.iter().zip(results) {
                    self.deleted(root, entry, result.map_err(anyhow::Error::from));
                }
            }
            Err(error) => {
                for entry in entries {
                    self.deleted(root, entry, Err(anyhow::Error::from(error.clone())));
                }
            }
        }
    }

    fn deleted(&self, root: &Root, entry: &Entry, result: anyhow::Result<()>) {
        let place = root.place_of(entry);
        match result {
            Ok(()) => {
                self.attempted.fetch_add(1, Relaxed);
                self.deleted.fetch_add(1, Relaxed);
                self.say("delete", &place, None, None);
            }
            Err(error) => self.failed(&place, format_args!("{error:#}")),
        }
    }

    fn say(&self, action: &str, source: &str, destination: Option<&str>, size: Option<u64>) {
        let done = Done {
            action,
            source,
            destination,
            size,
            dry_run: self.is_dry_run,
        };
        self.mover.teller.say(&done, || {
            let dry = if self.is_dry_run { "(dry run) " } else { "" };
            let to = destination.map(|to| format!(" to {}", shown(to)));
            format!("{dry}{action}: {}{}", shown(source), to.unwrap_or_default())
        });
    }

    /// Tells how much it was.
    pub fn ended(&self) -> ExitCode {
        let total = Total {
            carried: self.carried.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            deleted: self.deleted.load(Relaxed),
            failed: self.mover.teller.failures(),
        };
        self.mover.teller.total(&total);
        self.mover.teller.ended(self.attempted.load(Relaxed))
    }
}

/// Removes the file that an entry was made of, if it still is what it was.
async fn remove_unchanged(entry: &Entry) -> anyhow::Result<()> {
    let Source::File(path) = &entry.source else {
        return Ok(());
    };
    let (path, seen) = (path.clone(), (entry.size, entry.modified));
    aside(move || {
        let metadata = fs::metadata(&path)?;
        ensure!(
            (metadata.len(), metadata.modified()?) == seen,
            "it was changed after it was carried, and stays where it was"
        );
        Ok(fs::remove_file(&path)?)
    })
    .await
}

/// Removes a file, and the directories above it that have become empty by that.
async fn remove_below(root: &Path, key: &str) -> anyhow::Result<()> {
    let root = root.to_owned();
    let path = root.join(key);
    aside(move || {
        fs::remove_file(&path)?;
        let above = path.ancestors().skip(1).take_while(|above| *above != root);
        // The first one that still has something ends it.
        let _ = above.map(fs::remove_dir).find(Result::is_err);
        Ok(())
    })
    .await
}
