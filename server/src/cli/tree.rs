//! Trees: the files below a directory or the objects below a prefix, as a stream in byte order of their keys. So two trees
//! can be held against each other without having either in memory.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Component, Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use tokio::sync::mpsc;

use super::{
    filter::Filter,
    place::Remote,
    store::{Listing, Object, Store},
};

/// Entries that are found before somebody asks for them.
const AHEAD: usize = 2000;
/// Between these stands the random name of a file that is not whole yet.
const UNFINISHED: (&str, &str) = (".jay-", ".part");

/// A file or an object.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its path below the root, with slashes.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// When the file was changed, or the object stored.
    pub modified: SystemTime,
    /// Which of the two it is.
    pub source: Source,
}

/// Where an entry is.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// An object.
    Object(Box<Object>),
}

impl Entry {
    /// An object as an entry of the tree below `prefix`; `None` for what only marks the root of the tree.
    fn of_object(object: Object, prefix: &str) -> Option<Self> {
        let key = object.key.strip_prefix(prefix)?.to_owned();
        (!key.is_empty()).then_some(Self {
            key,
            size: object.size,
            modified: object.modified,
            source: Source::Object(Box::new(object)),
        })
    }

    /// Whether it stands for a directory, as some programs make them.
    pub fn is_directory_marker(&self) -> bool {
        self.key.ends_with('/') && self.size == 0
    }
}

/// What a walk comes upon.
#[derive(Debug)]
pub enum Found {
    /// Something of the tree.
    Entry(Entry),
    /// Something that cannot be taken, and why; there may be more below it that is not seen.
    Problem(String, String),
    /// The walk has ended too early.
    End(String),
}

/// See the module.
pub type Tree = mpsc::Receiver<Found>;

/// What is done about symbolic links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Symlinks {
    /// Each is a problem.
    #[default]
    Refused,
    /// They are what they lead to.
    Followed,
    /// They are passed over.
    Skipped,
}

/// Options about symbolic links.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct SymlinkArgs {
    /// Take symbolic links for what they lead to
    #[arg(long, conflicts_with = "skip_symlinks")]
    follow_symlinks: bool,
    /// Pass over symbolic links; without either option each of them is an error
    #[arg(long)]
    skip_symlinks: bool,
}

impl SymlinkArgs {
    /// What was asked for.
    pub fn symlinks(self) -> Symlinks {
        match (self.follow_symlinks, self.skip_symlinks) {
            (true, _) => Symlinks::Followed,
            (_, true) => Symlinks::Skipped,
            _ => Symlinks::Refused,
        }
    }
}

/// The objects below a prefix that ends with a slash, or is empty.
pub fn of_store(store: Arc<Store>, root: &Remote, filter: Filter) -> Tree {
    let (found, tree) = mpsc::channel(AHEAD);
    let root = root.clone();
    tokio::spawn(async move {
        let listing = Listing {
            bucket: root.bucket.clone(),
            prefix: root.key.clone(),
            is_flat: false,
            with_descriptions: true,
        };
        let mut next = None;
        loop {
            let page = match store.list(&listing, next.as_deref()).await {
                Ok(page) => page,
                Err(error) => {
                    let _ = found.send(Found::End(error.to_string())).await;
                    return;
                }
            };
            for object in page.objects {
                let entry = Entry::of_object(object, &root.key);
                if let Some(entry) = entry.filter(|entry| filter.takes(&entry.key))
                    && found.send(Found::Entry(entry)).await.is_err()
                {
                    return;
                }
            }
            next = page.next;
            if next.is_none() {
                return;
            }
        }
    });
    tree
}

/// The files below a directory; none when it is missing.
pub fn of_directory(root: PathBuf, filter: Filter, symlinks: Symlinks) -> Tree {
    let (found, tree) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut walk = Walk {
            found,
            filter,
            symlinks,
            above: Vec::new(),
        };
        // When nobody wants more it just ends.
        let _ = walk.directory(&root, "");
    });
    tree
}

/// Nobody wants more.
struct Unwanted;

