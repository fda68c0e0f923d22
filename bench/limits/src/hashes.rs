//! Sums over bodies, on one core and with the crates the engine uses: the limit of every upload that is verified.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use crc_fast::{CrcAlgorithm, checksum};
use md5::Md5;
use sha2::{Digest, Sha256};

use crate::row::Row;

/// Measures MD5, SHA-256, CRC32C and CRC64-NVME over 64 KiB and 1 MiB.
pub fn limits(duration: Duration) -> Vec<Row> {
    type Sum = fn(&[u8]) -> u64;
    let sums: [(&str, Sum); 4] = [
        ("md5", |body| u64::from(Md5::digest(body)[0])),
        ("sha256", |body| u64::from(Sha256::digest(body)[0])),
        ("crc32c", |body| checksum(CrcAlgorithm::Crc32Iscsi, body)),
        ("crc64nvme", |body| checksum(CrcAlgorithm::Crc64Nvme, body)),
    ];
    let mut rows = Vec::new();
    for (name, sum) in sums {
        for kib in [64, 1024] {
            let body = vec![b'x'; kib << 10];
            let start = Instant::now();
            let mut count = 0;
            while start.elapsed() < duration / 4 {
                black_box(sum(black_box(&body)));
                count += 1;
            }
            let per_s = f64::from(count) / start.elapsed().as_secs_f64();
            rows.push(Row {
                name: format!("{name} {kib} KiB"),
                per_s,
                unit: "bodies",
                mib_per_s: Some(per_s * kib as f64 / 1024.0),
                ..Row::default()
            });
        }
    }
    rows
}
