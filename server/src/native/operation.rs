//! Which operation a request is, in whichever version it came: the one table of all of them.

use jay_engine::{Caller, Engine, ObjectInfo, ObjectKey, ObjectReader, Once};
use jay_wire::{
    DecodeError, Empty, EncodeError, Message, Operation, Ping, Tagged, bucket::*,
    list::ListObjects, multipart::*, object::*, server::*, tagging::*,
};

use super::{
    body::{Body, Broken},
    bucket,
    error::Error,
    list, multipart, object, server, tagging,
};
use crate::listener::RequestContext;

/// What every operation is given.
pub(super) struct Call<'a> {
    pub(super) engine: &'a Engine,
    pub(super) caller: &'a Caller,
    pub(super) region: &'a str,
    /// Whether it came by version 2.
    pub(super) is_v2: bool,
    /// Which request of a session it is, if it is to be done once however often it comes.
    pub(super) once: Option<Once>,
}

impl Call<'_> {
    /// What it has written when it came before.
    pub(super) fn written_before(&self, key: &ObjectKey) -> jay_engine::Result<Option<ObjectInfo>> {
        match self.once.filter(Once::again) {
            None => Ok(None),
            Some(once) => self.engine.written_before(&once, key),
        }
    }

    /// Whether it was done when it came before.
    pub(super) fn done_before(&self) -> jay_engine::Result<bool> {
        match self.once.filter(Once::again) {
            None => Ok(false),
            Some(once) => self.engine.done_before(&once),
        }
    }
}

/// What a request is answered with: metadata, and perhaps a body.
pub(super) enum Answer {
    Metadata(Vec<u8>),
    Object(Vec<u8>, Box<Outgoing>),
}

/// A body on its way out.
pub(super) struct Outgoing {
    pub(super) reader: ObjectReader,
    /// What is to be read behind what the reader has selected now, in reverse order.
    pub(super) then: Vec<jay_engine::ByteRange>,
    /// Bytes of all together.
    pub(super) size: u64,
    /// The CRC64-NVME that its writer gave it, where all of it comes.
    pub(super) crc64: Option<u64>,
}

impl Outgoing {
    /// The next bytes, every one of them checked; `None` at the end.
    pub(super) async fn next(&mut self) -> jay_engine::Result<Option<bytes::Bytes>> {
        loop {
            if let Some(bytes) = self.reader.next().await? {
                return Ok(Some(bytes));
            }
            match self.then.pop() {
                None => return Ok(None),
                Some(range) => self.reader.select(range)?,
            }
        }
    }
}

/// How metadata stand in a version.
pub(super) trait Form {
    /// Whether operations and fields are those of version 2.
    const IS_V2: bool;

    fn read<O: Operation>(metadata: &[u8]) -> Result<O, DecodeError>;

    fn write<A: Message + Tagged>(answer: &A) -> Result<Vec<u8>, EncodeError>;
}

/// Version 1.
pub(super) struct V1;
/// Version 2.
pub(super) struct V2;

impl Form for V1 {
    const IS_V2: bool = false;

    fn read<O: Operation>(metadata: &[u8]) -> Result<O, DecodeError> {
        O::parse(metadata)
    }

    fn write<A: Message + Tagged>(answer: &A) -> Result<Vec<u8>, EncodeError> {
        answer.to_bytes()
    }
}

impl Form for V2 {
    const IS_V2: bool = true;

    fn read<O: Operation>(metadata: &[u8]) -> Result<O, DecodeError> {
        O::from_metadata(metadata)
    }

    fn write<A: Message + Tagged>(answer: &A) -> Result<Vec<u8>, EncodeError> {
        answer.to_metadata()
    }
}

/// Runs the operation of this code, once if it is one of a session.
pub(super) async fn perform_once(
    call: &Call<'_>,
    code: u8,
    metadata: &[u8],
    body: &mut Body<'_>,
    context: &mut RequestContext,
) -> Result<Answer, Broken> {
    const ONCE: [u8; 4] = [
        PutObject::CODE,
        DeleteObject::CODE,
        CopyObject::CODE,
        CompleteMultipartUpload::CODE,
    ];
    if call.once.is_some() && !ONCE.contains(&code) {
        return Err(Error::not_of_sessions().into());
    }
    match (
        perform::<V2>(call, code, metadata, body, context).await,
        call.once,
    ) {
        // Another attempt may still be under way: it must not be done behind this answer.
        (Err(Broken::Refused(error)), Some(once)) if once.again() && error.is_final() => {
            let kept = call.engine.refuse_once(&once, error.to_engine()).await;
            Err(error.unless(kept).into())
        }
        (done, _) => done,
    }
}