struct Walk {
    found: mpsc::Sender<Found>,
    filter: Filter,
    symlinks: Symlinks,
    /// Device and number of each directory above.
    above: Vec<(u64, u64)>,
}

/// A name in a directory.
struct Named {
    name: OsString,
    /// By which it is sorted: in keys a directory's name is followed by a slash.
    order: Vec<u8>,
    metadata: fs::Metadata,
}

impl Walk {
    fn directory(&mut self, path: &Path, prefix: &str) -> Result<(), Unwanted> {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound && prefix.is_empty() => {
                return Ok(());
            }
            Err(error) => return self.problem(path, error),
        };
        let itself = (metadata.dev(), metadata.ino());
        if self.above.contains(&itself) {
            return self.problem(path, "it leads back to a directory above it");
        }
        self.above.push(itself);
        for named in self.names(path)? {
            let path = path.join(&named.name);
            let Some(name) = named.name.to_str() else {
                self.problem(&path, "its name is no UTF-8, which keys are")?;
                continue;
            };
            let key = format!("{prefix}{name}");
            if named.metadata.is_dir() {
                self.directory(&path, &format!("{key}/"))?;
            } else if self.filter.takes(&key) {
                self.file(path, key, &named.metadata)?;
            }
        }
        self.above.pop();
        Ok(())
    }

    /// What is in a directory, in the order of keys.
    fn names(&self, path: &Path) -> Result<Vec<Named>, Unwanted> {
        let mut names = Vec::new();
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => {
                self.problem(path, error)?;
                return Ok(names);
            }
        };
        for entry in entries {
            match entry.and_then(|entry| self.named(&entry)) {
                Ok(Some(named)) => names.push(named),
                Ok(None) => {}
                Err(error) => self.problem(path, error)?,
            }
        }
        names.sort_by(|a, b| a.order.cmp(&b.order));
        Ok(names)
    }

    /// What a name stands for; `None` when it is passed over.
    fn named(&self, entry: &fs::DirEntry) -> io::Result<Option<Named>> {
        let name = entry.file_name();
        if is_unfinished(&name) {
            return Ok(None);
        }
        let mut metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // It has gone meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if metadata.is_symlink() {
            match self.symlinks {
                Symlinks::Skipped => return Ok(None),
                // It is a problem further down, as files of other kinds are; so is one that leads nowhere.
                Symlinks::Refused => {}
                Symlinks::Followed => metadata = fs::metadata(entry.path()).unwrap_or(metadata),
            }
        }
        let mut order = name.as_bytes().to_vec();
        if metadata.is_dir() {
            order.push(b'/');
        }
        Ok(Some(Named {
            name,
            order,
            metadata,
        }))
    }

    fn file(&self, path: PathBuf, key: String, metadata: &fs::Metadata) -> Result<(), Unwanted> {
        if metadata.is_symlink() {
            let why = match self.symlinks {
                Symlinks::Followed => "it is a symbolic link that leads nowhere",
                _ => "it is a symbolic link: --follow-symlinks or --skip-symlinks says what to do",
            };
            return self.problem(&path, why);
        }
        if !metadata.is_file() {
            return self.problem(&path, "it is neither a file nor a directory");
        }
        let modified = match metadata.modified() {
            Ok(modified) => modified,
            Err(error) => return self.problem(&path, error),
        };
        self.send(Found::Entry(Entry {
            key,
            size: metadata.len(),
            modified,
            source: Source::File(path),
        }))
    }

    fn problem(&self, path: &Path, why: impl std::fmt::Display) -> Result<(), Unwanted> {
        self.send(Found::Problem(path.display().to_string(), why.to_string()))
    }

    fn send(&self, found: Found) -> Result<(), Unwanted> {
        self.found.blocking_send(found).map_err(|_| Unwanted)
    }
}

/// A name for a file that is not whole yet. Walks pass over it, should a crash leave it behind.
pub fn unfinished_name() -> io::Result<String> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let (before, behind) = UNFINISHED;
    Ok(format!(
        "{before}{:016x}{behind}",
        u64::from_ne_bytes(random)
    ))
}

