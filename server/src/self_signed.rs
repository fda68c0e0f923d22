//! The certificate that `jay serve --tls-self-signed` makes, for development.
//!
//! It stays in the data directory, so that who trusts it once need not do so again; it is made anew shortly before it
//! expires and when the machine has another name. Beside it is noted whether the server uses it, since the verbs of an
//! operator must know how to call.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    credentials::make_dir,
    listener::tls::{TlsConfig, TlsFiles},
};

const DIR: &str = "tls";
const CERT: &str = "self-signed.crt";
const KEY: &str = "self-signed.key";
const RECORD: &str = "self-signed.json";
/// What messages call the two files.
const FLAG: &str = "--tls-self-signed";
/// For how long a new certificate is good, in days.
const VALID_DAYS: i64 = 365;
/// How long before its end it is replaced, in days.
const RENEW_DAYS: i64 = 30;

/// What is known of the certificate.
#[derive(Serialize, Deserialize)]
struct Record {
    names: Vec<String>,
    expires_at: Timestamp,
    /// Whether the server that started last uses it.
    in_use: bool,
}

/// The files of the certificate in `data_dir`, made if there is none that is good for a while.
pub fn ensure(data_dir: &Path) -> anyhow::Result<TlsFiles> {
    let (files, names, now) = (files(data_dir), names(), Timestamp::now());
    let known = Record::load(data_dir);
    let is_good = known.as_ref().is_some_and(|known| {
        known.names == names
            && known.expires_at > now + (RENEW_DAYS * 24).hours()
            && TlsConfig::load(&files).is_ok()
    });
    if !is_good {
        let in_use = known.is_some_and(|known| known.in_use);
        make(data_dir, &files, names, now, in_use)
            .with_context(|| format!("no certificate could be made in {}", data_dir.display()))?;
    }
    Ok(files)
}

/// Notes whether the server uses the certificate of `data_dir`, if there is one.
pub fn note_use(data_dir: &Path, in_use: bool) -> io::Result<()> {
    match Record::load(data_dir) {
        Some(record) if record.in_use != in_use => Record { in_use, ..record }.store(data_dir),
        _ => Ok(()),
    }
}

/// The files of the certificate, if the server of `data_dir` uses it.
pub fn in_use(data_dir: &Path) -> Option<TlsFiles> {
    let record = Record::load(data_dir)?;
    record.in_use.then(|| files(data_dir))
}

fn files(data_dir: &Path) -> TlsFiles {
    let dir = data_dir.join(DIR);
    TlsFiles {
        cert: dir.join(CERT),
        key: dir.join(KEY),
        names: (FLAG, FLAG),
    }
}

fn make(
    data_dir: &Path,
    files: &TlsFiles,
    names: Vec<String>,
    now: Timestamp,
    in_use: bool,
) -> anyhow::Result<()> {
    let day = |at: Timestamp| {
        let date = at.to_zoned(TimeZone::UTC).date();
        rcgen::date_time_ymd(date.year().into(), date.month() as u8, date.day() as u8)
    };
    let expires_at = now + (VALID_DAYS * 24).hours();
    let mut params = CertificateParams::new(names.clone())?;
    let names_of_owner = &mut params.distinguished_name;
    names_of_owner.push(DnType::CommonName, "Jay, self-signed");
    // A clock that is a little slow must not take it for one of the future.
    params.not_before = day(now - 24.hours());
    params.not_after = day(expires_at);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let cert = params.self_signed(&key)?;
    make_dir(&data_dir.join(DIR))?;
    write(&files.key, &Zeroizing::new(key.serialize_pem()))?;
    write(&files.cert, &cert.pem())?;
    let record = Record {
        names,
        expires_at,
        in_use,
    };
    Ok(record.store(data_dir)?)
}

impl Record {
    fn path(data_dir: &Path) -> PathBuf {
        data_dir.join(DIR).join(RECORD)
    }

    /// What is noted; `None` when nothing is, or nothing that can be read.
    fn load(data_dir: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(Self::path(data_dir)).ok()?).ok()
    }

    fn store(&self, data_dir: &Path) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        write(&Self::path(data_dir), &text)
    }
}

/// Makes the file appear whole and durable, for this user alone.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    // A leftover of a process that died here had our id.
    let _ = fs::remove_file(&temporary);
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// By what clients on this machine and its neighbours call it.
fn names() -> Vec<String> {
    let mut names = ["localhost", "127.0.0.1", "::1"]
        .map(str::to_owned)
        .to_vec();
    let uname = rustix::system::uname();
    let host = uname.nodename().to_str().unwrap_or_default();
    let is_name = |c: u8| c.is_ascii_alphanumeric() || b"-.".contains(&c);
    if !host.is_empty() && host.bytes().all(is_name) && host != "localhost" {
        names.push(host.to_ascii_lowercase());
    }
    names
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn made_once_kept_private_and_renewed_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let files = ensure(dir.path()).unwrap();
        for path in [&files.cert, &files.key] {
            let mode = fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        }
        let cert = || fs::read(&files.cert).unwrap();
        let first = cert();
        ensure(dir.path()).unwrap();
        assert_eq!(cert(), first, "made anew without need");

        let mut record = Record::load(dir.path()).unwrap();
        record.expires_at = Timestamp::now() + (RENEW_DAYS * 24 - 1).hours();
        record.store(dir.path()).unwrap();
        ensure(dir.path()).unwrap();
        let second = cert();
        assert_ne!(second, first, "kept until it expires");

        let mut record = Record::load(dir.path()).unwrap();
        record.names.push("earlier.example".into());
        record.store(dir.path()).unwrap();
        ensure(dir.path()).unwrap();
        let third = cert();
        assert_ne!(third, second, "kept under another name");

        fs::write(&files.key, "cut").unwrap();
        ensure(dir.path()).unwrap();
        assert_ne!(cert(), third, "kept without its key");
        assert_eq!(fs::read_dir(dir.path().join(DIR)).unwrap().count(), 3);
    }

    #[test]
    fn its_use_is_noted() {
        let dir = tempfile::tempdir().unwrap();
        note_use(dir.path(), true).unwrap();
        assert_eq!(in_use(dir.path()), None, "there is none");
        let files = ensure(dir.path()).unwrap();
        assert_eq!(in_use(dir.path()), None);
        note_use(dir.path(), true).unwrap();
        assert_eq!(in_use(dir.path()), Some(files));
        ensure(dir.path()).unwrap();
        assert!(
            in_use(dir.path()).is_some(),
            "a later look does not change it"
        );
        note_use(dir.path(), false).unwrap();
        assert_eq!(in_use(dir.path()), None);
    }
}
