//! The S3 front: decodes a request, calls one method of the engine, encodes the answer.
//!
//! The listener calls [`S3::handle`]. Who may do what, and what a bucket or object is, is decided in the
//! engine; here is only what S3 says about HTTP. Deliberately absent: anything about disks.
//!
//! One request goes through `router` (its operation), `authenticate` (who sent it), `payload` (its body) and the
//! file of its noun: `bucket`, `object`, `multipart`, `copy`, `tagging`, `list`, `delete`, `acl`, `policy` or `stats`.

mod acl;
mod authenticate;
mod body;
mod bucket;
mod checksum;
mod chunked;
mod conditions;
mod copy;
mod cors;
mod delete;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[allow(dead_code)] // in `jay` itself, which has the feature when its library has
pub(crate) mod fuzzing;
mod headers;
mod link;
mod list;
mod multipart;
mod object;
mod page;
mod payload;
mod policy;
pub(crate) mod presign;
mod range;
mod router;
mod sigv2;
mod sigv4;
mod stats;
mod tagging;
mod uri;
mod xml;

use std::sync::Arc;

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts,
};
use jay_engine::{BucketName, Caller, Engine, ErrorKind, ObjectKey};

pub use self::body::Body;
pub(crate) use self::error::code_and_status;
use self::{
    authenticate::{Mechanism, Proof},
    error::{Error, Result},
    payload::{Incoming, Payload, RequestBody},
    router::{Operation, Target},
    sigv4::{Rules, presigned},
    uri::Query,
};
use crate::{
    limits::{self, RateLimiter},
    listener::RequestContext,
};

/// The region that is reported while none is configured.
const REGION_DEFAULT: &str = "us-east-1";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");

/// What the configuration says about S3.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `JAY_REGION`. While it is `None`, us-east-1 is reported and any region accepted in signatures.
    pub region: Option<String>,
    /// `JAY_VHOST_DOMAIN`: buckets are also served as `<bucket>.<domain>` for each of these.
    pub vhost_domains: Vec<String>,
    /// `JAY_S3_MIN_PART_SIZE`: least size of every part but the last when an upload is completed, in bytes.
    pub part_bytes_min: u64,
    /// Whether a refused signature shows the canonical request and the string to sign.
    pub debug_signatures: bool,
    /// `JAY_SIGV4_TRUST_KEY_ID`: whoever names an access key in a signature of version 4 has it, whatever the signature.
    pub trusts_key_id: bool,
    /// `JAY_COMPAT_ENV`: `/minio/health/live` and `ready` are answered, which test set-ups of another store ask.
    pub is_compatible: bool,
    /// `JAY_REQUEST_BYTES_MAX`: most bytes of a request's body as it is sent, its framing included.
    pub request_bytes_max: Option<u64>,
}

impl Settings {
    /// The region that answers report.
    fn region(&self) -> &str {
        self.region.as_deref().unwrap_or(REGION_DEFAULT)
    }

    fn signature_rules(&self) -> Rules<'_> {
        Rules {
            region: self.region.as_deref(),
            debug_signatures: self.debug_signatures,
        }
    }
}

/// The S3 front.
#[derive(Clone)]
pub struct S3 {
    engine: Engine,
    settings: Settings,
    limiter: Arc<RateLimiter>,
}

impl S3 {
    /// A front of this engine, whose callers share `limiter` with those of other fronts.
    pub fn new(engine: Engine, settings: Settings, limiter: Arc<RateLimiter>) -> Self {
        Self {
            engine,
            settings,
            limiter,
        }
    }

    /// Answers one request.
    pub async fn handle<B: RequestBody>(
        &self,
        request: Request<B>,
        context: &mut RequestContext,
    ) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let incoming = Incoming::new(&parts.headers, body);
        let mut incoming = incoming.limited(self.settings.request_bytes_max);
        let result = self.serve(&parts, &mut incoming, context).await;
        let is_reusable = incoming.settle().await;
        context.bytes_in = incoming.received_bytes();
        let mut response = result.unwrap_or_else(|error| {
            context.error_code = Some(error.code());
            let is_head = parts.method == Method::HEAD;
            error.into_response(parts.uri.path(), &context.request_id, is_head)
        });
        let headers = response.headers_mut();
        if !is_reusable {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Ok(request_id) = HeaderValue::from_str(&context.request_id) {
            headers.insert(REQUEST_ID, request_id);
        }
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        cors::allow(headers);
        response
    }

