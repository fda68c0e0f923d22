//! What the actions and resources of a statement in AWS's words are in Jay's.

use jay_engine::{Action, Effect, Grant, PolicyConditions, Statement, parse_network};

use super::names::{OBJECT, S3, S3_PARTS};

/// What S3 says of an action that none of the resources is for.
const NO_RESOURCE: &str = "Action does not apply to any resource(s) in statement";

/// A statement in AWS's words.
#[derive(Default)]
pub(super) struct Said {
    /// What it is called.
    pub(super) sid: Option<String>,
    /// Whether it allows or denies.
    pub(super) effect: Option<Effect>,
    /// Jay's names of who is meant.
    pub(super) subjects: Vec<String>,
    /// AWS's names of what is meant.
    pub(super) actions: Vec<String>,
    /// Where.
    pub(super) reach: Reach,
    /// Of `aws:SourceIp`.
    pub(super) networks: Vec<String>,
    /// Of `s3:prefix`.
    pub(super) prefixes: Option<Vec<String>>,
}

/// What the resources of a statement are.
#[derive(Default)]
pub(super) struct Reach {
    /// The bucket itself is among them.
    pub(super) bucket: bool,
    /// Objects below these; `[""]`: all of them; empty: none.
    pub(super) below: Vec<String>,
}

impl Reach {
    fn is_whole(&self) -> bool {
        self.below == [""]
    }
}

/// What is granted, and below which prefixes; without any: everywhere.
type Granted = (Vec<Grant>, Vec<String>);

/// What the actions of a statement are here.
#[derive(Default)]
struct Asked {
    actions: Vec<Action>,
    /// `s3:*`.
    everything: bool,
    /// `jay:*`.
    everything_of_jay: bool,
    parts: Vec<(String, Action)>,
}

impl Asked {
    fn of(names: &[String]) -> Result<Self, String> {
        let mut asked = Self::default();
        for name in names {
            let lower = name.to_ascii_lowercase();
            if let Some((_, actions)) = S3.iter().find(|(s3, _)| s3.eq_ignore_ascii_case(name)) {
                asked.actions.extend_from_slice(actions);
            } else if let Some((_, action)) = S3_PARTS
                .iter()
                .find(|(s3, _)| s3.eq_ignore_ascii_case(name))
            {
                asked.parts.push((name.clone(), *action));
            } else if lower == "s3:*" || lower == "*" {
                asked.everything = true;
            } else if lower == "jay:*" {
                asked.everything_of_jay = true;
            } else if let Some(Ok(Grant::One(action))) =
                lower.strip_prefix("jay:").map(Grant::parse)
            {
                asked.actions.push(action);
            } else {
                return Err(unknown_action(name));
            }
        }
        Ok(asked)
    }

    fn has(&self, action: Action) -> bool {
        self.actions.contains(&action)
    }

    fn is_list_alone(&self) -> bool {
        !self.everything
            && !self.everything_of_jay
            && self
                .actions
                .iter()
                .all(|action| *action == Action::ObjectList)
    }
}

fn unknown_action(name: &str) -> String {
    let s3: Vec<_> = S3.iter().map(|(s3, _)| *s3).collect();
    let s3 = s3.join(", ");
    match name.contains(['*', '?']) {
        true => format!("the action {name:?} has a wildcard: name the actions ({s3}), or s3:*"),
        false => format!(
            "the action {name:?} has no counterpart here: there are {s3}, s3:*, and jay:<action> for each of Jay's own"
        ),
    }
}

impl Said {
    /// What it is in Jay's form: one statement, or more where the reach of its actions differs.
    pub(super) fn into_statements(self) -> Result<Vec<Statement>, String> {
        let asked = Asked::of(&self.actions)?;
        let mut conditions = PolicyConditions::default();
        for text in &self.networks {
            let network = parse_network(text).ok_or_else(|| {
                format!("the condition of aws:SourceIp: {text:?} is no network, such as 10.0.0.0/8")
            })?;
            conditions.ip_whitelist.push(network);
        }
        let statement = |(actions, prefixes)| Statement {
            sid: self.sid.clone(),
            effect: self.effect.unwrap_or(Effect::Deny),
            actions,
            prefixes,
            subjects: self.subjects.clone(),
            conditions: conditions.clone(),
        };
        let grants = self.grants(asked)?;
        Ok(grants.into_iter().map(statement).collect())
    }

