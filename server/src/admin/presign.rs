//! `/_jay/presign`: links that carry the rights of an access key for a while.

use axum::Extension;
use http::{Method, Response, StatusCode};
use jay_engine::{BucketName, ErrorKind, LINK_SECONDS_MAX, ObjectKey};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Api, Body, Error, error::ErrorAnswer, input::Input, json};
use crate::s3::presign::{Presign, Style};

/// How long a link holds when nothing is said, in seconds.
const SECONDS_DEFAULT: u64 = 3600;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateLink {
    /// Whose rights it carries.
    #[serde(default)]
    #[schema(required, min_length = 1)]
    token_id: String,
    /// `GET`, `HEAD`, `PUT` or `DELETE`: the only method that it serves.
    #[serde(default)]
    #[schema(required, pattern = "^(GET|HEAD|PUT|DELETE)$")]
    method: String,
    #[serde(default)]
    #[schema(
        required,
        min_length = 3,
        max_length = 63,
        pattern = r"^[a-z0-9](\.?[a-z0-9-])*\.?[a-z0-9]$"
    )]
    bucket: String,
    /// Absent: the bucket itself.
    #[serde(default)]
    #[schema(max_length = 1024)]
    key: String,
    /// How long it holds; absent, 0 or less: 3600; at most 604800.
    #[serde(default)]
    #[schema(maximum = 604_800)]
    expires_seconds: i64,
    /// `jay` (the default) or `sigv4`: as AWS does.
    #[serde(default)]
    style: LinkStyle,
}

/// How a link is signed.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum LinkStyle {
    #[default]
    Jay,
    SigV4,
}

#[derive(Serialize, ToSchema)]
struct Link {
    url: String,
}

/// Makes a link. It holds no longer than its access key.
#[utoipa::path(post, path = "/_jay/presign", operation_id = "Presign", request_body = CreateLink,
    responses((status = 200, body = Link), (status = "default", body = ErrorAnswer)))]
pub(super) async fn create(
    Extension(api): Extension<Api>,
    Input(asked): Input<CreateLink>,
) -> Result<Response<Body>, Error> {
    if asked.token_id.is_empty() || asked.method.is_empty() || asked.bucket.is_empty() {
        return Err(Error::bad_request(
            "token_id, method, and bucket are required",
        ));
    }
    let bucket = BucketName::parse(&asked.bucket)?;
    let key = match asked.key.as_str() {
        "" => None,
        key => Some(ObjectKey::parse(key)?),
    };
    let presign = Presign {
        token_id: &asked.token_id,
        method: method(&asked.method)?,
        bucket: &bucket,
        key: key.as_ref(),
        seconds: seconds(asked.expires_seconds)?,
        style: match asked.style {
            LinkStyle::Jay => Style::Jay,
            LinkStyle::SigV4 => Style::SigV4 {
                region: &api.settings.region,
            },
        },
    };
    let url = presign.url(&api.engine, &api.settings.s3_url, jiff::Timestamp::now());
    let url = url.map_err(|error| match error.kind() {
        ErrorKind::InvalidAccessKeyId => Error::bad_request("token not found"),
        _ => error.into(),
    })?;
    Ok(json(StatusCode::OK, &Link { url }))
}

fn method(name: &str) -> Result<Method, Error> {
    let served = [Method::GET, Method::HEAD, Method::PUT, Method::DELETE];
    let mut served = served.into_iter();
    served
        .find(|method| method.as_str() == name)
        .ok_or_else(|| Error::bad_request("method must be GET, HEAD, PUT or DELETE"))
}

fn seconds(asked: i64) -> Result<u64, Error> {
    match u64::try_from(asked).unwrap_or_default() {
        0 => Ok(SECONDS_DEFAULT),
        seconds if seconds <= LINK_SECONDS_MAX => Ok(seconds),
        _ => Err(Error::bad_request(format!(
            "expiration exceeds maximum of {LINK_SECONDS_MAX} seconds"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_have_a_default_and_a_maximum() {
        for (asked, expected) in [
            (i64::MIN, 3600),
            (-1, 3600),
            (0, 3600),
            (1, 1),
            (604_800, 604_800),
        ] {
            assert_eq!(seconds(asked).unwrap(), expected);
        }
        for asked in [604_801, i64::MAX] {
            let error = seconds(asked).unwrap_err();
            assert_eq!(error.status(), StatusCode::BAD_REQUEST);
        }
    }

    #[test]
    fn links_are_for_four_methods() {
        for name in ["GET", "HEAD", "PUT", "DELETE"] {
            assert_eq!(method(name).unwrap().as_str(), name);
        }
        for name in ["get", "POST", "OPTIONS", "G\u{e9}T"] {
            assert!(method(name).is_err(), "{name}");
        }
    }
}
