//! Keys and values of the index.

use crate::meta::{
    key::{Key, tag},
    record::{Checkpoint, Location, PartSet, Record},
};

/// What can be read is written as it was: a row has one form. The bytes are a key, and a value behind the first byte of
/// its key.
pub fn records(data: &[u8]) {
    if let Ok(key) = Key::decode(data) {
        assert_eq!(key.encode(), data);
    }
    match data.split_first() {
        Some((&tag::CHECKPOINT, value)) => {
            if let Ok(checkpoint) = Checkpoint::decode(value) {
                assert_eq!(checkpoint.encode(), value);
            }
        }
        Some((&tag, value)) => record(tag, value),
        None => {}
    }
}

fn record(tag: u8, value: &[u8]) {
    let Ok(record) = Record::decode(tag, value) else {
        return;
    };
    let written = record.encode();
    assert_eq!(Record::decode(tag, &written).as_ref().ok(), Some(&record));
    // One of an older version is written as one of this version.
    if written[0] == value[0] {
        assert_eq!(written, value);
    }
    if let Some((Location::Parts(set), _)) = record.body() {
        parts(set);
    }
}

/// The parts lie one behind the other, and each byte is in the part that is said to have it.
fn parts(set: &PartSet) {
    let mut end = 0;
    for place in (1..=set.count()).take(100) {
        let range = set.range_of(place).expect("there are so many parts");
        assert_eq!(range.start, end);
        end = range.end;
        if let Some(last) = range.end.checked_sub(1).filter(|last| *last >= range.start) {
            let of = |at| set.part_at(at).map(|(_, range)| range);
            assert_eq!(
                (of(range.start), of(last)),
                (Some(range.clone()), Some(range))
            );
        }
    }
    assert_eq!(set.range_of(set.count().saturating_add(1)), None);
    assert_eq!(set.part_at(u64::MAX), None);
}
