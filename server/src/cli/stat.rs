//! `jay stat`: all that is known of objects.

use std::{collections::BTreeMap, ffi::OsString, fmt::Write as _, process::ExitCode};

use jay_client::ContentHeaders;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    Usage,
    ls::{local, remote_with_bucket, timestamp},
    store::{Object, StoreArgs, Stores},
    teller::{TellArgs, Teller, shown},
};

/// Options of `stat`.
#[derive(Clone, Debug, clap::Args)]
pub struct StatArgs {
    /// Objects of jay:// or s3:// places
    #[arg(required = true, value_name = "PLACE")]
    places: Vec<OsString>,
    #[command(flatten)]
    tell: TellArgs,
    #[command(flatten)]
    store: StoreArgs,
}

/// An object, for programs.
#[derive(Serialize)]
struct Told<'a> {
    place: &'a str,
    size: u64,
    modified: Timestamp,
    etag: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    crc64nvme: Option<String>,
    content_type: &'a str,
    #[serde(flatten)]
    headers: BTreeMap<&'static str, &'a str>,
    metadata: &'a BTreeMap<String, String>,
}

/// One after the other; 1 when one is not there.
pub async fn run(args: StatArgs) -> anyhow::Result<ExitCode> {
    let places = args
        .places
        .iter()
        .map(remote_with_bucket)
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(place) = places.iter().find(|place| place.key.is_empty()) {
        anyhow::bail!(Usage(format!("{place} is no object")));
    }
    let stores = Stores::new(args.store);
    let teller = Teller::new(args.tell, false);
    for place in &places {
        let name = place.to_string();
        match stores
            .open(&place.server)?
            .head(&place.bucket, &place.key)
            .await
        {
            Ok(object) => tell(&teller, &name, &object),
            Err(error) => teller.failed(&name, error),
        }
    }
    Ok(teller.ended(places.len() as u64))
}

fn tell(teller: &Teller, place: &str, object: &Object) {
    let description = object.description.clone().unwrap_or_default();
    let told = Told {
        place,
        size: object.size,
        modified: timestamp(object.modified),
        etag: &object.etag,
        crc64nvme: object.crc64.map(|sum| format!("{sum:016x}")),
        content_type: &description.content_type,
        headers: headers(&description.headers),
        metadata: &description.metadata,
    };
    teller.say(&told, || {
        let mut text = format!("{}\n", shown(place));
        let mut line = |name: &str, value: &str| {
            // A String takes everything.
            let _ = writeln!(text, "  {name:<20} {}", shown(value));
        };
        line("size", &told.size.to_string());
        line("modified", &local(object.modified).to_string());
        line("etag", told.etag);
        line("crc64nvme", told.crc64nvme.as_deref().unwrap_or("-"));
        line("content_type", told.content_type);
        told.headers
            .iter()
            .for_each(|(name, value)| line(name, value));
        for (name, value) in told.metadata {
            line(&format!("metadata.{name}"), value);
        }
        text.truncate(text.trim_end().len());
        text
    });
}

fn headers(headers: &ContentHeaders) -> BTreeMap<&'static str, &str> {
    let all = [
        ("cache_control", &headers.cache_control),
        ("content_disposition", &headers.content_disposition),
        ("content_encoding", &headers.content_encoding),
        ("content_language", &headers.content_language),
        ("expires", &headers.expires),
    ];
    let given = all.into_iter();
    given
        .filter_map(|(name, value)| Some((name, value.as_deref()?)))
        .collect()
}
