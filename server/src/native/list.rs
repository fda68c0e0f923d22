//! ListObjects. A page is one frame of metadata, so it ends early where that would become too long.

use jay_engine::{BucketName, LIST_PAGE_MAX, ListEntry, ListOptions};
use jay_wire::{METADATA_BYTES_MAX, list::*};

use super::{Call, error::Result, object, time};

/// Bytes of a page besides its entries: counts, the flag, the cursor (a key, or a prefix of one).
const PAGE_BYTES: usize = 2 + 2 + 1 + 2 + jay_engine::KEY_BYTES_MAX;
/// Bytes of an entry besides its texts: their lengths and the size.
const ENTRY_BYTES: usize = 5 * 2 + 8;
/// Length of a moment on the wire.
const TIME_BYTES: usize = 20;

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
    Ok(self::page(page, METADATA_BYTES_MAX as usize))
}

/// As much of a page as fits into so many bytes.
fn page(listed: jay_engine::ListPage, bytes_max: usize) -> ObjectPage {
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
            ListEntry::Object(info) => Some(self::entry(&info)),
            ListEntry::CommonPrefix(_) => None,
        };
        bytes += entry.as_ref().map_or(2 + name.len(), entry_bytes);
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

fn entry(info: &jay_engine::ObjectInfo) -> ObjectEntry {
    ObjectEntry {
        key: info.key.as_str().to_owned(),
        size: info.size,
        etag: info.etag.as_str().to_owned(),
        checksum: object::checksum(info),
        last_modified: time(info.last_modified),
        content_type: object::content_type(info),
    }
}

fn entry_bytes(entry: &ObjectEntry) -> usize {
    let texts = [
        &entry.key,
        &entry.etag,
        &entry.checksum,
        &entry.content_type,
    ];
    let texts: usize = texts.iter().map(|text| text.len()).sum();
    ENTRY_BYTES + TIME_BYTES + texts
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
        let page = page(prefixes(&["a/".into(), "b/".into()], Some("b/")), 4096);
        assert!(page.is_truncated);
        assert_eq!(page.next_start_after, "b/");
    }

    /// W7: a thousand long keys were more than a frame.
    #[test]
    fn a_page_ends_where_its_frame_would_be_too_long() {
        let names: Vec<String> = (0..1000)
            .map(|n| format!("{n:04}{}", "k".repeat(1020)))
            .collect();
        let page = page(prefixes(&names, None), 100_000);
        assert!(page.is_truncated && page.common_prefixes.len() > 90);
        let bytes = page.to_bytes().unwrap().len();
        assert!((98_000..=100_000).contains(&bytes), "{bytes}");
        assert_eq!(page.next_start_after, *page.common_prefixes.last().unwrap());
    }

    #[test]
    fn an_entry_is_as_long_as_it_is_taken_for() {
        let entry = ObjectEntry {
            key: "a key".into(),
            checksum: "c".repeat(70),
            content_type: "text/plain".into(),
            ..ObjectEntry::default()
        };
        assert_eq!(entry.to_bytes().unwrap().len(), entry_bytes(&entry));
    }
}
