//! ListObjects. A page is one frame of metadata, so it ends early where that would become too long.

use jay_engine::{BucketName, LIST_PAGE_MAX, ListEntry, ListOptions};
use jay_wire::{METADATA_BYTES_MAX, Tagged as _, list::*};

use super::{error::Result, object, operation::Call, time};

/// Bytes of a page besides its entries: counts, the flag, the cursor (a key, or a prefix of one), tags and lengths.
const PAGE_BYTES: usize = 64 + jay_engine::KEY_BYTES_MAX;
/// Bytes of an entry of a list before its value.
const LENGTH_BYTES: usize = 4;

pub(super) async fn list_objects(call: &Call<'_>, asked: ListObjects) -> Result<ObjectPage> {
    let bucket = BucketName::parse(&asked.bucket)?;
    let options = ListOptions {
        prefix: asked.prefix,
        delimiter: Some(asked.delimiter).filter(|delimiter| !delimiter.is_empty()),
        after: Some(asked.start_after).filter(|after| !after.is_empty()),
        max_keys: match usize::try_from(asked.max_keys) {
            Ok(keys) if keys > 0 => keys.min(LIST_PAGE_MAX),
            _ => LIST_PAGE_MAX,
        },
    };
    let page = call
        .engine
        .list_objects(call.caller, &bucket, &options)
        .await?;
    let bytes_max = METADATA_BYTES_MAX as usize - object::ENVELOPE_BYTES;
    Ok(self::page(page, bytes_max, asked.with_metadata))
}

/// As much of a page as fits into so many bytes.
fn page(listed: jay_engine::ListPage, bytes_max: usize, with_metadata: bool) -> ObjectPage {
    let mut page = ObjectPage {
        is_truncated: listed.next.is_some(),
        ..ObjectPage::default()
    };
    let mut bytes = PAGE_BYTES;
    for entry in listed.entries {
        let name = match &entry {
            ListEntry::Object(object) => object.key.as_str().to_owned(),
            ListEntry::CommonPrefix(prefix) => prefix.clone(),
        };
        let entry = match entry {
            ListEntry::Object(info) => Some(self::entry(&info, with_metadata)),
            ListEntry::CommonPrefix(_) => None,
        };
        bytes += entry
            .as_ref()
            .map_or(LENGTH_BYTES + name.len(), entry_bytes);
        if bytes > bytes_max {
            page.is_truncated = true;
            break;
        }
        // Of a common prefix too, and on the last page: the next page begins behind it.
        page.next_start_after.clone_from(&name);
        match entry {
            Some(entry) => page.objects.push(entry),
            None => page.common_prefixes.push(name),
        }
    }
    page
}

fn entry(info: &jay_engine::ObjectInfo, with_metadata: bool) -> ObjectEntry {
    ObjectEntry {
        key: info.key.as_str().to_owned(),
        size: info.size,
        etag: info.etag.as_str().to_owned(),
        checksum: object::checksum(info),
        last_modified: time(info.last_modified),
        content_type: object::content_type(info),
        version: object::version(info),
        crc64: object::crc64(info),
        metadata: match with_metadata {
            true => info.metadata.clone(),
            false => Default::default(),
        },
        headers: match with_metadata {
            true => object::headers(info),
            false => Default::default(),
        },
    }
}

/// Bytes of an entry in either version: that of version 2 is the longer one.
fn entry_bytes(entry: &ObjectEntry) -> usize {
    let mut bytes = Vec::new();
    entry.write(&mut bytes);
    LENGTH_BYTES + bytes.len()
}

#[cfg(test)]
mod tests {
    use jay_engine::ListPage;
    use jay_wire::Message as _;

    use super::*;

    fn prefixes(names: &[String], next: Option<&str>) -> ListPage {
        ListPage {
            entries: names.iter().cloned().map(ListEntry::CommonPrefix).collect(),
            next: next.map(str::to_owned),
        }
    }

    /// W7: a page of common prefixes alone had no cursor, and old clients asked for it for ever.
    #[test]
    fn a_common_prefix_moves_the_cursor() {
        let page = page(
            prefixes(&["a/".into(), "b/".into()], Some("b/")),
            4096,
            false,
        );
        assert!(page.is_truncated);
        assert_eq!(page.next_start_after, "b/");
    }

    /// W7: a thousand long keys were more than a frame.
    #[test]
    fn a_page_ends_where_its_frame_would_be_too_long() {
        let names: Vec<String> = (0..1000)
            .map(|n| format!("{n:04}{}", "k".repeat(1020)))
            .collect();
        let page = page(prefixes(&names, None), 100_000, false);
        assert!(page.is_truncated && page.common_prefixes.len() > 90);
        for bytes in [page.to_bytes().unwrap(), page.to_metadata().unwrap()] {
            assert!((97_000..=100_000).contains(&bytes.len()), "{}", bytes.len());
        }
        assert_eq!(page.next_start_after, *page.common_prefixes.last().unwrap());
    }
}
