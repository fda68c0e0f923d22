//! Version 1, for servers that know no other: a request goes in its form, one at a time on a lane. What it has no form for is
//! refused by name before anything is sent, and never becomes something else; what takes one request in version 2 and can be
//! had by several here is asked for one by one.

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};
use jay_wire::{
    Failure, Message, Operation, Refusal, Status,
    body::CHUNK_BYTES_MAX,
    list::ObjectPage,
    multipart::{CompleteMultipartUpload, CreateMultipartUpload},
    object::{GetObject, ObjectInfo, PutObject, Stored},
};
use md5::Md5;
use sha2::{Digest, Sha256};

use crate::{
    body::{Body, Pieces},
    bucket::Bucket,
    bulk::{Source, v1::Head},
    config::Protocol,
    core::{CallOptions, Core, Incoming, Response, within},
    error::{Error, ErrorKind, Result},
    model::{ObjectMeta, PartInfo, PutResult},
    multipart::Upload,
    pool::{Lane, Way},
    retry::Safety,
};

/// The metadata of a request, if version 1 has all that it says.
pub(crate) fn request<O: Operation>(asked: &O, options: &CallOptions) -> Result<Vec<u8>> {
    let named = options.request_id.as_ref().map(|_| "request_id");
    let lacking = match O::SINCE {
        1 => asked.beyond_v1().or(named),
        _ => Some(O::NAME),
    };
    match lacking {
        None => Ok(asked.to_bytes()?),
        Some(what) => Err(unsupported(&format!("has no {what}"))),
    }
}

fn unsupported(why: &str) -> Error {
    let message = format!("Version 1 of the protocol {why}; protocol=v2 asks for version 2.");
    Error::new(ErrorKind::Unsupported, message)
}

impl Core {
    /// Whether version 1 is spoken.
    pub(crate) fn is_v1(&self) -> bool {
        self.config().options.protocol == Protocol::V1
    }

    /// Asks once, and reads what belongs to the answer but a long body.
    pub(crate) async fn read_v1<O: Operation>(
        &self,
        metadata: &[u8],
    ) -> Result<Response<O::Answer>> {
        // Who reads many bodies must still be able to ask.
        let way = match O::CODE {
            GetObject::CODE => Way::Down,
            _ => Way::Up,
        };
        let mut lane = self.pool.lane(way).await?;
        let head = lane.bulk().ask_v1(O::CODE, metadata).await?;
        if O::CODE != GetObject::CODE {
            let told = answered::<O>(&mut lane, &head)?;
            let body = Incoming::Whole(Bytes::new(), None);
            return Ok(Response { told, body });
        }
        let told = parsed::<O>(&mut lane, &head)?;
        let object = ObjectInfo::parse(&head.metadata)?;
        if object.size != head.data_bytes {
            return Err(Error::protocol(
                "The body has another length than the object.",
            ));
        }
        let verify = self.config().options.verify;
        let body = Incoming::Raw(Box::new(Download {
            lane,
            left: object.size,
            sum: verify.then(|| Sum::told(&object)).flatten(),
            size: object.size,
        }));
        let body = match object.size <= CHUNK_BYTES_MAX as u64 {
            // The lane is free again before anybody looks at them.
            true => Incoming::Whole(body.all(CHUNK_BYTES_MAX as u64).await?, None),
            false => body,
        };
        Ok(Response { told, body })
    }

    /// Sends a request with its body once.
    pub(crate) async fn write_v1<O: Operation<Answer = Stored>>(
        &self,
        asked: &O,
        pieces: Pieces,
        options: &CallOptions,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Stored> {
        let metadata = request(asked, options)?;
        let size = pieces.size();
        let size = size.ok_or_else(|| unsupported("has no bodies of unknown length"))?;
        let verify = self.config().options.verify;
        let mut source = Summed {
            pieces,
            sha256: verify.then(Sha256::new),
        };
        let mut lane = self.pool.lane(Way::Up).await?;
        let bulk = lane.bulk();
        let head = bulk
            .upload_v1(O::CODE, &metadata, size, &mut source, progress)
            .await?;
        let told = answered::<O>(&mut lane, &head)?;
        source.check(&told)?;
        Ok(Stored { size, ..told })
    }
}

/// What an answer without a body tells.
fn answered<O: Operation>(lane: &mut Lane, head: &Head) -> Result<O::Answer> {
    let told = parsed::<O>(lane, head)?;
    if head.data_bytes > 0 {
        return Err(Error::protocol("The answer has a body and should not."));
    }
    lane.bulk().is_done();
    Ok(told)
}

/// What an answer tells, before its body.
fn parsed<O: Operation>(lane: &mut Lane, head: &Head) -> Result<O::Answer> {
    if head.status == Status::Ok {
        return Ok(O::Answer::parse(&head.metadata)?);
    }
    let refusal = Refusal::parse(&head.metadata)?;
    if head.data_bytes == 0 {
        lane.bulk().is_done();
    }
    let failure = Failure {
        code: refusal.published(head.status) as u32,
        message: refusal.message,
        s3_code: refusal.code,
        ..Failure::default()
    };
    Err(Error::of_server(failure, String::new()))
}

/// A body that comes raw behind its answer.
pub(crate) struct Download {
    lane: Lane,
    left: u64,
    size: u64,
    sum: Option<Sum>,
}

impl Download {
    /// How many bytes it has.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The next piece; `None` at the end, when all of it was checked.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.left == 0 {
            self.lane.bulk().is_done();
            return match self.sum.take().is_none_or(Sum::holds) {
                true => Ok(None),
                false => Err(Error::new(
                    ErrorKind::ChecksumMismatch,
                    "The body that has come is not the one that was stored.",
                )),
            };
        }
        let bytes = self.lane.bulk().data_v1(self.left).await?;
        self.left -= bytes.len() as u64;
        if let Some(sum) = &mut self.sum {
            sum.update(&bytes);
        }
        Ok(Some(bytes))
    }
}

