//! What a power cut leaves of the changes that were not synced.

use super::random::Random;

/// How a power cut chooses among the changes that no sync covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Nothing reached the disk.
    Nothing,
    /// Everything reached the disk.
    Everything,
    /// What came before one moment reached the disk, nothing after it; the change at it is torn.
    Prefix,
    /// Each change reached the disk whole or not at all.
    Whole,
    /// Each sector (or page) of each change reached the disk or not.
    Torn,
    /// Each file and directory has one of the other ways.
    Mixed,
}

const WAYS: [Survival; 6] = [
    Survival::Mixed,
    Survival::Nothing,
    Survival::Everything,
    Survival::Prefix,
    Survival::Whole,
    Survival::Torn,
];

/// What is torn from what: whole pages or the sectors in them, as bits of one page.
const GRAINS: [u8; 2] = [0b1111_1111, 0b0000_0001];

/// What becomes of one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Lost,
    Kept,
    Torn,
}

/// The dice of one power cut (or failed sync).
pub(super) struct Cut {
    random: Random,
    /// The way of the whole cut, and of the node at hand.
    whole: Survival,
    node: Survival,
    moment: u64,
    odds: u64,
    grain: u8,
}

impl Cut {
    /// A cut among changes that happened in `moments`.
    pub(super) fn new(
        survival: Survival,
        moments: std::ops::Range<u64>,
        mut random: Random,
    ) -> Cut {
        let moment = moments.start + random.below((moments.end - moments.start).max(1));
        let odds = [2, 8, 8, 14][random.below(4) as usize];
        let grain = GRAINS[usize::from(random.of_16(12))];
        Cut {
            random,
            whole: survival,
            node: survival,
            moment,
            odds,
            grain,
        }
    }

    /// One way at random.
    pub(super) fn any(random: &mut Random) -> Survival {
        WAYS[random.below(WAYS.len() as u64) as usize]
    }

    /// Moves on to the changes of another file or directory.
    pub(super) fn next_node(&mut self) {
        if self.whole == Survival::Mixed {
            self.node = WAYS[1 + self.random.below(WAYS.len() as u64 - 1) as usize];
        }
    }

    /// What becomes of the change made at the moment `at`.
    pub(super) fn fate(&mut self, at: u64) -> Fate {
        match self.node {
            Survival::Nothing => Fate::Lost,
            Survival::Everything => Fate::Kept,
            Survival::Prefix if at < self.moment => Fate::Kept,
            Survival::Prefix if at > self.moment => Fate::Lost,
            Survival::Whole => match self.coin() {
                true => Fate::Kept,
                false => Fate::Lost,
            },
            Survival::Prefix | Survival::Torn | Survival::Mixed => Fate::Torn,
        }
    }

    /// Whether a change that cannot be torn survives.
    pub(super) fn survives(&mut self, at: u64) -> bool {
        match self.fate(at) {
            Fate::Lost => false,
            Fate::Kept => true,
            Fate::Torn => self.coin(),
        }
    }

    /// Whether one part of a torn change survives.
    pub(super) fn coin(&mut self) -> bool {
        self.random.of_16(self.odds)
    }

    /// Which of the written sectors of a page survive when the write is torn.
    pub(super) fn tear(&mut self, written: u8) -> u8 {
        let step = self.grain.count_ones();
        let mut kept = 0;
        for group in (0..8).step_by(step as usize) {
            if self.coin() {
                kept |= self.grain << group;
            }
        }
        kept & written
    }
}
