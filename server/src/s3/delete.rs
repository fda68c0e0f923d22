//! DeleteObjects: many keys in one request.
//!
//! Source: S3 API, DeleteObjects.

use std::mem;

use http::Response;
use jay_engine::{BucketName, DeleteConditions, ErrorKind, ObjectKey};

use super::{
    Call,
    body::Body,
    conditions,
    error::{Error, Result},
    payload::{Payload, RequestBody},
    xml::{self, Step, Writer, malformed},
    xml_response,
};

/// Most keys of one request.
const KEYS_MAX: usize = 1000;

/// Removes up to [`KEYS_MAX`] objects; each has its own result.
pub(crate) async fn delete_objects<B: RequestBody>(
    call: &Call<'_>,
    bucket: BucketName,
    payload: Payload<'_, B>,
) -> Result<Response<Body>> {
    // Before its body is looked at: who may delete nothing learns nothing else.
    call.engine
        .delete_objects(call.caller, &bucket, &[])
        .await?;
    let document = payload.xml(call).await?;
    let Deletion { entries, is_quiet } = parse(&document)?;
    let unconditional: Vec<_> = entries
        .iter()
        .filter(|entry| entry.conditions.is_none())
        .filter_map(|entry| entry.key.clone().ok())
        .collect();
    let (engine, caller) = (call.engine, call.caller);
    // Those go in shared commits; what has a condition goes alone, since it may fail alone.
    let shared = engine.delete_objects(caller, &bucket, &unconditional);
    let mut shared = shared.await?.into_iter();
    let mut results = Vec::with_capacity(entries.len());
    for entry in entries {
        let result = match (entry.key, entry.conditions) {
            (Err((kind, message)), _) => Err(Error::new(kind, message)),
            (Ok(_), None) => match shared.next() {
                Some(result) => result.map_err(Error::from),
                None => Err(unanswered()),
            },
            (Ok(key), Some(conditions)) => {
                let deleted = engine.delete_object_if(caller, &bucket, &key, &conditions);
                deleted.await.map_err(Error::from)
            }
        };
        results.push((entry.text, result));
    }
    Ok(xml_response(render(&results, is_quiet)))
}

/// What the body asks for.
#[derive(Debug, Default)]
pub(super) struct Deletion {
    entries: Vec<Entry>,
    is_quiet: bool,
}

/// One object to delete; a key that cannot exist is refused alone and not with the whole request.
#[derive(Debug)]
struct Entry {
    text: String,
    key: std::result::Result<ObjectKey, (ErrorKind, String)>,
    conditions: Option<DeleteConditions>,
}

pub(super) fn parse(document: &[u8]) -> Result<Deletion> {
    let mut deletion = Deletion::default();
    let mut quiet: Option<bool> = None;
    let mut key: Option<String> = None;
    let mut version: Option<String> = None;
    let mut conditions = DeleteConditions::default();
    xml::read(document, |step| {
        match step {
            Step::Open("Delete" | "Delete/Quiet" | "Delete/Object") => {}
            Step::Open("Delete/Object/Key" | "Delete/Object/VersionId") => {}
            Step::Open(
                "Delete/Object/ETag" | "Delete/Object/LastModifiedTime" | "Delete/Object/Size",
            ) => {}
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
            Step::Close("Delete/Object/ETag", text) => {
                if let Some(etag) = conditions::etag(&text)
                    && conditions.if_match.replace(etag).is_some()
                {
                    return Err(malformed("an object has several ETags"));
                }
            }
            Step::Close("Delete/Object/Size", text) => {
                let size = conditions::size("Size", &text)?;
                if conditions.if_match_size.replace(size).is_some() {
                    return Err(malformed("an object has several sizes"));
                }
            }
            Step::Close("Delete/Object/LastModifiedTime", text) => {
                let modified = conditions::modified("LastModifiedTime", &text)?;
                if conditions.if_match_modified.replace(modified).is_some() {
                    return Err(malformed("an object has several dates"));
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
                let conditions = mem::take(&mut conditions);
                deletion
                    .entries
                    .push(entry(key, version.take(), conditions));
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

fn entry(text: String, version: Option<String>, conditions: DeleteConditions) -> Entry {
    let is_current = version.is_none_or(|version| version.is_empty() || version == "null");
    let key = if is_current {
        ObjectKey::parse(&text).map_err(|error| (error.kind(), error.context().to_owned()))
    } else {
        let error = Error::not_implemented("Deleting a version");
        Err((error.kind(), error.message().to_owned()))
    };
    let conditions = Some(conditions).filter(|some| *some != DeleteConditions::default());
    Entry {
        text,
        key,
        conditions,
    }
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
    use jay_engine::{ETag, Timestamp};
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
            "<Delete><Object><Key>a</Key><ETag>e</ETag><ETag>f</ETag></Object></Delete>",
            "<Delete><Object><Key>a</Key><Size>1</Size><Size>2</Size></Object></Delete>",
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
    }

    #[test]
    fn each_key_has_its_conditions() {
        let document = "<Delete><Object><Key>a</Key><ETag>&quot;e&quot;</ETag><Size>5</Size>\
                        <LastModifiedTime>Fri, 24 May 2013 00:00:01 GMT</LastModifiedTime></Object>\
                        <Object><Key>b</Key></Object><Object><ETag>*</ETag><Key>c</Key></Object></Delete>";
        let entries = parse(document.as_bytes()).unwrap().entries.into_iter();
        let conditions: Vec<_> = entries.map(|entry| entry.conditions).collect();
        let first = DeleteConditions {
            once: None,
            if_match: Some(ETag::new("e")),
            if_match_size: Some(5),
            if_match_modified: Some(Timestamp(1_369_353_601_000)),
        };
        assert_eq!(conditions, [Some(first), None, None]);
        for bad in [
            "<Size>-1</Size>",
            "<LastModifiedTime>soon</LastModifiedTime>",
        ] {
            let document = format!("<Delete><Object><Key>a</Key>{bad}</Object></Delete>");
            let error = parse(document.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{bad}");
        }
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
