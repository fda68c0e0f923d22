//! The secrets that Jay makes when its owner configured none, and the file that keeps them.
//!
//! `serve` calls [`Credentials::load_or_make`] before it opens the store, so that whatever the store is
//! sealed with is on disk first; `print-config` calls [`Credentials::load`]. Absent on purpose: what is
//! shown to people, which is [`crate::cli::print_config`].

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Name of the file in the data directory.
pub const FILE: &str = "credentials";
/// There while a backup is brought back, which brings the file too.
const RESTORING: &str = "RESTORING";
/// Account that owns the generated access key.
const ACCOUNT: &str = "default";
/// Bucket that a store without configuration starts with.
const BUCKET: &str = "default";
/// RFC 4648: no digit that looks like a letter.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Needs no quoting in a shell, a URL or a file of settings.
const LETTERS_AND_DIGITS: &[u8; 62] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// What is in the file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Version of this layout.
    version: u32,
    /// Bearer token of the admin API: 64 hex digits.
    pub admin_token: Zeroizing<String>,
    /// Seals the token secrets in the store: 64 hex digits.
    pub signing_secret: Zeroizing<String>,
    /// The one before, while a change of the signing secret is under way: what it sealed is sealed anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_signing_secret: Option<Zeroizing<String>>,
    /// Name of the account that owns the access key.
    pub account: String,
    /// `JAY` and 17 characters.
    pub access_key_id: String,
    /// 40 characters.
    pub secret_access_key: Zeroizing<String>,
    /// The bucket that is there from the start.
    pub bucket: String,
}

impl Credentials {
    /// Those of `data_dir`, made now if there are none; true when they are new.
    pub fn load_or_make(data_dir: &Path) -> anyhow::Result<(Self, bool)> {
        if let Some(found) = Self::load(data_dir)? {
            return Ok((found, false));
        }
        if data_dir.join(RESTORING).exists() {
            bail!(
                "a restore into {} was not finished: give the same `jay backup restore` again",
                data_dir.display()
            );
        }
        if holds_a_store(data_dir) {
            bail!(
                "{} holds a store but no credentials: it was made with JAY_ADMIN_TOKEN and JAY_SIGNING_SECRET; \
                 set both as before, or put its file `{FILE}` back",
                data_dir.display()
            );
        }
        make_dir(data_dir).with_context(|| no_access(data_dir))?;
        let made = Self::make()?;
        match made.store(data_dir) {
            Ok(()) => Ok((made, true)),
            // Another process was faster; the store's lock decides which of us serves.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                match Self::load(data_dir)? {
                    Some(found) => Ok((found, false)),
                    None => Err(error).with_context(|| no_access(data_dir)),
                }
            }
            Err(error) => Err(error).with_context(|| no_access(data_dir)),
        }
    }

    /// Those of `data_dir`, if there are any.
    pub fn load(data_dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = Self::path(data_dir);
        let text = match fs::read(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                bail!(
                    "{} cannot be read ({error}): give this user rights on it, or choose another JAY_DATA_DIR",
                    path.display()
                );
            }
        };
        // serde's own message may quote what it found.
        let Ok(found) = serde_json::from_slice::<Self>(&text) else {
            bail!("{} is damaged: put it back from a copy", path.display());
        };
        if found.version != 1 {
            bail!(
                "{} was written by a later version of Jay: use that version",
                path.display()
            );
        }
        Ok(Some(found))
    }

    /// Where they are kept.
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join(FILE)
    }

    /// Whether others than the owner may read the file.
    pub fn open_to_others(data_dir: &Path) -> bool {
        fs::metadata(Self::path(data_dir)).is_ok_and(|file| file.permissions().mode() & 0o077 != 0)
    }

    fn make() -> anyhow::Result<Self> {
        Ok(Self {
            version: 1,
            admin_token: random_hex()?,
            signing_secret: random_hex()?,
            old_signing_secret: None,
            account: ACCOUNT.into(),
            access_key_id: format!("JAY{}", *random_text(BASE32, 17)?),
            secret_access_key: random_text(LETTERS_AND_DIGITS, 40)?,
            bucket: BUCKET.into(),
        })
    }

    /// The same with a new signing secret, beside the old one.
    pub fn with_new_signing_secret(&self) -> anyhow::Result<Self> {
        Ok(Self {
            signing_secret: random_hex()?,
            old_signing_secret: Some(self.signing_secret.clone()),
            ..self.clone()
        })
    }

    /// The same with the new signing secret alone.
    pub fn without_old_signing_secret(&self) -> Self {
        Self {
            old_signing_secret: None,
            ..self.clone()
        }
    }

    /// Keeps other processes from changing the file until it is dropped.
    pub fn lock(data_dir: &Path) -> anyhow::Result<File> {
        let dir = File::open(data_dir).with_context(|| no_access(data_dir))?;
        match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(dir),
            Err(rustix::io::Errno::WOULDBLOCK) => bail!(
                "another process is changing the secrets in {}: wait for it",
                data_dir.display()
            ),
            Err(error) => Err(error).with_context(|| no_access(data_dir)),
        }
    }

    /// Makes the file appear whole and durable, or not at all; never in place of another one.
    fn store(&self, data_dir: &Path) -> io::Result<()> {
        self.write(data_dir, rename_new)
    }

    /// Puts these in the place of those in the file: whoever looks, after a crash too, finds the ones or the others.
    ///
    /// # Errors
    /// What the operating system says; the file is then as it was, or as it shall be but perhaps not for long.
    pub fn replace(&self, data_dir: &Path) -> io::Result<()> {
        self.write(data_dir, |from, to| fs::rename(from, to))
    }

    fn write(
        &self,
        data_dir: &Path,
        rename: impl FnOnce(&Path, &Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let temporary = data_dir.join(format!("{FILE}.{}.new", std::process::id()));
        let text = Zeroizing::new(serde_json::to_string_pretty(self).map_err(io::Error::other)?);
        let stored = (|| {
            // A leftover of a process that died here had our id.
            let _ = fs::remove_file(&temporary);
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            rename(&temporary, &Self::path(data_dir))?;
            File::open(data_dir)?.sync_all()
        })();
        if stored.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        stored
    }
}

