//! Two trees side by side: what is in one, in the other, in both. Neither is in memory.

use super::tree::{Entry, Found, Tree};

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first: the source of a sync.
    Left,
    /// The second: its destination.
    Right,
}

/// What comes next.
#[derive(Debug)]
pub enum Pair {
    /// Only there.
    One(Side, Entry),
    /// In both, by the same key.
    Both(Entry, Entry),
    /// Something cannot be taken, and why.
    Problem(Side, String, String),
    /// One of the trees has ended too early, so that nothing is known of what is missing there.
    End(Side, String),
}

/// See the module.
pub struct Pairs {
    left: Ahead,
    right: Ahead,
}

/// A tree and its next entry.
struct Ahead {
    side: Side,
    tree: Tree,
    next: Option<Entry>,
    is_over: bool,
    last: Option<String>,
}

impl Pairs {
    /// Of these trees.
    pub fn new(left: Tree, right: Tree) -> Self {
        Self {
            left: Ahead::new(Side::Left, left),
            right: Ahead::new(Side::Right, right),
        }
    }

    /// What comes next, in the order of keys; `None` at the end of both. Behind [`Pair::End`] nothing may be asked for.
    pub async fn next(&mut self) -> Option<Pair> {
        for ahead in [&mut self.left, &mut self.right] {
            if let Some(trouble) = ahead.look().await {
                return Some(trouble);
            }
        }
        let order = match (&self.left.next, &self.right.next) {
            (None, None) => return None,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(left), Some(right)) => left.key.cmp(&right.key),
        };
        let left = self.left.next.take_if(|_| order.is_le());
        let right = self.right.next.take_if(|_| order.is_ge());
        match (left, right) {
            (Some(left), Some(right)) => Some(Pair::Both(left, right)),
            (Some(left), None) => Some(Pair::One(Side::Left, left)),
            (None, right) => right.map(|right| Pair::One(Side::Right, right)),
        }
    }
}

impl Ahead {
    fn new(side: Side, tree: Tree) -> Self {
        Self {
            side,
            tree,
            next: None,
            is_over: false,
            last: None,
        }
    }

    /// Takes the next entry, unless there is one; answers what is in the way.
    async fn look(&mut self) -> Option<Pair> {
        if self.next.is_some() || self.is_over {
            return None;
        }
        match self.tree.recv().await {
            None => self.is_over = true,
            Some(Found::Problem(place, why)) => return Some(Pair::Problem(self.side, place, why)),
            Some(Found::End(why)) => return Some(Pair::End(self.side, why)),
            // What is not in order would look as if it were missing.
            Some(Found::Entry(entry)) if self.last.as_ref() >= Some(&entry.key) => {
                let why = format!("the listing is not in the order of keys at {}", entry.key);
                return Some(Pair::End(self.side, why));
            }
            Some(Found::Entry(entry)) => {
                self.last = Some(entry.key.clone());
                self.next = Some(entry);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use tokio::sync::mpsc;

    use super::*;
    use crate::cli::tree::Source;

    fn tree(keys: &[&str]) -> Tree {
        let (found, tree) = mpsc::channel(100);
        for key in keys {
            let entry = match *key {
                "!" => Found::Problem("place".into(), "why".into()),
                "!!" => Found::End("why".into()),
                key => Found::Entry(Entry {
                    key: key.to_owned(),
                    size: 0,
                    modified: SystemTime::UNIX_EPOCH,
                    source: Source::File(key.into()),
                }),
            };
            found.try_send(entry).unwrap();
        }
        tree
    }

    async fn paired(left: &[&str], right: &[&str]) -> String {
        let mut pairs = Pairs::new(tree(left), tree(right));
        let mut seen = Vec::new();
        while let Some(pair) = pairs.next().await {
            seen.push(match pair {
                Pair::One(Side::Left, entry) => format!("<{}", entry.key),
                Pair::One(Side::Right, entry) => format!(">{}", entry.key),
                Pair::Both(left, right) => {
                    assert_eq!(left.key, right.key);
                    format!("={}", left.key)
                }
                Pair::Problem(side, ..) => format!("{side:?} problem"),
                Pair::End(side, why) => return format!("{} {side:?} {why}", seen.join(" ")),
            });
        }
        seen.join(" ")
    }

    #[tokio::test]
    async fn two_trees_are_paired_by_key() {
        assert_eq!(
            paired(&["a", "b", "d"], &["b", "c", "d", "e"]).await,
            "<a =b >c =d >e"
        );
        assert_eq!(paired(&[], &["a"]).await, ">a");
        assert_eq!(paired(&[], &[]).await, "");
        assert_eq!(
            paired(&["!", "a"], &["a", "!"]).await,
            "Left problem =a Right problem"
        );
    }

    #[tokio::test]
    async fn a_tree_that_is_not_in_order_ends_it() {
        assert_eq!(paired(&["a", "!!"], &["a", "b"]).await, "=a Left why");
        assert!(
            paired(&["a"], &["b", "a"])
                .await
                .contains("Right the listing is not in the order")
        );
        assert!(
            paired(&["a", "a"], &[])
                .await
                .contains("Left the listing is not in the order")
        );
    }
}