/// What a body must have, and what has come of it has.
enum Sum {
    Sha256(String, Sha256),
    Md5(String, Md5),
}

impl Sum {
    /// That of an object. One that came in parts has none of the whole of it.
    fn told(object: &ObjectInfo) -> Option<Self> {
        if is_hex(&object.checksum, 64) {
            return Some(Self::Sha256(object.checksum.clone(), Sha256::new()));
        }
        is_hex(&object.etag, 32).then(|| Self::Md5(object.etag.clone(), Md5::new()))
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(_, sum) => sum.update(bytes),
            Self::Md5(_, sum) => sum.update(bytes),
        }
    }

    fn holds(self) -> bool {
        match self {
            Self::Sha256(told, sum) => told == hex(&sum.finalize()),
            Self::Md5(told, sum) => told == hex(&sum.finalize()),
        }
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A body on its way out, and its sum.
struct Summed {
    pieces: Pieces,
    sha256: Option<Sha256>,
}

impl Source for Summed {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let next = self.pieces.next().await?;
        if let (Some(sum), Some(bytes)) = (&mut self.sha256, &next) {
            sum.update(bytes);
        }
        Ok(next)
    }
}

impl Summed {
    /// Holds what the server says to have stored against what was sent.
    fn check(self, told: &Stored) -> Result<()> {
        let told = Some(&told.checksum).filter(|told| is_hex(told, 64));
        let sent = self.sha256.map(|sum| hex(&sum.finalize()));
        match (told, sent) {
            (Some(told), Some(sent)) if *told != sent => Err(Error::new(
                ErrorKind::ChecksumMismatch,
                "What the server has stored is not what was sent: put it again.",
            )),
            _ => Ok(()),
        }
    }
}

/// What to ask for behind a page. The first servers tell of a place before the common prefix that ends it, and would list it
/// for ever: behind all that it stands for goes on with any server.
pub(crate) fn next_start_after(page: &ObjectPage) -> String {
    match page.common_prefixes.last() {
        Some(last) if *last > page.next_start_after => {
            // As long as a key may be, and nothing is above it.
            format!("{last}{}", "\u{10FFFF}".repeat(256))
        }
        _ => page.next_start_after.clone(),
    }
}

/// Whether parts are named as version 2 wants them, and are stored.
fn are_stored(named: &[PartInfo], stored: &[PartInfo]) -> Result<()> {
    let refused = |s3_code: &str, message: String| {
        let failure = Failure {
            code: ErrorKind::InvalidArgument as u32,
            message,
            s3_code: s3_code.to_owned(),
            ..Failure::default()
        };
        Err(Error::of_server(failure, String::new()))
    };
    if named.is_empty() {
        let message = "An object is made of one part at least.".to_owned();
        return refused("MalformedXML", message);
    }
    if !named.is_sorted_by(|a, b| a.part_number < b.part_number) {
        let message = "Parts are named in ascending order, and each once.".to_owned();
        return refused("InvalidPartOrder", message);
    }
    for part in named {
        let is_it = |other: &&PartInfo| other.part_number == part.part_number;
        match stored.iter().find(is_it) {
            Some(found) if part.etag.is_empty() || part.etag == found.etag => {}
            _ => {
                let message = format!("Part {} is missing, or has another ETag.", part.part_number);
                return refused("InvalidPart", message);
            }
        }
    }
    Ok(())
}

/// One outcome of several, unless the error is none of its key alone.
fn outcome<T>(result: Result<T>) -> Result<Result<T>> {
    match result {
        Err(error) if !is_of_one_key(error.kind()) => Err(error),
        result => Ok(result),
    }
}

fn is_of_one_key(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ObjectNotFound
            | ErrorKind::ObjectCorrupt
            | ErrorKind::PermissionDenied
            | ErrorKind::Conflict
            | ErrorKind::Internal
    )
}

impl Bucket {
    /// One request for each key, several at a time.
    pub(crate) async fn head_each(
        &self,
        keys: &[impl AsRef<str>],
    ) -> Result<Vec<Result<ObjectMeta>>> {
        self.each(keys, |bucket, key| async move { bucket.head(&key).await })
            .await
    }