    async fn serve<B: RequestBody>(
        &self,
        parts: &Parts,
        incoming: &mut Incoming<B>,
        context: &mut RequestContext,
    ) -> Result<Response<Body>> {
        if parts.method == Method::OPTIONS {
            context.operation = "Preflight";
            self.admit(None, context)?;
            return Ok(cors::preflight(&parts.headers));
        }
        for name in [header::HOST, header::AUTHORIZATION] {
            if parts.headers.get_all(&name).iter().count() > 1 {
                let message = format!("A request has one {name} header.");
                return Err(Error::new(ErrorKind::InvalidRequest, message));
            }
        }
        if self.settings.is_compatible && is_foreign_probe(parts) {
            context.operation = "HealthLive";
            return Ok(empty_response(StatusCode::OK));
        }
        let target = Target::of(parts, &self.settings.vhost_domains)?;
        context.bucket.clone_from(&target.bucket);
        context.key.clone_from(&target.key);
        let query = Query::parse(parts.uri.query())?;
        let mechanism = Mechanism::of(&parts.headers, &query)?;
        // What was signed, and what it asks for.
        let (signed, merged) = (parts, self::merged(mechanism, parts, &query)?);
        let parts = merged.as_ref().unwrap_or(parts);
        let operation = router::route(&parts.method, &target, &query, &parts.headers);
        if let Ok(operation) = operation {
            context.operation = operation.name();
            if operation == Operation::GetBucketStats {
                context.bucket = context.key.take();
            }
            if operation.is_open() {
                self.admit(None, context)?;
                return Ok(page::welcome(parts, self.settings.region()));
            }
        }
        // A form brings its signature in its body: to ask for one would send its owner astray.
        let operation = match operation {
            Err(error) if mechanism == Mechanism::Absent && router::is_form(parts) => {
                return Err(error);
            }
            operation => operation,
        };
        let (engine, settings) = (&self.engine, &self.settings);
        let proof = Proof::of(mechanism, engine, settings, signed, &query).await;
        self.admit(proof.as_ref().ok(), context)?;
        let is_wrong = proof.is_err() && mechanism != Mechanism::Absent;
        // Everybody may read the objects of a public bucket, whatever is wrong with the proof; what a policy opens
        // beyond that, who brings none.
        let may_be_open = operation
            .as_ref()
            .is_ok_and(|operation| operation.is_public_read() || mechanism == Mechanism::Absent);
        let (proof, refusal) = match proof {
            Err(refusal) if may_be_open && !authenticate::overrides(&query) => {
                (Proof::absent(parts)?, Some(refusal))
            }
            proof => {
                context.auth_failed = is_wrong;
                (proof?, None)
            }
        };
        incoming.must_fit()?;
        let proof = proof.at_address(context.client);
        if !proof.caller.is_anonymous() {
            context.token_id = Some(proof.caller.token_id().to_owned());
        }
        let call = Call {
            engine,
            settings,
            caller: &proof.caller,
            parts,
            query: &query,
        };
        context.show();
        let payload = Payload::new(&parts.headers, incoming, proof.hash, proof.chain)?;
        let result = Self::call(&call, operation?, &target, payload).await;
        match (result, refusal) {
            (Err(error), Some(refusal)) if is_not_public(&error) => {
                context.auth_failed = is_wrong;
                Err(refusal)
            }
            (result, _) => result,
        }
    }

    /// Lets a request in, unless its caller sends too many: a token when it is proven, else an address.
    fn admit(&self, proof: Option<&Proof>, context: &RequestContext) -> Result<()> {
        let caller = match proof {
            Some(proof) if !proof.caller.is_anonymous() => {
                limits::Caller::Token(proof.caller.token_id().to_owned())
            }
            _ => limits::Caller::address(context.client),
        };
        self.limiter.check(caller).map_err(|refused| {
            let retry_after = HeaderValue::from(refused.retry_after_seconds);
            Error::new(ErrorKind::SlowDown, "Please reduce your request rate.")
                .with_header(header::RETRY_AFTER, retry_after)
        })
    }

