//! How far long work is, for who looks: quiet when standard error is no terminal. Gone when dropped.

use indicatif::{ProgressBar, ProgressStyle};

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Anything else.
    Pieces,
}

/// See the module.
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar that says nothing yet.
    pub fn new() -> Self {
        let bar = ProgressBar::no_length();
        bar.set_style(style("{prefix} {spinner} {elapsed}"));
        Self(bar)
    }

    /// Shows that so much of `phase` is done; `total` is 0 while it is not known.
    pub fn show(&self, phase: &str, unit: Unit, done: u64, total: u64) {
        let bar = &self.0;
        if bar.prefix() != phase {
            bar.set_prefix(phase.to_owned());
            bar.set_style(style(match (unit, total) {
                (Unit::Bytes, 0) => "{prefix} {spinner} {bytes} {elapsed}",
                (Unit::Bytes, _) => {
                    "{prefix:>9} [{bar:40}] {bytes}/{total_bytes} {bytes_per_sec} eta {eta}"
                }
                (Unit::Pieces, 0) => "{prefix} {spinner} {pos} {elapsed}",
                (Unit::Pieces, _) => "{prefix:>9} [{bar:40}] {pos}/{len} eta {eta}",
            }));
        }
        if total > 0 {
            bar.set_length(total);
        }
        bar.set_position(done);
    }

    /// Does something that writes to the terminal, with the bar out of its way.
    pub fn apart(&self, work: impl FnOnce()) {
        self.0.suspend(work);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("the templates here are valid");
    style.progress_chars("=> ")
}