/// Renames unless `to` exists.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system without that flag: the window between look and rename is left open.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            if to.try_exists()? {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(from, to)
        }
        renamed => Ok(renamed?),
    }
}

fn no_access(data_dir: &Path) -> String {
    format!(
        "{} cannot be used as data directory: give this user rights on it, or choose another JAY_DATA_DIR",
        data_dir.display()
    )
}

fn holds_a_store(data_dir: &Path) -> bool {
    data_dir.join("FORMAT").exists()
}

/// Makes `dir` and what is missing above it, each durable in its parent.
pub fn make_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = match dir.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    make_dir(parent)?;
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => File::open(parent)?.sync_all(),
    }
}

fn random_hex() -> anyhow::Result<Zeroizing<String>> {
    random_text(b"0123456789abcdef", 64)
}

/// `length` characters of `alphabet`, each equally likely.
fn random_text(alphabet: &[u8], length: usize) -> anyhow::Result<Zeroizing<String>> {
    // The largest multiple of the alphabet's size: bytes from there on would favour its first characters.
    let fair = 256 / alphabet.len() * alphabet.len();
    let mut text = Zeroizing::new(String::with_capacity(length));
    while text.len() < length {
        let mut bytes = Zeroizing::new([0_u8; 64]);
        getrandom::fill(bytes.as_mut_slice())
            .map_err(|error| anyhow::anyhow!("the system gives no randomness: {error}"))?;
        let drawn = bytes
            .iter()
            .map(|byte| usize::from(*byte))
            .filter(|byte| *byte < fair);
        for byte in drawn.take(length - text.len()) {
            text.push(char::from(alphabet[byte % alphabet.len()]));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("a/b");
        let (made, new) = Credentials::load_or_make(&data_dir).unwrap();
        assert!(new);
        assert_eq!(made.admin_token.len(), 64);
        assert_eq!(made.signing_secret.len(), 64);
        assert_eq!(made.access_key_id.len(), 20);
        assert!(made.access_key_id.starts_with("JAY"));
        assert!(made.access_key_id.bytes().all(|c| BASE32.contains(&c)));
        assert_eq!(made.secret_access_key.len(), 40);
        let mode = fs::metadata(Credentials::path(&data_dir))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!Credentials::open_to_others(&data_dir));

        let (found, new) = Credentials::load_or_make(&data_dir).unwrap();
        assert!(!new);
        assert_eq!(found.access_key_id, made.access_key_id);
        assert_eq!(*found.secret_access_key, *made.secret_access_key);
        assert_eq!(
            fs::read_dir(&data_dir).unwrap().count(),
            1,
            "a temporary file stayed"
        );
    }

    /// Two processes that start at once on an empty directory must agree, whoever wins.
    #[test]
    fn never_replaces_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let first = Credentials::make().unwrap();
        first.store(dir.path()).unwrap();
        let error = Credentials::make().unwrap().store(dir.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let found = Credentials::load(dir.path()).unwrap().unwrap();
        assert_eq!(found.access_key_id, first.access_key_id);
    }

    #[test]
    fn a_new_signing_secret_comes_beside_the_old_one_and_then_alone() {
        let dir = tempfile::tempdir().unwrap();
        let first = Credentials::make().unwrap();
        first.store(dir.path()).unwrap();
        let load = || Credentials::load(dir.path()).unwrap().unwrap();
        first
            .with_new_signing_secret()
            .unwrap()
            .replace(dir.path())
            .unwrap();
        let both = load();
        assert_ne!(*both.signing_secret, *first.signing_secret);
        assert_eq!(
            both.old_signing_secret.as_ref(),
            Some(&first.signing_secret)
        );
        assert!(!Credentials::open_to_others(dir.path()));
        both.without_old_signing_secret()
            .replace(dir.path())
            .unwrap();
        assert_eq!(*load().signing_secret, *both.signing_secret);
        assert!(load().old_signing_secret.is_none());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn one_process_changes_the_file_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Credentials::lock(dir.path()).unwrap();
        assert!(Credentials::lock(dir.path()).is_err());
        drop(lock);
        Credentials::lock(dir.path()).unwrap();
    }

    #[test]
    fn a_damaged_file_is_refused_without_showing_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(Credentials::path(dir.path()), r#"{"admin_token":"hidden""#).unwrap();
        let error = Credentials::load(dir.path()).err().unwrap();
        assert!(!format!("{error:?}").contains("hidden"), "{error:?}");
    }

    #[test]
    fn a_store_without_its_file_gets_no_new_secrets() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("FORMAT"), "").unwrap();
        let error = Credentials::load_or_make(dir.path())
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("JAY_SIGNING_SECRET"), "{error}");
        assert!(!Credentials::path(dir.path()).exists());
    }
}
