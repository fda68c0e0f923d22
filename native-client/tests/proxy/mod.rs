//! A proxy between client and server that does to their connections what networks do, at places that are said.
//!
//! It reads the protocol as far as it must to find those places: a *unit* is what either side says at once, a hello, a
//! proof, a frame. Everything that it does follows from its plan and a seed.

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use jay_wire::{
    frame::HEADER_BYTES,
    v2::{FRAME_BYTES_MAX, HEAD_BYTES, PREFIX_BYTES, PROOF_BYTES},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    task::JoinHandle,
    time::sleep,
};

/// Which way something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the server.
    Up,
    /// To the client.
    Down,
}

/// A unit, counted from 0 on its connection and way, as connections are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub connection: usize,
    pub way: Way,
    pub unit: usize,
}

/// How much of a unit gets through before something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// Nothing: it happens at the boundary.
    Nothing,
    /// One byte.
    First,
    /// Half of its head.
    Head,
    /// Half of its metadata.
    Metadata,
    /// Half of its data.
    Data,
    /// All but one byte.
    Last,
}

impl Within {
    /// All places within a unit.
    pub const MIDDLES: [Self; 5] = [
        Self::First,
        Self::Head,
        Self::Metadata,
        Self::Data,
        Self::Last,
    ];
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// Both ends are closed.
    Cut(Within),
    /// Both ends are reset.
    Reset(Within),
    /// Nothing more goes this way, and its receiver is told so; the other way goes on.
    HalfClose(Within),
    /// Nothing more goes either way, and nobody is told.
    Silence(Within),
    /// A bit of the part that `Within` names is flipped: this share of it, in 256ths.
    Flip(Within, u8),
}

/// Something that happens once.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub place: Place,
    pub harm: Harm,
}

/// How bytes are passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// Unit for unit.
    #[default]
    Whole,
    /// Byte for byte, up to so many of a unit.
    Bytes(usize),
    /// As it comes, in pieces of random length that begin and end anywhere. There are no faults then.
    Pieces,
    /// Each unit is held up for a random time, at most this.
    Late(Duration),
}

/// All that a proxy does.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub faults: Vec<Fault>,
    pub pace: Pace,
    pub seed: u64,
}

/// See the module.
pub struct Proxy {
    pub address: SocketAddr,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    plan: Plan,
    accepted: AtomicUsize,
    open: AtomicUsize,
    /// From which address it goes on to the server, so that its connections can be told from all others there.
    number: u16,
    /// How many units went each way on each connection.
    passed: Mutex<Vec<[usize; 2]>>,
    /// Connections that do not survive what happened on them.
    doomed: Mutex<Vec<usize>>,
    /// How many faults have happened.
    done: AtomicUsize,
}

impl Proxy {
    pub async fn start(server: SocketAddr, plan: Plan) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        static STARTED: AtomicU16 = AtomicU16::new(1);
        let state = Arc::new(State {
            plan,
            number: STARTED.fetch_add(1, Ordering::SeqCst),
            ..State::default()
        });
        let shared = state.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = shared.accepted.fetch_add(1, Ordering::SeqCst);
                shared.open.fetch_add(1, Ordering::SeqCst);
                let state = shared.clone();
                tokio::spawn(async move {
                    // Who is gone is gone.
                    let _ = relay(client, server, number, &state).await;
                    state.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self {
            address,
            state,
            accepting,
        }
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    /// Faults that have happened.
    pub fn done(&self) -> usize {
        self.state.done.load(Ordering::SeqCst)
    }

    /// What connections that do not survive what happened on them are called at the server.
    pub fn doomed(&self) -> Vec<SocketAddr> {
        let doomed = self.state.doomed.lock().unwrap();
        doomed
            .iter()
            .map(|number| self.state.address(*number))
            .collect()
    }

    /// What all connections are called at the server.
    pub fn peers(&self) -> Vec<SocketAddr> {
        let accepted = self.state.accepted.load(Ordering::SeqCst);
        (0..accepted)
            .map(|number| self.state.address(number))
            .collect()
    }

    /// Every unit that was passed on.
    pub fn places(&self) -> Vec<Place> {
        let passed = self.state.passed.lock().unwrap();
        let places = passed.iter().enumerate().flat_map(|(connection, units)| {
            let of = move |way, units| {
                (0..units).map(move |unit| Place {
                    connection,
                    way,
                    unit,
                })
            };
            of(Way::Up, units[0]).chain(of(Way::Down, units[1]))
        });
        places.collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl State {
    /// Each proxy has a loopback address and each connection a port of its own.
    fn address(&self, number: usize) -> SocketAddr {
        let [high, low] = self.number.to_be_bytes();
        SocketAddr::from(([127, 1, high, low], 20_000 + number as u16))
    }

    async fn connect(&self, server: SocketAddr, number: usize) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(self.address(number))?;
        socket.connect(server).await
    }
}

/// Numbers that follow from a seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x9E37_79B9_7F4A_7C15)
    }

    pub fn below(&mut self, most: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % most as u64) as usize
    }
}

