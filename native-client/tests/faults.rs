//! The client through a proxy that cuts, flips, delays and swallows: no wrong byte, no wait beyond the deadline, nothing
//! done twice, no connection left, no memory lost.
//!
//! A script of requests is played again and again, each time with something else happening at another place. What may be
//! there afterwards is known from a model; what is there is asked by a client that does without the proxy. A request whose
//! connection broke may have been done or not, once. `JAY_FAULT_SEEDS=50` plays fifty times as much.

mod proxy;
mod server;

use std::{collections::BTreeMap, future::IntoFuture, net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use jay_client::{Bucket, Client, Config, Error, ErrorKind, PutResult};
use proxy::{Dice, Fault, Harm, Pace, Place, Plan, Proxy, Way, Within};
use server::{Server, bytes, memory};
use tokio::time::{Instant, sleep, timeout};

/// How long nothing may come before the client gives a connection up.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);
/// No request takes longer, whatever happens once: the time-out, a new connection, and a machine that is busy.
const DEADLINE: Duration = Duration::from_secs(15);
/// Scripts that are played at the same time.
const AT_ONCE: usize = 6;
/// A body that does not fit into a frame.
const LARGE: usize = 600_000;
/// What memory may grow by while scripts are played over and over.
const GROWTH_MAX: usize = 64 << 20;

fn seeds() -> u64 {
    let seeds = std::env::var("JAY_FAULT_SEEDS").map(|seeds| seeds.parse());
    seeds.unwrap_or(Ok(1)).expect("JAY_FAULT_SEEDS is a number")
}

/// What is stored under a key.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    body: Bytes,
    etag: String,
    version: Option<String>,
}

/// One script, played through one proxy into keys of its own.
struct Play<'a> {
    server: &'a Server,
    /// The bucket without the proxy.
    direct: Bucket,
    /// The same by way of it.
    bucket: Bucket,
    proxy: Proxy,
    model: BTreeMap<String, Option<Known>>,
    /// Requests that failed because something broke.
    broken: Vec<Error>,
    /// Nothing but what was planned may break; a read must go on.
    is_strict: bool,
    seed: u64,
}

/// Whether it is an error of the way, not an answer.
fn is_of_the_way(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionLost
            | ErrorKind::Timeout
            | ErrorKind::Unavailable
            | ErrorKind::ChecksumMismatch
            | ErrorKind::Protocol
            | ErrorKind::Unauthenticated
            | ErrorKind::Unsupported
    )
}

