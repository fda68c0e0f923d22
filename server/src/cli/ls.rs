//! `jay ls`: buckets, or what is in one.

use std::{ffi::OsString, fmt, process::ExitCode, time::SystemTime};

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use super::{
    Usage,
    place::{Place, Remote},
    store::{Listing, Object, Page, Store, StoreArgs, Stores},
    teller::{TellArgs, Teller, human, shown},
};

/// Options of `ls`.
#[derive(Clone, Debug, clap::Args)]
pub struct ListArgs {
    /// A bucket, or what keys begin with, of a jay:// or s3:// place [default: the buckets of JAY_URL]
    place: Option<OsString>,
    /// All keys, however deep
    #[arg(long, short)]
    recursive: bool,
    /// Sizes as 1.5 MiB
    #[arg(long, short = 'H')]
    human_readable: bool,
    /// How many objects and bytes, at the end
    #[arg(long)]
    summarize: bool,
    #[command(flatten)]
    tell: TellArgs,
    #[command(flatten)]
    store: StoreArgs,
}

/// One line of a listing, for programs.
#[derive(Serialize)]
#[serde(untagged)]
enum Line<'a> {
    Bucket {
        bucket: &'a str,
        created: Timestamp,
    },
    Prefix {
        prefix: &'a str,
    },
    Object {
        key: &'a str,
        size: u64,
        modified: Timestamp,
        etag: &'a str,
    },
    Total {
        objects: u64,
        bytes: u64,
    },
}

/// A place of a store, as most verbs want one.
pub fn remote(argument: &OsString) -> Result<Remote, Usage> {
    match Place::parse(argument)? {
        Place::Remote(remote) => Ok(remote),
        other => Err(Usage(format!(
            "{other} is no place in a store, as jay:///bucket/key or s3://bucket/key is"
        ))),
    }
}

/// The same, which names a bucket.
pub fn remote_with_bucket(argument: &OsString) -> Result<Remote, Usage> {
    let remote = remote(argument)?;
    match remote.bucket.is_empty() {
        true => Err(Usage(format!("{remote} names no bucket"))),
        false => Ok(remote),
    }
}

/// Lists; 1 when there is nothing that begins so.
pub async fn run(args: ListArgs) -> anyhow::Result<ExitCode> {
    let place = match &args.place {
        Some(place) => remote(place)?,
        None => Remote::known(),
    };
    let store = Stores::new(args.store.clone()).open(&place.server)?;
    let teller = Teller::new(args.tell, false);
    if place.bucket.is_empty() {
        return buckets(&store, &teller).await;
    }
    let listing = Listing {
        bucket: place.bucket.clone(),
        prefix: place.key.clone(),
        is_flat: !args.recursive,
        with_descriptions: false,
    };
    let printer = Printer {
        args: &args,
        teller,
        shown_from: match args.recursive {
            true => 0,
            false => place.key.rfind('/').map_or(0, |slash| slash + 1),
        },
    };
    let (mut lines, mut objects, mut bytes) = (0, 0, 0);
    let mut next = None;
    loop {
        let page = store.list(&listing, next.as_deref()).await?;
        lines += page.objects.len() + page.prefixes.len();
        objects += page.objects.len() as u64;
        bytes += page.objects.iter().map(|object| object.size).sum::<u64>();
        printer.page(&page);
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    if args.summarize {
        printer.total(objects, bytes);
    }
    let is_there = lines > 0 || place.key.is_empty();
    Ok(ExitCode::from(u8::from(!is_there)))
}

async fn buckets(store: &Store, teller: &Teller) -> anyhow::Result<ExitCode> {
    for bucket in store.list_buckets().await? {
        let line = Line::Bucket {
            bucket: &bucket.name,
            created: timestamp(bucket.created),
        };
        teller.say(&line, || {
            format!("{} {}", local(bucket.created), bucket.name)
        });
    }
    Ok(ExitCode::SUCCESS)
}

struct Printer<'a> {
    args: &'a ListArgs,
    teller: Teller,
    /// Of a level of keys only the last segment is shown.
    shown_from: usize,
}

impl Printer<'_> {
    /// Objects and prefixes, in the order of both together.
    fn page(&self, page: &Page) {
        let mut prefixes = page.prefixes.iter().peekable();
        for object in &page.objects {
            while let Some(prefix) = prefixes.next_if(|prefix| **prefix < object.key) {
                self.prefix(prefix);
            }
            self.object(object);
        }
        prefixes.for_each(|prefix| self.prefix(prefix));
    }

    fn prefix(&self, prefix: &str) {
        self.teller.say(&Line::Prefix { prefix }, || {
            format!("{:>30} {}", "PRE", shown(&prefix[self.shown_from..]))
        });
    }

    fn object(&self, object: &Object) {
        let line = Line::Object {
            key: &object.key,
            size: object.size,
            modified: timestamp(object.modified),
            etag: &object.etag,
        };
        self.teller.say(&line, || {
            let name = shown(&object.key[self.shown_from..]);
            format!(
                "{} {:>10} {name}",
                local(object.modified),
                self.size(object.size)
            )
        });
    }

    fn total(&self, objects: u64, bytes: u64) {
        self.teller.say(&Line::Total { objects, bytes }, || {
            format!(
                "\nTotal Objects: {objects}\n   Total Size: {}",
                self.size(bytes)
            )
        });
    }

    fn size(&self, bytes: u64) -> String {
        match self.args.human_readable {
            true => human(bytes),
            false => bytes.to_string(),
        }
    }
}

/// For programs.
pub fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// For people: the time of their clock.
pub fn local(time: SystemTime) -> impl fmt::Display {
    let zoned = timestamp(time).to_zoned(TimeZone::system());
    zoned.strftime("%Y-%m-%d %H:%M:%S").to_string()
}