/// How one way of a connection has ended.
enum Ended {
    /// As its sender wanted.
    Passed,
    /// The connection is cut with it.
    Cut,
    Reset,
}

async fn relay(
    mut client: TcpStream,
    server: SocketAddr,
    number: usize,
    state: &State,
) -> io::Result<()> {
    let mut server = state.connect(server, number).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    {
        let mut passed = state.passed.lock().unwrap();
        let at = passed.len().max(number + 1);
        passed.resize(at, [0; 2]);
    }
    let silent = AtomicBool::new(false);
    let ended = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let carrier = |way| Carrier {
            way,
            number,
            state,
            silent: &silent,
            dice: Dice::new(state.plan.seed ^ (number as u64) << 1 ^ way as u64),
            units: 0,
            input: BytesMut::new(),
        };
        let up = pin!(carrier(Way::Up).carry(from_client, to_server));
        let down = pin!(carrier(Way::Down).carry(from_server, to_client));
        match futures_util::future::select(up, down).await {
            futures_util::future::Either::Left((Ended::Passed, down)) => down.await,
            futures_util::future::Either::Right((Ended::Passed, up)) => up.await,
            either => either.factor_first().0,
        }
    };
    if matches!(ended, Ended::Reset) {
        client.set_zero_linger()?;
        server.set_zero_linger()?;
    }
    Ok(())
}

/// One way of one connection.
struct Carrier<'a> {
    way: Way,
    number: usize,
    state: &'a State,
    silent: &'a AtomicBool,
    dice: Dice,
    units: usize,
    input: BytesMut,
}

