//! What happened in one life, as a hash that a replay must reproduce and, on demand, as text.

use std::{
    cell::RefCell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

/// The hash so far; prints each line when told to. Text is made only then.
pub(super) struct Story {
    hash: u64,
    steps: u64,
    print: bool,
}

impl Story {
    pub(super) fn new(print: bool) -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            steps: 0,
            print,
        }
    }

    /// Something happened: numbers for the hash, words for the reader.
    pub(super) fn tell(&mut self, numbers: &[u64], words: impl FnOnce() -> String) {
        self.steps += 1;
        for number in numbers {
            self.hash = (self.hash ^ number)
                .wrapping_mul(0x0000_0100_0000_01b3)
                .rotate_left(23);
        }
        if self.print {
            println!("{:4} {}", self.steps, words());
        }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }
}

thread_local! {
    /// Whether a life runs on this thread, and how its last panic was worded.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static WATCHED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Runs `life`; a panic becomes an error that says where it was.
pub(super) fn catch<T>(life: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| match WATCHED.get() {
            true => PANIC.set(Some(info.to_string())),
            false => others(info),
        }));
    });
    let before = WATCHED.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(life));
    WATCHED.set(before);
    outcome.unwrap_or_else(|_| Err(PANIC.take().unwrap_or_else(|| "a panic".into())))
}