/// Runs the operation of this code.
pub(super) async fn perform<F: Form>(
    call: &Call<'_>,
    code: u8,
    metadata: &[u8],
    body: &mut Body<'_>,
    context: &mut RequestContext,
) -> Result<Answer, Broken> {
    /// What was asked for, which the log tells too.
    fn parse<F: Form, O: Operation>(
        metadata: &[u8],
        context: &mut RequestContext,
    ) -> Result<O, DecodeError> {
        context.operation = O::NAME;
        let asked = F::read::<O>(metadata)?;
        let (bucket, key) = asked.resource();
        context.bucket = bucket.map(str::to_owned);
        context.key = key.map(str::to_owned);
        context.show();
        Ok(asked)
    }
    macro_rules! operations {
        (
            with body { $($bulk:ident => $bulk_handler:path,)+ }
            answering bodies { $($reading:ident => $reading_handler:path, $reading_guard:expr;)+ }
            without { $($plain:ident => $handler:path,)+ }
            since 2 { $($later:ident => $later_handler:path,)+ }
        ) => {
            match code {
                $($bulk::CODE => {
                    let asked: $bulk = parse::<F, _>(metadata, context)?;
                    let answer = $bulk_handler(call, asked, body).await?;
                    Ok(Answer::Metadata(F::write(&answer)?))
                })+
                $($reading::CODE if $reading_guard => {
                    body.must_be_meaningless().await?;
                    let asked: $reading = parse::<F, _>(metadata, context)?;
                    let (info, outgoing) = $reading_handler(call, asked).await?;
                    Ok(Answer::Object(F::write(&info)?, Box::new(outgoing)))
                })+
                $($plain::CODE => {
                    body.must_be_meaningless().await?;
                    let asked: $plain = parse::<F, _>(metadata, context)?;
                    let answer = $handler(call, asked).await?;
                    Ok(Answer::Metadata(F::write(&answer)?))
                })+
                $($later::CODE if F::IS_V2 => {
                    body.must_be_meaningless().await?;
                    let asked: $later = parse::<F, _>(metadata, context)?;
                    let answer = $later_handler(call, asked).await?;
                    Ok(Answer::Metadata(F::write(&answer)?))
                })+
                _ => Err(Error::unknown_operation().into()),
            }
        };
    }
    operations! {
        with body {
            PutObject => object::put_object,
            UploadPart => multipart::upload_part,
        } answering bodies {
            GetObject => object::get_object, true;
            GetRanges => object::get_ranges, F::IS_V2;
        } without {
            CreateBucket => bucket::create_bucket,
            DeleteBucket => bucket::delete_bucket,
            HeadBucket => bucket::head_bucket,
            ListBuckets => bucket::list_buckets,
            HeadObject => object::head_object,
            DeleteObject => object::delete_object,
            ListObjects => list::list_objects,
            CreateMultipartUpload => multipart::create_multipart_upload,
            CompleteMultipartUpload => multipart::complete_multipart_upload,
            AbortMultipartUpload => multipart::abort_multipart_upload,
            ListParts => multipart::list_parts,
            Ping => ping,
        } since 2 {
            CopyObject => object::copy_object,
            HeadObjects => object::head_objects,
            DeleteObjects => object::delete_objects,
            DeletePrefix => object::delete_prefix,
            GetObjectTagging => tagging::get_object_tagging,
            PutObjectTagging => tagging::put_object_tagging,
            DeleteObjectTagging => tagging::delete_object_tagging,
            ListMultipartUploads => multipart::list_multipart_uploads,
            GetServerInfo => server::get_server_info,
            OpenSession => server::open_session,
        }
    }
}

async fn ping(_: &Call<'_>, _: Ping) -> Result<Empty, Error> {
    Ok(Empty)
}
