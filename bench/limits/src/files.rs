//! A file that is durable under its name: the limit of every large write.
//!
//! `O_TMPFILE`, write, `fdatasync`, `linkat`, `fsync` of the directory; nothing shares a sync with anybody.

use std::{
    fs::File,
    io::Write,
    os::fd::AsRawFd,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use hdrhistogram::Histogram;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};

use crate::row::{Row, histogram, record};

/// How many files a writer leaves before it removes its oldest.
const KEPT: u64 = 4;

/// Measures 1 MiB with one and eight writers, and 64 MiB with one.
pub fn limits(dir: &Path, duration: Duration) -> anyhow::Result<Vec<Row>> {
    [(1, 1), (1, 8), (64, 1), (64, 4)]
        .into_iter()
        .map(|(mib, writers)| limit(dir, mib, writers, duration))
        .collect()
}

/// MiB per second that are durable under names.
pub fn rate(dir: &Path, mib: usize, writers: u32, duration: Duration) -> anyhow::Result<f64> {
    let row = limit(dir, mib, writers, duration)?;
    Ok(row.mib_per_s.unwrap_or_default())
}

fn limit(dir: &Path, mib: usize, writers: u32, duration: Duration) -> anyhow::Result<Row> {
    let dir = tempfile::Builder::new().prefix("file-").tempdir_in(dir)?;
    let body = vec![b'x'; 1 << 20];
    let mut latencies = histogram();
    let start = Instant::now();
    thread::scope(|scope| {
        let writers: Vec<_> = (0..writers)
            .map(|writer| {
                let (dir, body) = (dir.path(), &body);
                scope.spawn(move || write_files(dir, writer, body, mib, start + duration))
            })
            .collect();
        for writer in writers {
            latencies.add(writer.join().expect("writers do not panic")?)?;
        }
        anyhow::Ok(())
    })?;
    // The time for removing old files is not counted, so neither is the wall's clock.
    let per_s = f64::from(writers) / (latencies.mean() / 1e9);
    let row = Row {
        name: format!("file {mib} MiB writers={writers}"),
        per_s,
        unit: "files",
        mib_per_s: Some(per_s * mib as f64),
        ..Row::default()
    };
    Ok(row.with_latencies(&latencies))
}

fn write_files(
    dir: &Path,
    writer: u32,
    mebibyte: &[u8],
    mib: usize,
    end: Instant,
) -> anyhow::Result<Histogram<u64>> {
    let directory = File::open(dir)?;
    let mut latencies = histogram();
    for number in 0u64.. {
        if let Some(old) = number.checked_sub(KEPT) {
            std::fs::remove_file(dir.join(format!("{writer}-{old}")))?;
        }
        let start = Instant::now();
        if start >= end && number > 0 {
            break;
        }
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = open(dir, flags, Mode::RUSR | Mode::WUSR)
            .context("this file system has no O_TMPFILE: choose another --dir")?;
        let mut file = File::from(file);
        for _ in 0..mib {
            file.write_all(mebibyte)?;
        }
        file.sync_data()?;
        let anonymous = format!("/proc/self/fd/{}", file.as_raw_fd());
        let name = format!("{writer}-{number}");
        linkat(CWD, anonymous, &directory, name, AtFlags::SYMLINK_FOLLOW)?;
        directory.sync_all()?;
        record(&mut latencies, start.elapsed());
    }
    Ok(latencies)
}