    fn grants(&self, mut asked: Asked) -> Result<Vec<Granted>, String> {
        if self.prefixes.is_some() && !asked.is_list_alone() {
            return Err(
                "a condition of s3:prefix is for s3:ListBucket alone: give other actions a statement of their own"
                    .into(),
            );
        }
        if asked.everything_of_jay {
            return self.everything_of_jay(&asked);
        }
        if asked.everything {
            if self.reach.bucket && self.reach.is_whole() {
                return Ok(vec![(vec![Grant::All], Vec::new())]);
            }
            self.add_everything(&mut asked.actions)?;
        }
        self.must_apply(&asked)?;
        Ok(self.gathered(&asked))
    }

    /// The actions by how far they reach, in the order of Jay's list.
    fn gathered(&self, asked: &Asked) -> Vec<Granted> {
        let Reach { bucket, below } = &self.reach;
        let objects = match self.reach.is_whole() {
            true => Vec::new(),
            false => below.clone(),
        };
        let lists = self.prefixes.clone().unwrap_or_default();
        let rest = if *bucket { Vec::new() } else { below.clone() };
        let mut grants: Vec<Granted> = Vec::new();
        for action in Action::NAMED
            .into_iter()
            .filter(|action| asked.has(*action))
        {
            let prefixes = match action {
                Action::ObjectList => &lists,
                action if OBJECT.contains(&action) => &objects,
                _ => &rest,
            };
            match grants.iter_mut().find(|(_, other)| other == prefixes) {
                Some((actions, _)) => actions.push(Grant::One(action)),
                None => grants.push((vec![Grant::One(action)], prefixes.clone())),
            }
        }
        grants
    }

    /// What `s3:*` means for some of the objects, or for the bucket without all of them.
    fn add_everything(&self, actions: &mut Vec<Action>) -> Result<(), String> {
        if self.reach.bucket {
            // There is no action for the list of uploads alone.
            if self.effect != Some(Effect::Allow) {
                return Err(
                    "to deny s3:* of the bucket without all its objects would leave the list of uploads open: add all \
                     objects (/*) to the resources, or name the actions"
                        .into(),
                );
            }
            actions.extend([
                Action::ObjectList,
                Action::BucketReadMeta,
                Action::BucketWriteMeta,
            ]);
        }
        if !self.reach.below.is_empty() {
            actions.extend(OBJECT);
        }
        Ok(())
    }

    fn everything_of_jay(&self, asked: &Asked) -> Result<Vec<Granted>, String> {
        let Reach { bucket, below } = &self.reach;
        if self.actions.len() > 1 || asked.everything {
            return Err("jay:* has every other action in it: name it alone".into());
        }
        let prefixes = match (bucket, self.reach.is_whole()) {
            (true, true) => Vec::new(),
            (true, false) => {
                return Err(
                    "jay:* of the bucket needs all its objects (/*) among the resources".into(),
                );
            }
            (false, _) => below.clone(),
        };
        Ok(vec![(vec![Grant::All], prefixes)])
    }

    /// Refuses actions that none of the resources is for, and names that are taken only along with others.
    fn must_apply(&self, asked: &Asked) -> Result<(), String> {
        let Reach { bucket, below } = &self.reach;
        if asked.has(Action::ObjectList) && !bucket {
            return Err(format!(
                "{NO_RESOURCE}: listings need the bucket itself as resource"
            ));
        }
        if below.is_empty() && OBJECT.iter().any(|action| asked.has(*action)) {
            return Err(format!(
                "{NO_RESOURCE}: what is done with objects needs a resource such as all of them (/*)"
            ));
        }
        for (name, action) in &asked.parts {
            if !asked.has(*action) {
                return Err(format!(
                    "the action {name:?} is part of s3:PutObject here, and is taken only along with it"
                ));
            }
            if *action == Action::MultipartCreate && !(*bucket && self.reach.is_whole()) {
                return Err(format!(
                    "the action {name:?} needs the bucket and all its objects (/*) as resources"
                ));
            }
        }
        Ok(())
    }
}