    /// Runs an operation.
    async fn call<B: RequestBody>(
        call: &Call<'_>,
        operation: Operation,
        target: &Target,
        payload: Payload<'_, B>,
    ) -> Result<Response<Body>> {
        let bucket = || BucketName::parse(target.bucket.as_deref().unwrap_or_default());
        let key = || ObjectKey::parse(target.key.as_deref().unwrap_or_default());
        match operation {
            Operation::Welcome => Ok(Response::new(Body::empty())),
            Operation::ListBuckets => bucket::list_buckets(call).await,
            Operation::CreateBucket => bucket::create_bucket(call, bucket()?, payload).await,
            Operation::HeadBucket => bucket::head_bucket(call, bucket()?).await,
            Operation::DeleteBucket => bucket::delete_bucket(call, bucket()?).await,
            Operation::GetBucketStats => stats::get_bucket_stats(call, target).await,
            Operation::GetBucketLocation => bucket::get_bucket_location(call, bucket()?).await,
            Operation::GetBucketVersioning => bucket::get_bucket_versioning(call, bucket()?).await,
            Operation::ListObjects => list::list_objects(call, bucket()?).await,
            Operation::ListObjectsV2 => list::list_objects_v2(call, bucket()?).await,
            Operation::DeleteObjects => delete::delete_objects(call, bucket()?, payload).await,
            Operation::PutObject => object::put_object(call, bucket()?, key()?, payload).await,
            Operation::GetObject => object::get_object(call, bucket()?, key()?).await,
            Operation::HeadObject => object::head_object(call, bucket()?, key()?).await,
            Operation::DeleteObject => object::delete_object(call, bucket()?, key()?).await,
            Operation::CopyObject => {
                payload.must_be_empty()?;
                copy::copy_object(call, bucket()?, key()?).await
            }
            Operation::GetObjectTagging => {
                tagging::get_object_tagging(call, bucket()?, key()?).await
            }
            Operation::PutObjectTagging => {
                tagging::put_object_tagging(call, bucket()?, key()?, payload).await
            }
            Operation::DeleteObjectTagging => {
                tagging::delete_object_tagging(call, bucket()?, key()?).await
            }
            Operation::CreateMultipartUpload => {
                multipart::create_multipart_upload(call, bucket()?, key()?).await
            }
            Operation::UploadPart => multipart::upload_part(call, bucket()?, key()?, payload).await,
            Operation::UploadPartCopy => {
                payload.must_be_empty()?;
                multipart::upload_part_copy(call, bucket()?, key()?).await
            }
            Operation::CompleteMultipartUpload => {
                multipart::complete_multipart_upload(call, bucket()?, key()?, payload).await
            }
            Operation::AbortMultipartUpload => {
                multipart::abort_multipart_upload(call, bucket()?, key()?).await
            }
            Operation::ListParts => multipart::list_parts(call, bucket()?, key()?).await,
            Operation::ListMultipartUploads => {
                multipart::list_multipart_uploads(call, bucket()?).await
            }
            Operation::GetBucketPolicy => policy::get_bucket_policy(call, bucket()?).await,
            Operation::PutBucketPolicy => policy::put_bucket_policy(call, bucket()?, payload).await,
            Operation::DeleteBucketPolicy => policy::delete_bucket_policy(call, bucket()?).await,
            Operation::GetBucketPolicyStatus => {
                policy::get_bucket_policy_status(call, bucket()?).await
            }
            Operation::GetBucketAcl => acl::get_bucket_acl(call, bucket()?).await,
            Operation::PutBucketAcl => acl::put_bucket_acl(call, bucket()?, payload).await,
            Operation::GetObjectAcl => acl::get_object_acl(call, bucket()?, key()?).await,
            Operation::PutObjectAcl => acl::put_object_acl(call, bucket()?, key()?, payload).await,
        }
    }
}

/// The request with the headers that a presigned URL carries in its query.
fn merged(mechanism: Mechanism, parts: &Parts, query: &Query) -> Result<Option<Parts>> {
    let headers = match mechanism {
        Mechanism::Presigned => presigned::with_hoisted(&parts.headers, query)?,
        Mechanism::PresignedV2 => sigv2::with_hoisted(&parts.headers, query)?,
        _ => return Ok(None),
    };
    let mut merged = parts.clone();
    merged.headers = headers;
    Ok(Some(merged))
}

/// Whether a caller without credentials was refused because of what it asked for, or before that was decided because
/// of the document it sent: then what is wrong with its credentials is the better answer.
fn is_not_public(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::AccessDenied
            | ErrorKind::InvalidBucketName
            | ErrorKind::MalformedPolicy
            | ErrorKind::MalformedXML
    )
}

/// Whether another store's set-up asks whether this one is there.
fn is_foreign_probe(parts: &Parts) -> bool {
    let is_asked = [Method::GET, Method::HEAD].contains(&parts.method);
    let paths = [
        "/minio/health/live",
        "/minio/health/ready",
        "/minio/health/cluster",
    ];
    is_asked && paths.contains(&parts.uri.path())
}

/// What every operation is given.
struct Call<'a> {
    engine: &'a Engine,
    settings: &'a Settings,
    caller: &'a Caller,
    parts: &'a Parts,
    query: &'a Query,
}

/// An answer that holds an XML document.
fn xml_response(document: String) -> Response<Body> {
    let mut response = Response::new(Body::full(Bytes::from(document)));
    let xml = HeaderValue::from_static("application/xml");
    response.headers_mut().insert(header::CONTENT_TYPE, xml);
    response
}

/// An answer without a body.
fn empty_response(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// The refusal of a parameter or header whose value makes no sense.
fn invalid_argument(name: &str, value: &str, why: &str) -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        format!("Invalid {name}: {why}."),
    )
    .with_detail("ArgumentName", name)
    .with_detail("ArgumentValue", value)
}
