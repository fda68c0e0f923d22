//! DeleteObjects: many keys in one request.
//!
//! Source: S3 API, DeleteObjects.

use std::error;

use bytes::Bytes;
use http::Response;
use jay_engine::{BucketName, ErrorKind, ObjectKey};

use super::{
    Call,
    body::Body,
    error::{Error, Result},
    payload::Payload,
    xml::{self, Step, Writer, malformed},
    xml_response,
};

/// Most keys of one request.
const KEYS_MAX: usize = 1000;

/// Removes up to [`KEYS_MAX`] objects; each has its own result.
pub(crate) async fn delete_objects<B>(
    call: &Call<'_>,
    bucket: BucketName,
    payload: Payload<'_, B>,
) -> Result<Response<Body>>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn error::Error + Send + Sync>>,
{
    let document = payload.xml(call).await?;
    let Deletion { entries, is_quiet } = parse(&document)?;
    let valid: Vec<_> = entries
        .iter()
        .filter_map(|entry| entry.key.clone().ok())
        .collect();
    let results = call
        .engine
        .delete_objects(call.caller, &bucket, &valid)
        .await?;
    let mut results = results
        .into_iter()
        .map(|result| result.map_err(Error::from));
    let results: Vec<_> = entries
        .into_iter()
        .map(|entry| {
            let result = match entry.key {
                Ok(_) => results.next().unwrap_or_else(|| Err(unanswered())),
                Err((kind, message)) => Err(Error::new(kind, message)),
            };
            (entry.text, result)
        })
        .collect();
    Ok(xml_response(render(&results, is_quiet)))
}

/// What the body asks for.
#[derive(Debug, Default)]
struct Deletion {
    entries: Vec<Entry>,
    is_quiet: bool,
}

/// One object to delete; a key that cannot exist is refused alone and not with the whole request.
#[derive(Debug)]
struct Entry {
    text: String,
    key: std::result::Result<ObjectKey, (ErrorKind, String)>,
}

fn parse(document: &[u8]) -> Result<Deletion> {
    let mut deletion = Deletion::default();
    let mut quiet: Option<bool> = None;
    let mut key: Option<String> = None;
    let mut version: Option<String> = None;
    xml::read(document, |step| {
        match step {
            Step::Open("Delete" | "Delete/Quiet" | "Delete/Object") => {}
            Step::Open("Delete/Object/Key" | "Delete/Object/VersionId") => {}
            Step::Open(
                "Delete/Object/ETag" | "Delete/Object/LastModifiedTime" | "Delete/Object/Size",
            ) => return Err(Error::not_implemented("A condition on a key to delete")),
            Step::Open(_) => return Err(malformed("it has an unknown element")),
            Step::Close("Delete/Quiet", text) => {
                let is_quiet = match text.trim() {
                    "true" | "TRUE" | "True" | "1" => true,
                    "false" | "FALSE" | "False" | "0" => false,
                    _ => return Err(malformed("Quiet is neither true nor false")),
                };
                if quiet.replace(is_quiet).is_some() {
                    return Err(malformed("it has several Quiet elements"));
                }
            }
            Step::Close("Delete/Object/Key", text) => {
                if key.replace(text).is_some() {
                    return Err(malformed("an object has several keys"));
                }
            }
            Step::Close("Delete/Object/VersionId", text) => {
                if version.replace(text).is_some() {
                    return Err(malformed("an object has several versions"));
                }
            }
            Step::Close("Delete/Object", text) => {
                if !text.trim().is_empty() {
                    return Err(malformed("an object has text in place of elements"));
                }
                let key = key
                    .take()
                    .ok_or_else(|| malformed("an object has no key"))?;
                if deletion.entries.len() == KEYS_MAX {
                    return Err(malformed(&format!("it has more than {KEYS_MAX} keys")));
                }
                deletion.entries.push(entry(key, version.take()));
            }
            Step::Close(..) => {}
        }
        Ok(())
    })?;
    if deletion.entries.is_empty() {
        return Err(malformed("it has no keys"));
    }
    deletion.is_quiet = quiet.unwrap_or_default();
    Ok(deletion)
}

fn entry(text: String, version: Option<String>) -> Entry {
    let is_current = version.is_none_or(|version| version.is_empty() || version == "null");
    let key = if is_current {
        ObjectKey::parse(&text).map_err(|error| (error.kind(), error.context().to_owned()))
    } else {
        let error = Error::not_implemented("Deleting a version");
        Err((error.kind(), error.message().to_owned()))
    };
    Entry { text, key }
}