    /// One request for each key, several at a time.
    pub(crate) async fn delete_each(&self, keys: &[impl AsRef<str>]) -> Result<Vec<Result<()>>> {
        self.each(keys, |bucket, key| async move { bucket.delete(key).await })
            .await
    }

    async fn each<T, F: Future<Output = Result<T>>>(
        &self,
        keys: &[impl AsRef<str>],
        ask: impl Fn(Self, String) -> F,
    ) -> Result<Vec<Result<T>>> {
        let mut asked = Vec::with_capacity(keys.len());
        for key in keys {
            asked.push(ask(self.clone(), key.as_ref().to_owned()));
        }
        stream::iter(asked)
            .buffered(self.core.config().options.concurrency.max(1) as usize)
            .map(outcome)
            .try_collect()
            .await
    }

    /// Lists and deletes by turns.
    pub(crate) async fn delete_listed(&self, prefix: &str) -> Result<u64> {
        let mut deleted = 0;
        let mut pages = std::pin::pin!(self.list(prefix).pages());
        while let Some(page) = pages.try_next().await? {
            let keys: Vec<_> = page.objects.iter().map(|object| &object.key).collect();
            for outcome in self.delete_each(&keys).await? {
                outcome?;
                deleted += 1;
            }
        }
        Ok(deleted)
    }

    /// Stores a body of unknown length: one that is no longer than what goes in one request is gathered, a longer one goes
    /// in parts.
    pub(crate) async fn put_gathered(
        &self,
        asked: &PutObject,
        mut body: Body,
        options: &CallOptions,
    ) -> Result<PutResult> {
        let work = async {
            request(asked, options)?;
            let mut gathering = Gathering {
                pieces: body.pieces().await?,
                ahead: BytesMut::new(),
            };
            let most = bytes(self.core.config().options.multipart_threshold);
            gathering.gather(most.saturating_add(1)).await?;
            if gathering.ahead.len() <= most {
                let body = Body::from(gathering.ahead.freeze());
                let core = &self.core;
                let stored = core
                    .write(asked, body, Safety::Once, options, &mut |_| {})
                    .await?;
                return Ok(stored.into());
            }
            self.put_in_parts(asked, gathering).await
        };
        within(options.timeout, work)
            .await
            .map_err(|error| error.about(PutObject::NAME, asked.resource()))
    }

    async fn put_in_parts(&self, asked: &PutObject, mut body: Gathering) -> Result<PutResult> {
        if !asked.metadata.is_empty() {
            return Err(unsupported(
                "has no user metadata of uploads in parts, and a body that is longer than multipart_threshold and of \
                 unknown length is one",
            ));
        }
        let begun = CreateMultipartUpload {
            bucket: asked.bucket.clone(),
            key: asked.key.clone(),
            content_type: asked.content_type.clone(),
            ..CreateMultipartUpload::default()
        };
        let options = CallOptions::default();
        let told = self.core.ask(&begun, Safety::Once, &options).await?;
        let upload = Upload {
            bucket: self.clone(),
            key: begun.key,
            upload_id: told.upload_id,
        };
        match upload.send_parts(&mut body).await {
            Ok(stored) => Ok(stored),
            Err(error) => {
                let _ = upload.abort().await;
                Err(error)
            }
        }
    }
}

impl Upload {
    /// Holds the parts of a Complete against those that are stored, since version 1 names them by their numbers alone.
    pub(crate) async fn must_be_stored(
        &self,
        asked: &CompleteMultipartUpload,
        named: &[PartInfo],
    ) -> Result<()> {
        request(asked, &CallOptions::default())?;
        match self.list_parts().await {
            Ok(stored) => are_stored(named, &stored),
            // Whether it was completed before, and of which parts, the server knows.
            Err(error) if error.kind() == ErrorKind::UploadNotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn send_parts(&self, body: &mut Gathering) -> Result<PutResult> {
        let part_size = bytes(self.bucket.core.config().options.part_size.max(1));
        let mut parts = Vec::new();
        loop {
            let part = body.up_to(part_size).await?;
            if part.is_empty() {
                return self.complete(&parts).await;
            }
            parts.push(self.part(parts.len() as u32 + 1, part).await?);
        }
    }
}

fn bytes(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// A body of unknown length, so much of it at a time as somebody wants.
struct Gathering {
    pieces: Pieces,
    ahead: BytesMut,
}

impl Gathering {
    /// Has `count` bytes ahead, or more; fewer at the end.
    async fn gather(&mut self, count: usize) -> Result<()> {
        while self.ahead.len() < count {
            match self.pieces.next().await? {
                Some(bytes) => self.ahead.extend_from_slice(&bytes),
                None => break,
            }
        }
        Ok(())
    }

    /// The next `count` bytes; fewer at the end.
    async fn up_to(&mut self, count: usize) -> Result<Bytes> {
        self.gather(count).await?;
        let count = count.min(self.ahead.len());
        Ok(self.ahead.split_to(count).freeze())
    }
}
