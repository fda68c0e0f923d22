//! Jay's own links: `X-Jay-Token`, `X-Jay-Expires` and `X-Jay-Signature` in the query.
//!
//! Here the link is taken apart; what it must hold, the engine decides, which alone has the secret.

use http::request::Parts;
use jay_engine::{Caller, Engine, ErrorKind, Link};

use super::{
    error::{Error, Result},
    uri::{self, Query},
};

const PARAMETERS: [&str; 3] = [TOKEN, "X-Jay-Expires", "X-Jay-Signature"];
const TOKEN: &str = "X-Jay-Token";

/// Whether the query says that the request is a link.
pub(crate) fn is_link(query: &Query) -> bool {
    query.get(TOKEN).is_some_and(|token| !token.is_empty())
}

/// Who made the link. Whatever is wrong with it, the refusal is the same.
pub(crate) fn verify(engine: &Engine, parts: &Parts, query: &Query) -> Result<Caller> {
    if PARAMETERS.iter().any(|name| query.repeats(name)) {
        return Err(invalid());
    }
    let [token_id, expires, signature] = PARAMETERS.map(|name| query.get(name).unwrap_or_default());
    let signature: [u8; 32] = uri::decode_hex(signature).ok_or_else(invalid)?;
    let link = Link {
        token_id,
        method: parts.method.as_str(),
        path: &uri::decode_path(parts.uri.path())?,
        canonical_query: &query.without(&PARAMETERS).canonical_form(),
        expires,
    };
    Ok(engine.verify_link(link, &signature)?)
}

fn invalid() -> Error {
    Error::new(ErrorKind::AccessDenied, "Invalid presigned URL")
}
