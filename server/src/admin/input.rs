//! What handlers take from a request. Whatever is wrong with it is answered in JSON, unlike by axum's own extractors.

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use bytes::Bytes;
use http::request::Parts;
use http_body_util::{BodyExt as _, Limited};
use jay_engine::BucketName;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use super::Error;

/// Longest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 64 << 10;

/// The bytes of a body.
pub(super) struct Raw(pub(super) Bytes);

/// A body of JSON, whatever its Content-Type says.
pub(super) struct Input<T>(pub(super) T);

/// A body of JSON, or none.
pub(super) struct Optional<T>(pub(super) T);

/// The one variable of the path.
pub(super) struct Name(pub(super) String);

/// The bucket of the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct InBucket {
    /// Name of the bucket
    #[param(value_type = String, min_length = 3, max_length = 63, pattern = r"^[a-z0-9](\.?[a-z0-9-])*\.?[a-z0-9]$")]
    pub(super) name: BucketName,
}

/// The parameters of the query.
pub(super) struct Parameters<T>(pub(super) T);

/// Reads a JSON object. An array would do for serde: its entries for the fields in the order of their declaration.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(invalid_body("it is not a JSON object"));
    }
    serde_json::from_slice(body).map_err(invalid_body)
}

fn invalid_body(error: impl std::fmt::Display) -> Error {
    Error::bad_request(format!("invalid request body: {error}"))
}

impl<S: Sync> FromRequest<S> for Raw {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self, Error> {
        let body = Limited::new(request.into_body(), BODY_BYTES_MAX);
        let body = body.collect().await.map_err(invalid_body)?;
        Ok(Self(body.to_bytes()))
    }
}

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Input<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        let Raw(body) = Raw::from_request(request, state).await?;
        parse(&body).map(Self)
    }
}

impl<S: Sync, T: DeserializeOwned + Default> FromRequest<S> for Optional<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        let Raw(body) = Raw::from_request(request, state).await?;
        match &*body {
            [] => Ok(Self(T::default())),
            body => parse(body).map(Self),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let path = Path::from_request_parts(parts, state).await;
        let Path(name) = path.map_err(|error| Error::bad_request(error.body_text()))?;
        Ok(Self(name))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for InBucket {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let Name(name) = Name::from_request_parts(parts, state).await?;
        let name = BucketName::parse(&name)?;
        Ok(Self { name })
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Parameters<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let query = Query::from_request_parts(parts, state).await;
        let Query(parameters) = query.map_err(|error| Error::bad_request(error.body_text()))?;
        Ok(Self(parameters))
    }
}
