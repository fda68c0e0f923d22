//! The connections that are open, of all ports: for who wants to see them, and to end one.
//!
//! The listener enters a connection when it is accepted and strikes it out when it is over. In between what it does is
//! noted in its own [`Link`], so that connections meet here only when they begin and end.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use tokio::sync::Notify;

use super::connection::{Link, Phase};

/// See the module.
#[derive(Default)]
pub struct Connections(Mutex<Table>);

#[derive(Default)]
struct Table {
    open: BTreeMap<u64, Arc<Entry>>,
    /// Ids are not used again before the process ends.
    last_id: u64,
}

struct Entry {
    port: &'static str,
    peer: SocketAddr,
    is_tls: AtomicBool,
    opened: SystemTime,
    link: Link,
    end: Notify,
}

/// An open connection, as it is now.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Names it.
    pub id: u64,
    /// The port that it came in by.
    pub port: &'static str,
    /// Who connected. Never an IPv4 address in IPv6 form.
    pub peer: SocketAddr,
    /// Whether it speaks TLS.
    pub is_tls: bool,
    /// When it was accepted.
    pub opened: SystemTime,
    /// What it does.
    pub activity: Activity,
}

/// What a connection does, and has done.
#[derive(Clone, Debug)]
pub struct Activity {
    /// What it does now.
    pub phase: Phase,
    /// Since when.
    pub since: SystemTime,
    /// What it waits for its peer to do.
    pub waits: Option<Waits>,
    /// Who sent the request under way, or the last one: the peer, or the client that a trusted proxy names.
    pub client: Option<IpAddr>,
    /// The request under way: "", or nothing, is what is not known yet.
    pub request: Shown,
    /// Requests that are over.
    pub requests: u64,
    /// Bytes that came in, without those of TLS.
    pub bytes_in: u64,
    /// Bytes that went out, without those of TLS.
    pub bytes_out: u64,
}

/// What is shown of a request.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// The operation's name.
    pub operation: &'static str,
    /// The bucket that is addressed.
    pub bucket: Option<String>,
    /// Access key id of the caller, once proven.
    pub token_id: Option<String>,
}

/// A connection waits for its peer.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// To send more of the `body`, or to take more of the `answer`.
    pub what: &'static str,
    /// Since when.
    pub since: SystemTime,
}

impl Connections {
    /// Enters a connection, until what is returned is dropped.
    pub(super) fn open(self: &Arc<Self>, port: &'static str, peer: SocketAddr, link: Link) -> Open {
        let entry = Arc::new(Entry {
            port,
            peer,
            is_tls: AtomicBool::new(false),
            opened: SystemTime::now(),
            link,
            end: Notify::new(),
        });
        let mut table = self.lock();
        table.last_id += 1;
        let id = table.last_id;
        table.open.insert(id, entry.clone());
        drop(table);
        Open {
            id,
            entry,
            all: self.clone(),
        }
    }

    /// Those that are open, the oldest first.
    pub fn list(&self) -> Vec<Connection> {
        let open: Vec<_> = {
            let table = self.lock();
            let entries = table.open.iter();
            entries.map(|(id, entry)| (*id, entry.clone())).collect()
        };
        let shown = open.into_iter().map(|(id, entry)| Connection {
            id,
            port: entry.port,
            peer: entry.peer,
            is_tls: entry.is_tls.load(Ordering::Relaxed),
            opened: entry.opened,
            activity: entry.link.lock().activity(),
        });
        shown.collect()
    }

    /// Ends a connection with whatever is under way on it. Where it came in by and from; `None` when it is not open.
    pub fn close(&self, id: u64) -> Option<(&'static str, SocketAddr)> {
        let table = self.lock();
        let entry = table.open.get(&id)?;
        entry.end.notify_one();
        Some((entry.port, entry.peer))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A panic cannot leave the table half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection, for as long as it is open.
pub struct Open {
    id: u64,
    entry: Arc<Entry>,
    all: Arc<Connections>,
}

impl Open {
    /// Who connected.
    pub fn peer(&self) -> IpAddr {
        self.entry.peer.ip()
    }

    /// It speaks TLS, or is about to.
    pub fn speaks_tls(&self) {
        self.entry.is_tls.store(true, Ordering::Relaxed);
    }

    /// Where what it does is noted.
    pub fn link(&self) -> &Link {
        &self.entry.link
    }

    /// Comes when somebody ends it.
    pub async fn is_closed(&self) {
        self.entry.end.notified().await;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.all.lock().open.remove(&self.id);
    }
}