impl Carrier<'_> {
    async fn carry(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> Ended {
        if self.state.plan.pace == Pace::Pieces {
            return self.carry_pieces(from, to).await;
        }
        while let Some(unit) = self.unit(&mut from).await {
            let place = Place {
                connection: self.number,
                way: self.way,
                unit: self.units,
            };
            self.units += 1;
            self.state.passed.lock().unwrap()[self.number][self.way as usize] = self.units;
            let faults = &self.state.plan.faults;
            let fault = faults.iter().find(|fault| fault.place == place);
            if self.silent.load(Ordering::SeqCst) {
                continue;
            }
            let Some(fault) = fault else {
                if self.pass(&mut to, &unit).await.is_err() {
                    break;
                }
                continue;
            };
            self.state.done.fetch_add(1, Ordering::SeqCst);
            if !matches!(fault.harm, Harm::Flip(..)) {
                self.state.doomed.lock().unwrap().push(self.number);
            }
            match fault.harm {
                Harm::Flip(within, share) => {
                    let flipped = unit.flipped(within, share);
                    if self.pass(&mut to, &flipped).await.is_err() {
                        break;
                    }
                }
                Harm::Cut(within) => {
                    let _ = to.write_all(unit.until(within)).await;
                    return Ended::Cut;
                }
                Harm::Reset(within) => {
                    let _ = to.write_all(unit.until(within)).await;
                    // What was passed on has arrived before the reset.
                    sleep(Duration::from_millis(20)).await;
                    return Ended::Reset;
                }
                Harm::HalfClose(within) => {
                    let _ = to.write_all(unit.until(within)).await;
                    let _ = to.shutdown().await;
                    return swallow(from).await;
                }
                Harm::Silence(within) => {
                    let _ = to.write_all(unit.until(within)).await;
                    self.silent.store(true, Ordering::SeqCst);
                }
            }
        }
        let _ = to.shutdown().await;
        Ended::Passed
    }

    /// The next unit; what there is of it, when the sender leaves within one.
    async fn unit(&mut self, from: &mut ReadHalf<'_>) -> Option<Unit> {
        loop {
            if let Some(unit) = self.whole_unit() {
                return Some(unit);
            }
            if self.input.len() > FRAME_BYTES_MAX
                || !matches!(from.read_buf(&mut self.input).await, Ok(read) if read > 0)
            {
                let bytes = self.input.split().freeze();
                return (!bytes.is_empty()).then(|| Unit::of(bytes, 0, 0));
            }
        }
    }

    fn whole_unit(&mut self) -> Option<Unit> {
        let number = |at: usize, count: usize| {
            let bytes = self.input.get(at..at + count)?;
            Some(
                bytes
                    .iter()
                    .fold(0, |all, byte| all << 8 | usize::from(*byte)),
            )
        };
        let (head, metadata, data) = match (self.way, self.units) {
            (Way::Up, 1) => (PROOF_BYTES, 0, 0),
            (_, 0) | (Way::Down, 1) => (PREFIX_BYTES, number(6, 2)?, 0),
            _ => (HEAD_BYTES, number(5, 4)?, number(9, HEADER_BYTES - 9)?),
        };
        let length = head.checked_add(metadata)?.checked_add(data)?;
        if self.input.len() < length {
            return None;
        }
        Some(Unit::of(
            self.input.split_to(length).freeze(),
            head,
            metadata,
        ))
    }

    async fn pass(&mut self, to: &mut WriteHalf<'_>, unit: &Unit) -> io::Result<()> {
        match self.state.plan.pace {
            Pace::Whole => to.write_all(&unit.bytes).await,
            Pace::Late(most) => {
                let late = self.dice.below(most.as_micros() as usize + 1);
                sleep(Duration::from_micros(late as u64)).await;
                to.write_all(&unit.bytes).await
            }
            Pace::Bytes(most) => {
                let (slow, rest) = unit.bytes.split_at(most.min(unit.bytes.len()));
                for byte in slow.chunks(1) {
                    to.write_all(byte).await?;
                    tokio::task::yield_now().await;
                }
                to.write_all(rest).await
            }
            Pace::Pieces => unreachable!("it knows no units"),
        }
    }

    async fn carry_pieces(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> Ended {
        loop {
            sleep(Duration::from_micros(self.dice.below(300) as u64)).await;
            let most = [10, 1000, 1 << 20][self.dice.below(3)];
            let mut piece = vec![0; 1 + self.dice.below(most)];
            match from.read(&mut piece).await {
                Ok(read) if read > 0 && to.write_all(&piece[..read]).await.is_ok() => {}
                _ => break,
            }
        }
        let _ = to.shutdown().await;
        Ended::Passed
    }
}

async fn swallow(mut from: ReadHalf<'_>) -> Ended {
    let mut rest = [0; 4096];
    while matches!(from.read(&mut rest).await, Ok(read) if read > 0) {}
    Ended::Passed
}

struct Unit {
    bytes: Bytes,
    head: usize,
    metadata: usize,
}

impl Unit {
    fn of(bytes: Bytes, head: usize, metadata: usize) -> Self {
        Self {
            bytes,
            head,
            metadata,
        }
    }

    /// Where a part of it begins and ends.
    fn part(&self, within: Within) -> (usize, usize) {
        let (all, head) = (self.bytes.len(), self.head.min(self.bytes.len()));
        match within {
            Within::Nothing => (0, 0),
            Within::First => (0, 1),
            Within::Head => (0, head),
            Within::Metadata => (head, head + self.metadata),
            Within::Data => (head + self.metadata, all),
            Within::Last => (all - 1, all),
        }
    }

    fn until(&self, within: Within) -> &[u8] {
        let (start, end) = self.part(within);
        match within {
            Within::Nothing => &[],
            Within::First => &self.bytes[..1],
            Within::Last => &self.bytes[..start],
            _ => &self.bytes[..start.midpoint(end)],
        }
    }

    fn flipped(&self, within: Within, share: u8) -> Self {
        let (start, end) = self.part(within);
        let bit = 8 * start + (8 * (end - start) * usize::from(share)) / 256;
        let mut bytes = self.bytes.to_vec();
        if let Some(byte) = bytes.get_mut(bit / 8).filter(|_| end > start) {
            *byte ^= 1 << (bit % 8);
        }
        Self::of(bytes.into(), self.head, self.metadata)
    }
}
