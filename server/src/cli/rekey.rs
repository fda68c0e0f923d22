//! `jay rekey`: a new signing secret for a store that no server has open.
//!
//! The secrets come from the environment; a store that made its own gets a new one made, and its file names both
//! until everything is sealed anew, so that whoever comes after a crash can go on: this command, or `serve`. Absent on
//! purpose: the sealing, which is the engine's.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use jay_engine::{EngineConfig, OldSecret, OpenError, RekeyReport};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::{
    config::{self, SECRET_BYTES_MIN},
    credentials::Credentials,
};

/// The secret that everything is sealed under now.
const OLD: &str = "JAY_OLD_SIGNING_SECRET";
/// The one that it shall be sealed under.
const NEW: &str = "JAY_SIGNING_SECRET";

/// Options of `rekey`.
#[derive(clap::Args)]
pub struct RekeyArgs {
    /// Where the store is [default: JAY_DATA_DIR, else ./data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The old signing secret is lost: signatures of the access keys that are sealed under it are refused from then
    /// on, for good; `Authorization: Bearer` goes on
    #[arg(long)]
    lost: bool,
}

/// Seals the secrets of all access keys under a new signing secret.
pub fn run(args: &RekeyArgs) -> anyhow::Result<()> {
    let data_dir = args.data_dir.clone().unwrap_or_else(config::data_dir);
    if jay_engine::store_id(&data_dir).is_none() {
        bail!(
            "{} holds no store: name the right directory by --data-dir or JAY_DATA_DIR",
            data_dir.display()
        );
    }
    let chosen = chosen(args.lost)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (report, hint) = match chosen {
        Some((new, old)) => (
            runtime.block_on(reseal(&data_dir, &new, old))?,
            format!("Start `jay` with the new {NEW}, and unset {OLD}."),
        ),
        None => (
            runtime.block_on(remake(&data_dir, args.lost))?,
            "The new signing secret is in the data directory: start `jay` as ever.".to_owned(),
        ),
    };
    let text = text(&report) + &hint + "\n";
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("standard output could not be written")
}

fn text(report: &RekeyReport) -> String {
    let RekeyReport {
        resealed,
        unchanged,
        given_up,
    } = *report;
    if resealed + unchanged + given_up == 0 {
        return "No encrypted tokens found — nothing rekeyed.\n".into();
    }
    let mut text = format!("Rekeyed {resealed} token(s) successfully.\n");
    if unchanged > 0 {
        text += &format!("{unchanged} were under the new secret already.\n");
    }
    if given_up > 0 {
        text += &format!(
            "{given_up} were given up: their signatures are refused from now on, and only Bearer goes on. Make new \
             access keys for whoever signs.\n"
        );
    }
    text
}

/// The new secret and the old one, if the environment names any.
fn chosen(lost: bool) -> anyhow::Result<Option<(Zeroizing<String>, OldSecret)>> {
    let openssl = "(openssl rand -hex 32)";
    match (variable(NEW)?, variable(OLD)?) {
        (None, None) => Ok(None),
        (None, Some(_)) => bail!("{NEW} is not set: set it to the new signing secret {openssl}"),
        (Some(_), Some(_)) if lost => {
            bail!(
                "--lost is for a secret that nobody knows any more, but {OLD} is set: leave one of the two out"
            )
        }
        (Some(new), None) if lost => Ok(Some((new, OldSecret::Lost))),
        (Some(_), None) => bail!(
            "{OLD} is not set: set it to the signing secret that the store has had until now (--lost if nobody knows it \
             any more), and {NEW} to the new one"
        ),
        (Some(new), Some(old)) if bool::from(new.as_bytes().ct_eq(old.as_bytes())) => {
            bail!("{OLD} and {NEW} are the same: set {NEW} to a new one {openssl}")
        }
        (Some(new), Some(old)) => Ok(Some((new, OldSecret::Is(old)))),
    }
}