fn is_unfinished(name: &std::ffi::OsStr) -> bool {
    let (before, behind) = UNFINISHED;
    let between = name
        .to_str()
        .and_then(|name| name.strip_prefix(before)?.strip_suffix(behind));
    between
        .is_some_and(|text| text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The path of a key below a directory; an error when there is none, or none below.
pub fn relative_path(key: &str) -> Result<PathBuf, &'static str> {
    if key.ends_with('/') {
        return Err("a key that ends with a slash has no name for a file");
    }
    if key.contains('\0') {
        return Err("a key with a NUL has no path");
    }
    if key.split('/').any(str::is_empty) {
        return Err("a key with an empty segment has no path");
    }
    if key.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err("a key with the segment . or .. would leave its directory");
    }
    let path = PathBuf::from(key);
    debug_assert!(
        path.components()
            .all(|part| matches!(part, Component::Normal(_)))
    );
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::{ffi::OsStringExt as _, fs::symlink};

    use super::*;

    async fn walked(root: &Path, symlinks: Symlinks) -> (Vec<String>, Vec<String>) {
        let mut tree = of_directory(root.to_owned(), Filter::default(), symlinks);
        let (mut keys, mut problems) = (Vec::new(), Vec::new());
        while let Some(found) = tree.recv().await {
            match found {
                Found::Entry(entry) => keys.push(entry.key),
                Found::Problem(place, why) => problems.push(format!("{place}: {why}")),
                Found::End(why) => panic!("{why}"),
            }
        }
        (keys, problems)
    }

    #[tokio::test]
    async fn a_walk_is_in_the_order_of_keys() {
        let root = tempfile::tempdir().unwrap();
        let keys = ["a-b", "a.txt", "a/b/c", "a/b-c", "a0", "b", "ä/x"];
        for key in keys {
            let path = root.path().join(key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, key).unwrap();
        }
        fs::write(root.path().join(unfinished_name().unwrap()), "").unwrap();
        let mut sorted = keys.to_vec();
        sorted.sort_unstable();
        let (found, problems) = walked(root.path(), Symlinks::Refused).await;
        assert_eq!(
            (found, problems),
            (sorted.iter().map(|key| key.to_string()).collect(), vec![])
        );
        let missing = walked(&root.path().join("missing"), Symlinks::Refused).await;
        assert_eq!(missing, (vec![], vec![]));
    }

    #[tokio::test]
    async fn what_is_no_file_is_a_problem() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::create_dir_all(root.join("d/e")).unwrap();
        fs::write(root.join("d/file"), "x").unwrap();
        symlink("file", root.join("d/link")).unwrap();
        symlink("..", root.join("d/e/up")).unwrap();
        symlink("nowhere", root.join("broken")).unwrap();
        fs::write(root.join(OsString::from_vec(vec![b'x', 0xff])), "x").unwrap();
        let socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();

        let (found, problems) = walked(root, Symlinks::Refused).await;
        assert_eq!(found, ["d/file"]);
        assert_eq!(problems.len(), 5, "{problems:?}");
        let (found, problems) = walked(root, Symlinks::Followed).await;
        assert_eq!(found, ["d/file", "d/link"]);
        for expected in [
            "broken: it is a symbolic link that leads nowhere",
            "d/e/up: it leads back",
            "no UTF-8",
            "socket: it is neither",
        ] {
            let all = problems.join("\n");
            assert!(all.contains(expected), "{expected} is not in:\n{all}");
        }
        let (found, problems) = walked(root, Symlinks::Skipped).await;
        assert_eq!((found.len(), problems.len()), (1, 2), "{problems:?}");
        drop(socket);
    }

    #[test]
    fn keys_stay_below_their_directory() {
        for key in ["a", "a/b", "...", "a b/ä", ".x/..y", "-"] {
            assert_eq!(relative_path(key).unwrap(), Path::new(key));
        }
        for key in [
            "..", "../a", "a/../b", "a/./b", "/a", "a//b", "a/", "", "a\0b", ".",
        ] {
            assert!(relative_path(key).is_err(), "{key}");
        }
    }
}
