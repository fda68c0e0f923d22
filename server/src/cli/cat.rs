//! `jay cat`: objects on standard output.

use std::{ffi::OsString, process::ExitCode};

use anyhow::bail;

use super::{
    Usage,
    ls::remote_with_bucket,
    place::Remote,
    store::{Range, StoreArgs, Stores},
    teller::print,
};

/// Options of `cat`.
#[derive(Clone, Debug, clap::Args)]
pub struct CatArgs {
    /// Objects of jay:// or s3:// places
    #[arg(required = true, value_name = "PLACE")]
    places: Vec<OsString>,
    /// Only these bytes: 0-99 (both of them too), 100- or, the last ones, -100
    #[arg(long, value_parser = parse_range, allow_hyphen_values = true)]
    range: Option<Range>,
    #[command(flatten)]
    store: StoreArgs,
}

/// One behind the other.
pub async fn run(args: CatArgs) -> anyhow::Result<ExitCode> {
    let places = args
        .places
        .iter()
        .map(remote_with_bucket)
        .collect::<Result<Vec<_>, _>>()?;
    let stores = Stores::new(args.store);
    for place in &places {
        copy(&stores, place, args.range).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// An object, or some of it, on standard output.
pub async fn copy(stores: &Stores, from: &Remote, range: Option<Range>) -> anyhow::Result<()> {
    if from.is_directory() {
        bail!(Usage(format!("{from} is no object")));
    }
    let store = stores.open(&from.server)?;
    let mut download = store.get(&from.bucket, &from.key, range, None).await?;
    while let Some(bytes) = download.next().await? {
        print(&bytes);
    }
    Ok(())
}

fn parse_range(text: &str) -> Result<Range, String> {
    let wrong = || "a range is 0-99, 100- or -100".to_owned();
    let text = text.strip_prefix("bytes=").unwrap_or(text);
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
    match (first, last) {
        ("", count) => number(count).map(Range::Last),
        (first, "") => number(first).map(Range::From),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            let end = last.checked_add(1).filter(|&end| first < end);
            Ok(Range::Between(first, end.ok_or_else(wrong)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_http() {
        assert_eq!(parse_range("0-99"), Ok(Range::Between(0, 100)));
        assert_eq!(parse_range("bytes=5-5"), Ok(Range::Between(5, 6)));
        assert_eq!(parse_range("100-"), Ok(Range::From(100)));
        assert_eq!(parse_range("-100"), Ok(Range::Last(100)));
        for text in [
            "",
            "-",
            "5",
            "9-5",
            "a-b",
            "0-18446744073709551615",
            "1-2-3",
        ] {
            assert!(parse_range(text).is_err(), "{text}");
        }
    }
}
