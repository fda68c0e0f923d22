//! A server that says what a test wants it to say.
#![allow(dead_code)] // Each test takes what it needs.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::{BufMut, Bytes, BytesMut};
use jay_wire::{
    Empty, ErrorCode, Failure, Operation, Reply, Tagged,
    call::{self, Chunk, End, GoAway},
    server::OpenSession,
    v2::{
        self, ClientHello, Frame, PREFIX_BYTES, PROOF_BYTES, ProofKey, ServerHello, Status, Step,
        Transcript, kind,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// See the module; it ends with the test.
pub struct Scripted {
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Scripted {
    /// Gives each connection to the script, as it comes.
    pub async fn raw<F: Future<Output = ()> + Send + 'static>(
        script: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                stream.set_nodelay(true).unwrap();
                tokio::spawn(script(stream));
            }
        });
        Self {
            address,
            accepted,
            task,
        }
    }

    /// Gives each connection to the script once both sides are proven.
    pub async fn start<F: Future<Output = ()> + Send + 'static>(
        script: impl Fn(Peer) -> F + Clone + Send + Sync + 'static,
    ) -> Self {
        let connections = Arc::new(AtomicUsize::new(0));
        Self::raw(move |stream| {
            let (script, number) = (script.clone(), connections.fetch_add(1, Ordering::SeqCst));
            async move {
                if let Some(peer) = Peer::proven(stream, number, 256).await {
                    script(peer).await;
                }
            }
        })
        .await
    }

    /// Connections that there have been.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The client, as a server sees it.
pub struct Peer {
    pub stream: TcpStream,
    input: BytesMut,
    /// Which connection this is, from 0.
    pub number: usize,
    pub is_bulk: bool,
}

impl Peer {
    /// Shakes hands as a server should; `None` when the client leaves meanwhile.
    pub async fn proven(mut stream: TcpStream, number: usize, streams_max: u32) -> Option<Self> {
        let mut hello = vec![0; PREFIX_BYTES];
        stream.read_exact(&mut hello).await.ok()?;
        hello.resize(
            PREFIX_BYTES + usize::from(hello[7]) + (usize::from(hello[6]) << 8),
            0,
        );
        stream.read_exact(&mut hello[PREFIX_BYTES..]).await.ok()?;
        let theirs = ClientHello::from_metadata(&hello[PREFIX_BYTES..]).unwrap();
        let ours = ServerHello {
            nonce: [7; 16],
            agent: "scripted".to_owned(),
            streams_max,
            inline_bytes_max: 256 << 10,
        };
        let ours = v2::step(Step::Proceed, &ours.to_metadata().unwrap()).unwrap();
        stream.write_all(&ours).await.ok()?;
        let mut proof = [0; PROOF_BYTES];
        stream.read_exact(&mut proof).await.ok()?;
        let transcript = Transcript::new(&hello, &ours, None);
        let key = ProofKey::derive("a secret of these tests");
        assert!(key.proves_client(&transcript, &proof));
        let proof = v2::step(Step::Proceed, &key.server_proof(&transcript)).unwrap();
        stream.write_all(&proof).await.ok()?;
        Some(Self {
            stream,
            input: BytesMut::new(),
            number,
            is_bulk: theirs.bulk,
        })
    }

    /// The next frame; `None` when the client has left.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = Frame::take(&mut self.input).unwrap() {
                return Some(frame);
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(read) if read > 0 => {}
                _ => return None,
            }
        }
    }

    /// The next request. Pings are answered meanwhile, and sessions are not had.
    pub async fn request(&mut self) -> Option<Frame> {
        loop {
            let frame = self.frame().await?;
            match frame.code {
                kind::PING => self.say(kind::PONG, frame.stream_id, &Empty, b"").await,
                OpenSession::CODE => self.refuse(&frame, ErrorCode::Unsupported).await,
                code if code >= kind::CHUNK && code != u8::MAX => {}
                _ => return Some(frame),
            }
        }
    }

    /// Sends a frame, unless the client has left.
    pub async fn say(&mut self, code: u8, stream_id: u32, told: &impl Tagged, data: &[u8]) {
        let mut metadata = Vec::new();
        told.write(&mut metadata);
        self.say_bytes(code, stream_id, &metadata, data).await;
    }

    pub async fn say_bytes(&mut self, code: u8, stream_id: u32, metadata: &[u8], data: &[u8]) {
        let mut frame = BytesMut::new();
        v2::frame(code, stream_id, metadata, data.len(), &mut frame).unwrap();
        frame.put_slice(data);
        let _ = self.stream.write_all(&frame).await;
    }

    /// Answers that it was done.
    pub async fn answer(&mut self, to: &Frame, told: &impl Tagged) {
        self.say(Status::Ok as u8, to.stream_id, told, b"").await;
    }

    /// Answers with a body: whole, or as the head says.
    pub async fn answer_with(
        &mut self,
        to: &Frame,
        told: &impl Tagged,
        head: call::Body,
        data: &[u8],
    ) {
        let reply = Reply {
            body: Some(head),
            ..Reply::default()
        };
        let metadata = call::answer(told, &reply).unwrap();
        self.say_bytes(Status::Ok as u8, to.stream_id, &metadata, data)
            .await;
    }

    pub async fn refuse(&mut self, to: &Frame, code: ErrorCode) {
        let failure = failure(code);
        self.say(Status::Failed as u8, to.stream_id, &failure, b"")
            .await;
    }

    pub async fn chunk(&mut self, to: &Frame, data: &[u8]) {
        self.say(kind::CHUNK, to.stream_id, &Chunk::of(data), data)
            .await;
    }

    /// Ends a body as if it had been `body`.
    pub async fn end(&mut self, to: &Frame, body: &[u8]) {
        let end = End {
            size: body.len() as u64,
            crc64: jay_wire::body::crc64(body),
            failure: None,
        };
        self.say(kind::END, to.stream_id, &end, b"").await;
    }

    pub async fn leave(&mut self, last: u32, why: Option<ErrorCode>) {
        let word = GoAway {
            failure: why.map(failure),
        };
        self.say(kind::GO_AWAY, last, &word, b"").await;
    }
}

fn failure(code: ErrorCode) -> Failure {
    Failure {
        code: code as u32,
        message: "Scripted.".to_owned(),
        s3_code: code.name().to_owned(),
        ..Failure::default()
    }
}

/// The body of these tests, of a length that does not fit into a frame.
pub fn long_body() -> Bytes {
    (0..400_000).map(|at| (at % 251) as u8).collect()
}