fn variable(name: &str) -> anyhow::Result<Option<Zeroizing<String>>> {
    let Some(value) = std::env::var_os(name) else {
        return Ok(None);
    };
    // The value itself is not repeated: it is a secret.
    let Ok(text) = value.into_string().map(Zeroizing::new) else {
        bail!("{name} is not valid UTF-8: correct it");
    };
    match text.len() {
        length if length < SECRET_BYTES_MIN => {
            bail!("{name} has {length} bytes: a signing secret has at least {SECRET_BYTES_MIN}")
        }
        _ => Ok(Some(text)),
    }
}

/// Gives a store that made its own secrets a new one.
async fn remake(data_dir: &Path, lost: bool) -> anyhow::Result<RekeyReport> {
    let _lock = Credentials::lock(data_dir)?;
    let Some(found) = Credentials::load(data_dir)? else {
        bail!(
            "{} has no credentials of its own: set {OLD} to its signing secret, or give --lost if nobody knows it any \
             more; and {NEW} to a new one (openssl rand -hex 32)",
            data_dir.display()
        );
    };
    if found.old_signing_secret.is_some() {
        return Ok(reseal_made(data_dir, found, lost).await?.1);
    }
    // That the store is free and its secret right is known before the file says anything else.
    let now = &found.signing_secret;
    let looked = reseal_with(data_dir, now, OldSecret::Is(now.clone())).await;
    match looked {
        Err(OpenError::WrongSecret) if lost => {}
        looked => drop(looked.map_err(refusal)?),
    }
    let both = found.with_new_signing_secret()?;
    both.replace(data_dir)
        .with_context(|| unwritable(data_dir))?;
    Ok(reseal_made(data_dir, both, lost).await?.1)
}

/// Goes on where [`remake`] was cut short, if it was: answers what the file says in the end.
pub async fn finish(data_dir: &Path, found: Credentials) -> anyhow::Result<Credentials> {
    if found.old_signing_secret.is_none() {
        return Ok(found);
    }
    let _lock = Credentials::lock(data_dir)?;
    let (settled, report) = reseal_made(data_dir, found, false).await?;
    tracing::warn!(
        tokens = report.resealed,
        "credentials: finished a change of the signing secret that was cut short"
    );
    Ok(settled)
}

/// Seals everything under the new one of both secrets, then forgets the old one.
async fn reseal_made(
    data_dir: &Path,
    both: Credentials,
    lost: bool,
) -> anyhow::Result<(Credentials, RekeyReport)> {
    let old = match &both.old_signing_secret {
        Some(old) if !lost => OldSecret::Is(old.clone()),
        _ => OldSecret::Lost,
    };
    let report = reseal(data_dir, &both.signing_secret, old).await?;
    let settled = both.without_old_signing_secret();
    settled
        .replace(data_dir)
        .with_context(|| unwritable(data_dir))?;
    Ok((settled, report))
}

async fn reseal(data_dir: &Path, new: &str, old: OldSecret) -> anyhow::Result<RekeyReport> {
    reseal_with(data_dir, new, old).await.map_err(refusal)
}

async fn reseal_with(data_dir: &Path, new: &str, old: OldSecret) -> Result<RekeyReport, OpenError> {
    jay_engine::rekey(EngineConfig::new(data_dir, new), old).await
}

fn refusal(error: OpenError) -> anyhow::Error {
    match error {
        OpenError::AlreadyRunning { dir } => {
            anyhow::anyhow!("{} is in use: stop the server first", dir.display())
        }
        OpenError::WrongSecret => anyhow::anyhow!(
            "the old signing secret is not the one that the access keys of this store are sealed under, and nothing was \
             changed: correct it, or give --lost if nobody knows it any more"
        ),
        // Its Display is whole, causes included.
        error => anyhow::anyhow!("{error}"),
    }
}

fn unwritable(data_dir: &Path) -> String {
    format!(
        "{} cannot be written: make room, or give this user rights on it, and run `jay rekey` again",
        Credentials::path(data_dir).display()
    )
}
