//! A server that knows version 1 alone: it answers the requests that were recorded of the first server with the bytes that
//! were recorded of it, and to all others it has no answer.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use jay_wire::{
    Header, Message as _, Operation as _,
    frame::HEADER_BYTES,
    handshake::{self, HELLO_BYTES, Hello},
    multipart::CompleteMultipartUpload,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// What the server does to a recorded answer to a request, which it knows by its name; it ends the connection behind an
/// answer of which that is false.
pub type Change = fn(&str, &mut Vec<u8>) -> bool;

pub struct Recorded {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    exchanges: Vec<Exchange>,
    change: Change,
    received: Vec<u8>,
    connections: usize,
    ended: usize,
    unknown: Vec<Vec<u8>>,
}

/// A request and its answer.
struct Exchange {
    name: String,
    token_id: &'static str,
    request: Vec<u8>,
    answer: Vec<u8>,
    is_used: bool,
}

impl Recorded {
    pub async fn start() -> Self {
        Self::start_with(|_, _| true).await
    }

    pub async fn start_with(change: Change) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            exchanges: exchanges(),
            change,
            received: Vec::new(),
            connections: 0,
            ended: 0,
            unknown: Vec::new(),
        }));
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.lock().unwrap().connections += 1;
                let shared = shared.clone();
                tokio::spawn(async move {
                    // Whoever leaves ends its connection and nothing else.
                    let _ = serve(stream, &shared).await;
                    shared.lock().unwrap().ended += 1;
                });
            }
        });
        Self { address, state }
    }

    pub fn url(&self, token_id: &str) -> String {
        format!("jay://{token_id}:{token_id}-secret@{}", self.address)
    }

    /// All bytes of all clients so far.
    pub fn received(&self) -> Vec<u8> {
        self.state().received.clone()
    }

    /// Waits until all clients have left.
    pub async fn has_ended(&self) {
        let is_over = |state: MutexGuard<'_, State>| state.ended == state.connections;
        while !is_over(self.state()) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    pub fn connections(&self) -> usize {
        self.state().connections
    }

    /// Requests that were not recorded.
    pub fn unknown(&self) -> Vec<Vec<u8>> {
        self.state().unknown.clone()
    }

    /// What was recorded and not asked for.
    pub fn unused(&self) -> BTreeSet<String> {
        let state = self.state();
        let unused = state.exchanges.iter().filter(|exchange| !exchange.is_used);
        unused.map(|exchange| exchange.name.clone()).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// What was recorded, in the order in which that was done. Each exchange is a line with a request and then one with its
/// answer.
fn exchanges() -> Vec<Exchange> {
    let vectors = include_str!("../../wire/tests/native-v1-vectors.json");
    let vectors: Vec<Value> = serde_json::from_str(vectors).unwrap();
    let pairs = vectors.windows(2).filter_map(|pair| {
        let name = pair[0]["name"].as_str()?.strip_suffix(".request")?;
        assert_eq!(pair[1]["name"].as_str()?, format!("{name}.response"));
        let is_handshake = pair[0]["op"] == "handshake";
        Some(Exchange {
            name: name.to_owned(),
            token_id: match pair[0]["connection"].as_str()? {
                _ if is_handshake => "",
                "main" | "main2" | "limited" => "vec-full",
                "readonly" => "vec-readonly",
                // What no client of ours sends.
                _ => return None,
            },
            request: comparable(bytes(&pair[0])),
            answer: bytes(&pair[1]),
            is_used: false,
        })
    });
    pairs.collect()
}

fn bytes(vector: &Value) -> Vec<u8> {
    let hex = vector["hex"].as_str().unwrap();
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    let mut bytes: Vec<u8> = (0..hex.len()).step_by(2).map(digit).collect();
    if vector["data_omitted"] == true {
        bytes.extend(long_body());
    }
    bytes
}

/// The body that was recorded without its bytes.
pub fn long_body() -> Vec<u8> {
    (0..(1_usize << 20) + 17)
        .map(|at| (at * 7 % 251) as u8)
        .collect()
}

/// A request as it is compared: the order in which a Complete names its parts means nothing.
fn comparable(request: Vec<u8>) -> Vec<u8> {
    match request.split_first_chunk::<HEADER_BYTES>() {
        Some((header, metadata)) if header[0] == CompleteMultipartUpload::CODE => {
            let mut asked = CompleteMultipartUpload::parse(metadata).unwrap();
            asked.part_numbers.sort_unstable();
            [&header[..], &asked.to_bytes().unwrap()].concat()
        }
        _ => request,
    }
}

impl State {
    /// The answer to a request: of one that was recorded several times the first that was not given yet, else the last.
    fn answer(&mut self, token_id: &str, request: &[u8]) -> Option<(Vec<u8>, bool)> {
        let request = comparable(request.to_vec());
        let is_it =
            |exchange: &&mut Exchange| exchange.token_id == token_id && exchange.request == request;
        let mut same: Vec<_> = self.exchanges.iter_mut().filter(is_it).collect();
        let last = same.len().checked_sub(1)?;
        let at = same.iter().position(|exchange| !exchange.is_used);
        let exchange = &mut same[at.unwrap_or(last)];
        exchange.is_used = true;
        let mut answer = exchange.answer.clone();
        let is_handshake = token_id.is_empty();
        let goes_on = is_handshake || (self.change)(&exchange.name, &mut answer);
        Some((answer, goes_on))
    }
}

async fn serve(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let Some(token_id) = shake_hands(&mut stream, state).await? else {
        // All that comes now comes too late, and is of interest all the same.
        let mut rest = Vec::new();
        stream.shutdown().await?;
        stream.read_to_end(&mut rest).await?;
        state.lock().unwrap().received.extend(rest);
        return Ok(());
    };
    loop {
        let mut request = vec![0; HEADER_BYTES];
        read(&mut stream, &mut request, state).await?;
        let header = Header::parse(request.first_chunk().unwrap()).unwrap();
        let length = header.metadata_bytes as usize + header.data_bytes as usize;
        let mut rest = vec![0; length];
        read(&mut stream, &mut rest, state).await?;
        request.extend(rest);
        let answer = state.lock().unwrap().answer(&token_id, &request);
        let Some((answer, goes_on)) = answer else {
            state.lock().unwrap().unknown.push(request);
            return Ok(());
        };
        stream.write_all(&answer).await?;
        if !goes_on {
            return Ok(());
        }
    }
}

/// Who calls, if that is somebody.
async fn shake_hands(
    stream: &mut TcpStream,
    state: &Mutex<State>,
) -> std::io::Result<Option<String>> {
    let mut hello = vec![0; HELLO_BYTES];
    read(stream, &mut hello, state).await?;
    let parsed = Hello::parse(hello.first_chunk().unwrap()).unwrap();
    if parsed.version != handshake::VERSION {
        // As soon as it has these bytes; of what follows it does not know how much there is.
        let said = state
            .lock()
            .unwrap()
            .answer_named("handshake.version_mismatch");
        stream.write_all(&said).await?;
        return Ok(None);
    }
    let mut credentials = vec![0; parsed.credentials_bytes.into()];
    read(stream, &mut credentials, state).await?;
    hello.extend(&credentials);
    // That of the second access key was not recorded.
    let is_readonly = credentials == b"vec-readonly:vec-readonly-secret";
    let said = match is_readonly {
        true => state.lock().unwrap().answer_named("handshake.ok"),
        false => {
            let said = state.lock().unwrap().answer("", &hello);
            said.expect("a handshake that was recorded").0
        }
    };
    stream.write_all(&said).await?;
    let id = credentials.split(|byte| *byte == b':').next().unwrap();
    let id = String::from_utf8(id.to_vec()).unwrap();
    Ok((said[5] == 0).then_some(id))
}

impl State {
    fn answer_named(&mut self, name: &str) -> Vec<u8> {
        let named = self.exchanges.iter_mut().find(|it| it.name == name);
        let named = named.unwrap();
        named.is_used = true;
        named.answer.clone()
    }
}

async fn read(
    stream: &mut TcpStream,
    bytes: &mut [u8],
    state: &Mutex<State>,
) -> std::io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        let count = stream.read(&mut bytes[filled..]).await?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let came = &bytes[filled..filled + count];
        state.lock().unwrap().received.extend(came);
        filled += count;
    }
    Ok(())
}