impl<'a> Play<'a> {
    async fn new(server: &'a Server, direct: &Client, name: &str, plan: Plan) -> Play<'a> {
        let is_strict = plan.faults.len() < 2;
        let seed = plan.seed;
        let proxy = Proxy::start(server.address, plan).await;
        let mut config = Config::parse(&server::url(proxy.address)).unwrap();
        config.options.idle_timeout = IDLE_TIMEOUT;
        config.options.connect_timeout = IDLE_TIMEOUT;
        config.options.retry_base = Duration::from_millis(10);
        config.options.retry_max = Duration::from_millis(100);
        let client = Client::new(config).unwrap();
        let prefix = format!("{name}/");
        Play {
            server,
            direct: direct.bucket("bucket").with_prefix(prefix.clone()),
            bucket: client.bucket("bucket").with_prefix(prefix),
            proxy,
            model: BTreeMap::new(),
            broken: Vec::new(),
            is_strict,
            seed,
        }
    }

    async fn in_time<T>(&self, request: impl IntoFuture<Output = T>) -> T {
        // With each attempt something else may happen.
        let limit = DEADLINE * if self.is_strict { 1 } else { 5 };
        let done = timeout(limit, request.into_future()).await;
        done.unwrap_or_else(|_| panic!("nothing within {limit:?}"))
    }

    fn known(&self, key: &str) -> Option<Known> {
        self.model.get(key).cloned().flatten()
    }

    /// The body that a key gets at this point of the script: no two are the same.
    fn body(&self, size: usize) -> Bytes {
        bytes(size, (self.seed << 16) | (self.model.len() as u64 + 1))
    }

    /// A write whose success leaves `after` under the key.
    async fn write<T>(
        &mut self,
        key: &str,
        after: Option<Bytes>,
        done: Result<T, Error>,
        known: impl FnOnce(T) -> Option<PutResult>,
    ) {
        let before = self.known(key);
        let error = match done {
            Ok(told) => {
                let known = known(told).map(|put| Known {
                    body: after.expect("what is told of is there"),
                    etag: put.etag,
                    version: put.version,
                });
                self.model.insert(key.to_owned(), known);
                return;
            }
            Err(error) => error,
        };
        assert!(is_of_the_way(&error), "{error}");
        self.broken.push(error);
        self.settle().await;
        let found = self.found(key).await;
        let body = found.as_ref().map(|known| &known.body);
        assert!(
            found == before || body == after.as_ref(),
            "{key} is neither as it was nor as it was to be"
        );
        self.model.insert(key.to_owned(), found);
    }

    async fn put(&mut self, key: &str, size: usize) {
        let body = self.body(size);
        let done = self.in_time(self.bucket.put(key, body.clone())).await;
        self.write(key, Some(body), done, Some).await;
    }

    /// A put that must find nothing there, or just what is.
    async fn put_if(&mut self, key: &str, must_be: Option<&str>) {
        let (body, before) = (self.body(777), self.known(key));
        let put = self.bucket.put(key, body.clone());
        let (put, holds) = match must_be {
            None => (put.if_none_match_any(), before.is_none()),
            Some(etag) => (
                put.if_match(etag),
                before.is_some_and(|known| known.etag == etag),
            ),
        };
        let done = self.in_time(put).await;
        let refused = [
            ErrorKind::AlreadyExists,
            ErrorKind::PreconditionFailed,
            ErrorKind::ObjectNotFound,
        ];
        match done {
            // A put that is done twice loses against itself.
            Err(error) if refused.contains(&error.kind()) => assert!(!holds, "done twice: {error}"),
            done => {
                assert!(holds || done.is_err(), "a condition is ignored");
                self.write(key, Some(body), done, Some).await;
            }
        }
    }

    async fn copy(&mut self, from: &str, to: &str) {
        let source = self.known(from).map(|known| known.body);
        let done = self.in_time(self.bucket.copy(from, to)).await;
        match (source, done) {
            (None, Err(error)) if error.kind() == ErrorKind::ObjectNotFound => {}
            (source, done) => self.write(to, source, done, Some).await,
        }
    }

    async fn delete(&mut self, key: &str) {
        let done = self.in_time(self.bucket.delete(key)).await;
        self.write(key, None, done, |()| None).await;
    }

    /// A read, which goes on where it broke: what of it may fail.
    async fn read<T>(&mut self, done: Result<T, Error>) -> Option<T> {
        match done {
            Ok(told) => Some(told),
            Err(error) => {
                // Whoever cannot prove who it is may not be who it says: nothing is tried again.
                let is_fatal = error.kind() == ErrorKind::Unauthenticated;
                assert!(
                    is_of_the_way(&error) && (is_fatal || !self.is_strict),
                    "{error}"
                );
                self.broken.push(error);
                None
            }
        }
    }

    async fn get(&mut self, key: &str) {
        let known = self.known(key);
        let got = self.in_time(async { self.bucket.get(key).await?.bytes().await });
        match got.await {
            Err(error) if error.kind() == ErrorKind::ObjectNotFound => assert_eq!(known, None),
            got => {
                if let Some(got) = self.read(got).await {
                    assert_eq!(Some(got), known.map(|known| known.body), "{key}");
                }
            }
        }
    }

    async fn get_ranges(&mut self, key: &str) {
        let Some(Known { body, .. }) = self.known(key) else {
            return;
        };
        let (start, end) = (body.len() as u64 / 3, body.len() as u64);
        for range in [start..start + 100_000, start..end] {
            let got = self.in_time(async {
                let got = self.bucket.get(key).range(range.clone()).await?;
                assert_eq!(got.range(), range.start..range.end.min(end));
                got.bytes().await
            });
            let got = got.await;
            if let Some(got) = self.read(got).await {
                let end = range.end.min(end) as usize;
                assert_eq!(got, body[range.start as usize..end]);
            }
        }
        // Too much for a frame, of what is large.
        let ranges = [0..10, start..start + 70_000, end - 5..end, 0..end];
        let got = self.in_time(self.bucket.get_ranges(key, &ranges)).await;
        if let Some(got) = self.read(got).await {
            let expected = ranges.map(|range| body.slice(range.start as usize..range.end as usize));
            assert_eq!(got, expected);
        }
    }

    async fn list(&mut self) {
        let listed = self.bucket.list("").page_size(3).objects();
        let listed = listed.map_ok(|object| (object.key, object.version));
        let listed: Result<Vec<_>, _> = self.in_time(listed.try_collect()).await;
        if let Some(listed) = self.read(listed).await {
            assert_eq!(listed, self.listing());
        }
    }

    /// What a listing shows.
    fn listing(&self) -> Vec<(String, Option<String>)> {
        let there = self.model.iter().filter_map(|(key, known)| {
            let known = known.as_ref()?;
            Some((key.clone(), known.version.clone()))
        });
        there.collect()
    }

    /// An object of two parts.
    async fn multipart(&mut self, key: &str) {
        let created = self.in_time(self.bucket.create_multipart(key, "")).await;
        let Some(upload) = self.once(created).await else {
            return;
        };
        let bodies = [bytes(300_000, self.seed + 1), bytes(50_000, self.seed + 2)];
        let mut parts = Vec::new();
        for (number, body) in (1..).zip(&bodies) {
            let part = self.in_time(upload.part(number, body.clone())).await;
            match self.read(part).await {
                Some(part) => parts.push(part),
                None => return,
            }
        }
        let listed = self.in_time(upload.list_parts()).await;
        if let Some(listed) = self.read(listed).await {
            assert_eq!(listed, parts);
        }
        let done = self.in_time(upload.complete(&parts)).await;
        // One that comes again is answered the same.
        let done = self.read(done).await;
        self.settle().await;
        let found = self.found(key).await;
        if let Some(known) = &found {
            assert_eq!(known.body, bodies.concat());
        }
        if let Some(done) = done {
            assert_eq!(
                found.as_ref().map(|known| &known.version),
                Some(&done.version)
            );
        }
        self.model.insert(key.to_owned(), found);
        let other = self
            .in_time(self.bucket.create_multipart("other", ""))
            .await;
        if let Some(other) = self.once(other).await {
            let aborted = self.in_time(other.abort()).await;
            self.once(aborted).await;
        }
    }

    /// Something that is not tried again and leaves nothing that others see.
    async fn once<T>(&mut self, done: Result<T, Error>) -> Option<T> {
        match done {
            Ok(told) => Some(told),
            Err(error) => {
                assert!(is_of_the_way(&error), "{error}");
                self.broken.push(error);
                None
            }
        }
    }

    /// Waits until nothing that was asked through the proxy can still be done. A lane that fell silent behind an answer may be
    /// kept for a while.
    async fn settle(&self) {
        gone(self.server, &self.proxy.doomed(), true).await;
        // What waits for the log is done before this.
        self.direct.put("barrier", "").await.unwrap();
        self.direct.delete("barrier").await.unwrap();
    }

    /// What is under a key, as others see it.
    async fn found(&self, key: &str) -> Option<Known> {
        let got = match self.direct.get(key).await {
            Err(error) if error.kind() == ErrorKind::ObjectNotFound => return None,
            got => got.unwrap(),
        };
        let (etag, version) = (got.meta().etag.clone(), got.meta().version.clone());
        let body = got.bytes().await.unwrap();
        Some(Known {
            body,
            etag,
            version,
        })
    }

    /// All kinds of requests, one after the other.
    async fn script(&mut self) {
        self.put("a", 1000).await;
        self.get("a").await;
        self.put_if("b", None).await;
        self.put_if("b", None).await;
        let etag = self
            .known("a")
            .map_or("none".to_owned(), |known| known.etag);
        self.put_if("a", Some(&etag)).await;
        self.put_if("a", Some(&etag)).await;
        self.put("large", LARGE).await;
        self.get("large").await;
        self.get_ranges("large").await;
        self.copy("large", "copy").await;
        self.copy("a", "also").await;
        self.list().await;
        self.delete("a").await;
        self.get("a").await;
        self.put("large", LARGE + 1).await;
        self.get("large").await;
        self.multipart("parts").await;
        self.get("parts").await;
        self.delete("absent").await;
        self.list().await;
    }

    /// Holds all that is there against the model, and sees that nothing is left of the client.
    async fn end(self) {
        self.settle().await;
        for (key, known) in &self.model {
            assert_eq!(&self.found(key).await, known, "{key}");
        }
        let listed = self.direct.list("").objects();
        let listed = listed.map_ok(|object| (object.key, object.version));
        let listed: Vec<_> = listed.try_collect().await.unwrap();
        assert_eq!(listed, self.listing());
        let (faults, broken) = (self.proxy.done(), &self.broken);
        assert!(
            !self.is_strict || broken.len() <= faults,
            "{faults} faults broke {broken:?}"
        );
        // Without handles its connections end, at the proxy and at the server.
        drop(self.bucket);
        let began = Instant::now();
        while self.proxy.open() > 0 {
            assert!(began.elapsed() < DEADLINE, "{} are left", self.proxy.open());
            sleep(Duration::from_millis(5)).await;
        }
        gone(self.server, &self.proxy.peers(), false).await;
    }
}

/// Waits until the server has no connection from any of these; or none that does something, where `may_idle`.
async fn gone(server: &Server, peers: &[SocketAddr], may_idle: bool) {
    let began = Instant::now();
    loop {
        let open = server.connections().await;
        let is_left = |connection: &str| {
            let mut peers = peers.iter();
            let is_idle = connection.contains("\"state\":\"idle\"");
            peers.any(|peer| connection.contains(&format!("\"{peer}\""))) && !(may_idle && is_idle)
        };
        let left: Vec<_> = open.split('{').filter(|one| is_left(one)).collect();
        if left.is_empty() {
            return;
        }
        assert!(began.elapsed() < DEADLINE, "connections are left: {left:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Plays scripts with these plans, some at a time; none of them may fail.
async fn play(server: &Server, name: &str, plans: Vec<Plan>) {
    let direct = Client::connect(&server.url).await.unwrap();
    if !direct.bucket_exists("bucket").await.unwrap() {
        direct.create_bucket("bucket").await.unwrap();
    }
    let (direct, count) = (&direct, plans.len());
    let mut before = None;
    let mut playing = stream::iter(plans.into_iter().enumerate())
        .map(|(number, plan)| async move {
            let first = plan.faults.first();
            let shown = format!("{name} {number}, seed {}: {first:?}", plan.seed);
            let told = Told(Some(shown));
            let mut play = Play::new(server, direct, &format!("{name}{number}"), plan).await;
            play.script().await;
            play.end().await;
            told.must_be_well();
            number
        })
        .buffer_unordered(AT_ONCE);
    while let Some(number) = playing.next().await {
        // Caches are full and allocators have what they need.
        if number == count / 3 {
            before = Some((memory("self"), server.memory()));
        }
    }
    if let Some((client, process)) = before.filter(|_| count > 20) {
        let grown = (
            memory("self").saturating_sub(client),
            server.memory().saturating_sub(process),
        );
        assert!(
            grown.0 < GROWTH_MAX && grown.1 < GROWTH_MAX,
            "{grown:?} bytes more memory"
        );
    }
}

/// Says what was played when it fails.
struct Told(Option<String>);

impl Told {
    fn must_be_well(mut self) {
        self.0 = None;
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(shown) = self.0.take().filter(|_| std::thread::panicking()) {
            println!("failed in {shown}");
        }
    }
}

/// Every place of the script.
async fn places(server: &Server) -> Vec<Place> {
    let direct = Client::connect(&server.url).await.unwrap();
    let _ = direct.create_bucket("bucket").await;
    let mut play = Play::new(server, &direct, "places", Plan::default()).await;
    play.script().await;
    let places = play.proxy.places();
    play.end().await;
    assert!(places.len() > 80, "{}", places.len());
    places
}

/// Plans with one harm each, at `count` places for each seed.
fn some(places: &[Place], count: usize, harm: impl Fn(&mut Dice) -> Harm) -> Vec<Plan> {
    let plans = (0..seeds()).flat_map(|seed| {
        let mut dice = Dice::new(seed);
        let plan = |_| {
            let place = places[dice.below(places.len())];
            let harm = harm(&mut dice);
            Plan {
                faults: vec![Fault { place, harm }],
                seed,
                ..Plan::default()
            }
        };
        (0..count).map(plan).collect::<Vec<_>>()
    });
    plans.collect()
}

fn within(dice: &mut Dice) -> Within {
    match dice.below(6) {
        5 => Within::Nothing,
        n => Within::MIDDLES[n],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_at_every_boundary_of_frames() {
    let server = Server::start().await;
    let cut = |place| Plan {
        faults: vec![Fault {
            place,
            harm: Harm::Cut(Within::Nothing),
        }],
        ..Plan::default()
    };
    let plans = places(&server).await.into_iter().map(cut).collect();
    play(&server, "boundary", plans).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cuts_within_frames() {
    let server = Server::start().await;
    let places = places(&server).await;
    let plans = some(&places, 60, |dice| Harm::Cut(within(dice)));
    play(&server, "cut", plans).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resets_and_half_closed_connections() {
    let server = Server::start().await;
    let places = places(&server).await;
    let plans = some(&places, 40, |dice| match dice.below(2) {
        0 => Harm::Reset(within(dice)),
        _ => Harm::HalfClose(within(dice)),
    });
    play(&server, "reset", plans).await;
}

/// Of clear connections, where nothing but our own sums finds it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flipped_bits() {
    let server = Server::start().await;
    let places = places(&server).await;
    let plans = some(&places, 80, |dice| {
        Harm::Flip(Within::MIDDLES[1 + dice.below(3)], dice.below(256) as u8)
    });
    play(&server, "flip", plans).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn black_holes() {
    let server = Server::start().await;
    let places = places(&server).await;
    let mut plans = some(&places, 12, |dice| Harm::Silence(within(dice)));
    // One that accepts and never answers.
    let place = Place {
        connection: 0,
        way: Way::Up,
        unit: 0,
    };
    plans[0].faults[0] = Fault {
        place,
        harm: Harm::Silence(Within::Nothing),
    };
    play(&server, "silence", plans).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_and_broken_up_reads() {
    let server = Server::start().await;
    let paces = [
        Pace::Bytes(2000),
        Pace::Pieces,
        Pace::Late(Duration::from_millis(20)),
    ];
    let plans = (0..2 * seeds()).flat_map(|seed| {
        paces.map(|pace| Plan {
            pace,
            seed,
            ..Plan::default()
        })
    });
    play(&server, "pace", plans.collect()).await;
}

/// Every connection has something coming.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storms() {
    let server = Server::start().await;
    let plans = (0..8 * seeds()).map(|seed| {
        let mut dice = Dice::new(seed);
        let faults = (0..400).map(|connection| {
            let place = Place {
                connection,
                way: [Way::Up, Way::Down][dice.below(2)],
                unit: dice.below(20),
            };
            let within = within(&mut dice);
            let harm = match dice.below(20) {
                0 => Harm::Silence(within),
                1..6 => Harm::Cut(within),
                6..11 => Harm::Reset(within),
                11..15 => Harm::HalfClose(within),
                _ => Harm::Flip(within, dice.below(256) as u8),
            };
            Fault { place, harm }
        });
        Plan {
            faults: faults.collect(),
            pace: Pace::Late(Duration::from_millis(2)),
            seed,
        }
    });
    play(&server, "storm", plans.collect()).await;
}