fn render(results: &[(String, Result<()>)], is_quiet: bool) -> String {
    let mut document = Writer::document();
    document.open_root("DeleteResult");
    for (key, result) in results {
        match result {
            Ok(()) if is_quiet => {}
            Ok(()) => {
                document.open("Deleted");
                document.text("Key", key);
                document.close("Deleted");
            }
            Err(error) => {
                document.open("Error");
                document.text("Key", key);
                document.text("Code", error.code());
                document.text("Message", error.message());
                document.close("Error");
            }
        }
    }
    document.close("DeleteResult");
    document.finish()
}

fn unanswered() -> Error {
    Error::new(
        ErrorKind::InternalError,
        "The engine did not answer for this key.",
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(document: &str) -> Result<(Vec<String>, bool)> {
        let deletion = parse(document.as_bytes())?;
        let keys = deletion
            .entries
            .into_iter()
            .map(|entry| entry.text)
            .collect();
        Ok((keys, deletion.is_quiet))
    }

    #[test]
    fn keys_are_read_literally() {
        let document = "<?xml version='1.0'?><Delete xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>\
                        <Object><Key> a&amp;b&#xD;</Key></Object>\n<Quiet>true</Quiet>\
                        <Object><Key>c</Key><VersionId>null</VersionId></Object></Delete>";
        let expected = vec![" a&b\r".to_owned(), "c".to_owned()];
        assert_eq!(keys(document).unwrap(), (expected, true));
    }

    #[test]
    fn keys_that_cannot_exist_are_refused_alone() {
        let long = "k".repeat(1025);
        let document = format!(
            "<Delete><Object><Key>a</Key></Object><Object><Key></Key></Object>\
             <Object><Key>{long}</Key></Object>\
             <Object><Key>b</Key><VersionId>3</VersionId></Object></Delete>"
        );
        let kinds = parse(document.as_bytes()).unwrap().entries.into_iter();
        let kinds: Vec<_> = kinds
            .map(|entry| entry.key.err().map(|error| error.0))
            .collect();
        let expected = [
            None,
            Some(ErrorKind::InvalidArgument),
            Some(ErrorKind::KeyTooLongError),
            Some(ErrorKind::NotImplemented),
        ];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn anything_off_is_malformed() {
        let many = "<Object><Key>k</Key></Object>".repeat(KEYS_MAX);
        assert_eq!(
            keys(&format!("<Delete>{many}</Delete>")).unwrap().0.len(),
            KEYS_MAX
        );
        for bad in [
            "",
            "<Delete/>",
            "<Delete><Object/></Delete>",
            "<Delete><Object><Key>a</Key><Key>b</Key></Object></Delete>",
            "<Delete><Key>a</Key></Delete>",
            "<Delete><Object><Key>a</Key></Object><Quiet>maybe</Quiet></Delete>",
            "<Delete><Object><Key>a</Key></Object>",
            "<Other><Object><Key>a</Key></Object></Other>",
            &format!("<Delete>{many}<Object><Key>k</Key></Object></Delete>"),
        ] {
            assert_eq!(
                keys(bad).unwrap_err().kind(),
                ErrorKind::MalformedXML,
                "{bad}"
            );
        }
        let condition = "<Delete><Object><Key>a</Key><ETag>e</ETag></Object></Delete>";
        assert_eq!(
            keys(condition).unwrap_err().kind(),
            ErrorKind::NotImplemented
        );
    }

    #[test]
    fn each_key_has_its_result() {
        let denied = Error::new(ErrorKind::AccessDenied, "Access Denied.");
        let results = [("a<".to_owned(), Ok(())), ("b".to_owned(), Err(denied))];
        let error = "<Error><Key>b</Key><Code>AccessDenied</Code><Message>Access Denied.</Message>\
                     </Error></DeleteResult>";
        let loud = render(&results, false);
        assert!(
            loud.ends_with(&format!("<Deleted><Key>a&lt;</Key></Deleted>{error}")),
            "{loud}"
        );
        let quiet = render(&results, true);
        assert!(
            quiet.ends_with(error) && !quiet.contains("Deleted>"),
            "{quiet}"
        );
    }

    proptest! {
        #[test]
        fn hostile_documents_never_panic(text in "(<|>|/|Delete|Object|Key|Quiet|a|&#1;| ){0,40}") {
            let _ = keys(&text);
        }
    }
}
