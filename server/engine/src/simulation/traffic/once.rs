//! Requests that are done once: callers who send some of them again, or late, and say which answers they have got.

use std::sync::Arc;

use super::Made;
use crate::{
    meta::{
        Change, Precondition,
        key::{Key, SessionKey},
        record::{Done, OutcomeRecord, Record},
    },
    simulation::{
        model::{Edit, Row, SESSION_USED_MS, State},
        world::World,
    },
    types::Timestamp,
};

/// What a caller knows of its session.
#[derive(Clone, Debug)]
pub(in crate::simulation) struct Session {
    id: SessionKey,
    made: Timestamp,
    /// The last request that was sent.
    last: u64,
    /// The lowest whose answer is still awaited.
    lowest: u64,
}

/// The same transaction as a request of a session: a new one, or one that was sent before, whatever it was then.
pub(super) fn done_once(world: &mut World, staged: &State, made: Made) -> Made {
    let now = world.env.clock.now();
    // Nobody sends anything in a session that may be forgotten.
    world.sessions.retain(|session| {
        let used = staged.session(session.id).used.max(session.made);
        used.0 + SESSION_USED_MS >= now.0
    });
    if world.sessions.is_empty() || world.dice.of_16(2) {
        world.sessions.push(Session {
            id: SessionKey(world.dice.next().into()),
            made: now,
            last: 0,
            lowest: 1,
        });
    }
    let n = world.dice.below(world.sessions.len() as u64) as usize;
    let session = &mut world.sessions[n];
    let dice = &mut world.dice;
    let sequence = match session.last {
        last if last > 0 && dice.of_16(6) => 1 + dice.below(last),
        last => last + 1,
    };
    session.last = session.last.max(sequence);
    if dice.of_16(8) {
        session.lowest += dice.below(1 + session.last - session.lowest);
    }
    // What is late says what was true when it was sent.
    let lowest = match dice.of_16(12) {
        true => session.lowest.min(sequence),
        false => 1 + dice.below(session.lowest.min(sequence)),
    };
    let outcome = OutcomeRecord {
        at: now,
        lowest,
        done: Done::Nothing,
    };
    let key = Key::Outcome(session.id, sequence);
    let unanswered = Precondition::Unanswered(session.id, sequence);
    let (mut transaction, mut intent) = made;
    transaction.requires.insert(0, unanswered.clone());
    intent.requires.insert(0, unanswered);
    let record = Record::Outcome(Box::new(outcome.clone()));
    transaction.changes.push(Change::put(key.clone(), record));
    let row = Row::Outcome(Arc::new(outcome));
    intent.changes.push((key, Edit::Put(row)));
    (transaction, intent)
}
