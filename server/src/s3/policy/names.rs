//! The names that AWS's form and Jay's have for the same: actions, keys below a prefix, callers.

use jay_engine::{Action, BucketName};

/// What AWS's names of resources begin with.
const S3_ARN: &str = "arn:aws:s3:::";
/// What AWS's names of callers begin with.
const IAM_ARN: &str = "arn:aws:iam::";

/// What PutObject means: uploads in parts are part of it.
pub(super) const PUT: [Action; 4] = [
    Action::ObjectPut,
    Action::MultipartCreate,
    Action::MultipartUploadPart,
    Action::MultipartComplete,
];
/// The actions that are about objects.
pub(super) const OBJECT: [Action; 7] = [
    Action::ObjectGet,
    Action::ObjectPut,
    Action::ObjectDelete,
    Action::MultipartCreate,
    Action::MultipartUploadPart,
    Action::MultipartComplete,
    Action::MultipartAbort,
];
/// AWS's names of actions, and what they are here.
pub(super) const S3: [(&str, &[Action]); 5] = [
    ("s3:GetObject", &[Action::ObjectGet]),
    ("s3:PutObject", &PUT),
    ("s3:DeleteObject", &[Action::ObjectDelete]),
    ("s3:AbortMultipartUpload", &[Action::MultipartAbort]),
    ("s3:ListBucket", &[Action::ObjectList]),
];
/// Names that are part of something larger here, so that they are taken only along with that.
pub(super) const S3_PARTS: [(&str, Action); 2] = [
    ("s3:ListMultipartUploadParts", Action::MultipartUploadPart),
    ("s3:ListBucketMultipartUploads", Action::MultipartCreate),
];

/// A text with `*` and `?` in AWS's form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// What it begins with, literally.
    pub(super) prefix: String,
    /// Whether anything may follow.
    pub(super) is_open: bool,
}

impl Pattern {
    /// Reads a pattern that has at most one `*`, in the end. `${*}`, `${?}` and `${$}` are these characters
    /// themselves in a policy that `has_variables`.
    ///
    /// Source: IAM user guide, "Policy variables".
    pub(super) fn parse(text: &str, has_variables: bool) -> Result<Self, String> {
        let (text_before, is_open) = match text.strip_suffix('*') {
            Some(before) => (before, true),
            None => (text, false),
        };
        let prefix = unescaped(text_before, has_variables)?;
        match prefix.has_wildcards {
            true => Err(format!(
                "{text:?} has a wildcard elsewhere than a `*` in the end"
            )),
            false => Ok(Self {
                prefix: prefix.text,
                is_open,
            }),
        }
    }

    /// Reads a text without wildcards, in which `*` and `?` are themselves.
    pub(super) fn literal(text: &str, has_variables: bool) -> Result<Self, String> {
        Ok(Self {
            prefix: unescaped(text, has_variables)?.text,
            is_open: false,
        })
    }

    /// `text` as a pattern that means it literally.
    pub(super) fn escape(text: &str) -> String {
        let mut escaped = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '*' | '?' | '$' => escaped.extend(["${", c.encode_utf8(&mut [0; 4]), "}"]),
                c => escaped.push(c),
            }
        }
        escaped
    }
}

struct Unescaped {
    text: String,
    /// It has a `*` or `?` that was not escaped.
    has_wildcards: bool,
}

fn unescaped(text: &str, has_variables: bool) -> Result<Unescaped, String> {
    let (mut rest, mut done) = (text, String::new());
    let mut has_wildcards = false;
    while let Some(c) = rest.chars().next() {
        let mut length = c.len_utf8();
        if rest.starts_with("${") {
            let escaped = ["${*}", "${?}", "${$}"]
                .into_iter()
                .find(|escaped| has_variables && rest.starts_with(escaped))
                .ok_or_else(|| format!("{text:?} has a variable, which is not supported"))?;
            length = escaped.len();
            done.push_str(&escaped[2..3]);
        } else {
            has_wildcards |= matches!(c, '*' | '?');
            done.push(c);
        }
        rest = &rest[length..];
    }
    Ok(Unescaped {
        text: done,
        has_wildcards,
    })
}

/// AWS's name of a bucket.
pub(super) fn bucket_arn(bucket: &BucketName) -> String {
    format!("{S3_ARN}{bucket}")
}

/// The prefix of keys that a resource names; `None`: the bucket itself.
pub(super) fn resource(
    text: &str,
    bucket: &BucketName,
    has_variables: bool,
) -> Result<Option<String>, String> {
    let place = text.strip_prefix(S3_ARN).unwrap_or_default();
    let (name, keys) = match place.split_once('/') {
        Some((name, keys)) => (name, Some(keys)),
        None => (place, None),
    };
    if name != bucket.as_str() {
        let arn = bucket_arn(bucket);
        return Err(format!(
            "the resource {text:?} is not in this bucket: name {arn:?} or what is in it, such as {:?}",
            arn.clone() + "/*"
        ));
    }
    let Some(keys) = keys else {
        return Ok(None);
    };
    match Pattern::parse(keys, has_variables).map_err(|why| format!("the resource {why}"))? {
        Pattern {
            prefix,
            is_open: true,
        } => Ok(Some(prefix)),
        _ => Err(format!(
            "the resource {text:?} names one key, and statements reach here to all that begins with it: if that \
             is meant, end it with `*`"
        )),
    }
}

/// Whom a principal names: a token id, an account id or `*`.
pub(super) fn subject(text: &str, has_variables: bool) -> Result<String, String> {
    let unknown = || {
        format!(
            "the principal {text:?} is nobody here: name a token id, an account id (32 hexadecimal digits), \
             \"{IAM_ARN}<account id>:root\", \"{IAM_ARN}<account>:user/<token id>\" or \"*\""
        )
    };
    if text == "*" {
        return Ok(text.to_owned());
    }
    let (id, is_account) = match text.strip_prefix(IAM_ARN).map(|rest| rest.split_once(':')) {
        Some(Some((account, "root"))) => (account, true),
        Some(Some((_, user))) => (user.strip_prefix("user/").ok_or_else(unknown)?, false),
        Some(None) => return Err(unknown()),
        None if text.starts_with("arn:") => return Err(unknown()),
        None => (text, false),
    };
    let id =
        match Pattern::parse(id, has_variables).map_err(|why| format!("the principal {why}"))? {
            Pattern {
                prefix,
                is_open: false,
            } if !prefix.is_empty() => prefix,
            _ => return Err(unknown()),
        };
    let is_hex = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    match is_account {
        false => Ok(id),
        true if is_hex => Ok(id.to_ascii_lowercase()),
        true => Err(unknown()),
    }
}

/// A principal that [`subject`] reads as `subject`.
pub(super) fn principal(subject: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    match subject == "*" || subject.bytes().all(is_plain) {
        true => subject.to_owned(),
        false => format!("{IAM_ARN}jay:user/{}", Pattern::escape(subject)),
    }
}
