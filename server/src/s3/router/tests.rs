//! Hosts and paths, the names of operations, and what must not be ignored.

use proptest::prelude::*;

use super::*;
use crate::s3::sigv4::tests::request;

fn target(host: &str, path: &str) -> Result<Target> {
    let domains = ["s3.example:9000".to_owned(), "example".to_owned()];
    Target::of(&request("GET", path, &[("host", host)]), &domains)
}

fn pair(bucket: &str, key: &str) -> Target {
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Target {
        bucket: some(bucket),
        key: some(key),
    }
}

fn named(method: &str, uri: &str, headers: &[(&str, &str)]) -> Result<Operation> {
    let parts = request(method, uri, headers);
    let query = Query::parse(parts.uri.query())?;
    route(
        &parts.method,
        &Target::of(&parts, &[])?,
        &query,
        &parts.headers,
    )
}

#[test]
fn keys_are_taken_literally() {
    for (path, bucket, key) in [
        ("/", "", ""),
        ("/b", "b", ""),
        ("/b/", "b", ""),
        ("/b/k", "b", "k"),
        ("/b//k", "b", "/k"),
        ("/b/a/../k/", "b", "a/../k/"),
        ("/b/a%2Fb%2520c+d", "b", "a/b%20c+d"),
        ("/b/%C3%A9", "b", "é"),
    ] {
        assert_eq!(target("h", path).unwrap(), pair(bucket, key), "{path}");
    }
    assert_eq!(target("h", "//k").unwrap().bucket.unwrap(), "");
    assert_eq!(
        target("h", "/b/%ff").unwrap_err().kind(),
        ErrorKind::InvalidURI
    );
}

#[test]
fn buckets_may_be_in_the_host() {
    for (host, path, bucket, key) in [
        ("b.s3.example:9000", "/k/l", "b", "k/l"),
        ("B.S3.EXAMPLE", "/", "b", ""),
        ("my.b.s3.example:80", "//", "my.b", "/"),
        ("s3.example:9000", "/b/k", "s3", "b/k"),
        ("example", "/b/k", "b", "k"),
        ("xs3.other", "/b/k", "b", "k"),
        (".example", "/b/k", "b", "k"),
    ] {
        assert_eq!(
            target(host, path).unwrap(),
            pair(bucket, key),
            "{host}{path}"
        );
    }
}

#[test]
fn operations_are_named() {
    use Operation::*;
    for (method, uri, expected) in [
        ("GET", "/", ListBuckets),
        ("GET", "/?x-id=ListBuckets", ListBuckets),
        ("PUT", "/b", CreateBucket),
        ("HEAD", "/b/", HeadBucket),
        ("DELETE", "/b", DeleteBucket),
        ("GET", "/b?location", GetBucketLocation),
        ("GET", "/b?versioning", GetBucketVersioning),
        ("GET", "/b?prefix=acl", ListObjects),
        ("GET", "/b?list-type=2", ListObjectsV2),
        ("POST", "/b?delete", DeleteObjects),
        ("POST", "/b/?delete=", DeleteObjects),
        ("PUT", "/b/k?x-id=PutObject", PutObject),
        ("GET", "/b/k?versionId=null", GetObject),
        ("HEAD", "/b/k", HeadObject),
        ("DELETE", "/b/k", DeleteObject),
        ("GET", "/b?acl", GetBucketAcl),
        ("PUT", "/b?acl=", PutBucketAcl),
        ("GET", "/b/k?acl", GetObjectAcl),
        ("PUT", "/b/k?acl&versionId=null", PutObjectAcl),
        ("GET", "/b/k?partNumber=2", GetObject),
        ("GET", "/b?uploads", ListMultipartUploads),
        ("POST", "/b/k?uploads=", CreateMultipartUpload),
        ("PUT", "/b/k?partNumber=1&uploadId=0", UploadPart),
        ("POST", "/b/k?uploadId=0", CompleteMultipartUpload),
        ("DELETE", "/b/k?uploadId=0", AbortMultipartUpload),
        ("GET", "/b/k?uploadId=0&max-parts=1", ListParts),
        ("GET", "/b?policy", GetBucketPolicy),
        ("PUT", "/b?policy", PutBucketPolicy),
        ("DELETE", "/b?policy", DeleteBucketPolicy),
        ("GET", "/b?policyStatus", GetBucketPolicyStatus),
        ("GET", "/b/k?tagging", GetObjectTagging),
        ("PUT", "/b/k?tagging", PutObjectTagging),
        ("DELETE", "/b/k?tagging", DeleteObjectTagging),
    ] {
        assert_eq!(named(method, uri, &[]).unwrap(), expected, "{method} {uri}");
    }
    let browser = [("accept", "text/html,*/*")];
    assert_eq!(named("GET", "/", &browser).unwrap(), Welcome);
    assert_eq!(
        named("GET", "/?X-Amz-Signature=0", &browser).unwrap(),
        ListBuckets
    );
    let signed = [browser[0], ("authorization", "AWS4-HMAC-SHA256")];
    assert_eq!(named("GET", "/", &signed).unwrap(), ListBuckets);
}

#[test]
fn sub_resources_never_run_the_plain_operation() {
    for sub_resource in SUB_RESOURCES {
        for method in ["GET", "HEAD", "PUT", "DELETE", "POST"] {
            for path in ["/b", "/b/k"] {
                let uri = format!("{path}?x-id=1&{sub_resource}");
                match named(method, &uri, &[]) {
                    Ok(Operation::GetBucketLocation) => assert_eq!(*sub_resource, "location"),
                    Ok(Operation::DeleteObjects) => assert_eq!(*sub_resource, "delete"),
                    Ok(operation) if operation.name().ends_with("Acl") => {
                        assert_eq!(*sub_resource, "acl");
                    }
                    // A part that is read, or a part without an upload, which is refused later.
                    Ok(Operation::GetObject | Operation::HeadObject | Operation::UploadPart) => {
                        assert!(["partNumber", "uploadId"].contains(sub_resource), "{uri}");
                    }
                    Ok(operation) => assert!(is_of(operation, sub_resource), "{method} {uri}"),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::NotImplemented, "{uri}"),
                }
            }
        }
    }
    for uri in [
        "/b?location&acl",
        "/b?location=&policy=",
        "/b/k?versionId=3",
    ] {
        assert_eq!(
            named("GET", uri, &[]).unwrap_err().kind(),
            ErrorKind::NotImplemented
        );
    }
}

/// Whether the sub-resource stands for the operation.
fn is_of(operation: Operation, sub_resource: &str) -> bool {
    use Operation::*;
    match sub_resource {
        "tagging" => operation.name().ends_with("Tagging"),
        "versioning" => operation == GetBucketVersioning,
        "policy" => operation.name().ends_with("BucketPolicy"),
        "policyStatus" => operation == GetBucketPolicyStatus,
        "uploads" => matches!(operation, CreateMultipartUpload | ListMultipartUploads),
        "uploadId" => matches!(
            operation,
            CompleteMultipartUpload | AbortMultipartUpload | ListParts
        ),
        _ => false,
    }
}

#[test]
fn copies_and_tags_are_asked_for_by_headers() {
    let source = [("x-amz-copy-source", "/b/k")];
    let condition = [source[0], ("x-amz-copy-source-if-match", "e")];
    for (uri, expected) in [
        ("/b/k", Operation::CopyObject),
        ("/b/k?partNumber=1&uploadId=0", Operation::UploadPartCopy),
    ] {
        assert_eq!(named("PUT", uri, &condition).unwrap(), expected);
        assert_eq!(named("PUT", uri, &source).unwrap(), expected);
    }
    for (method, uri) in [("GET", "/b/k"), ("PUT", "/b"), ("POST", "/b/k?uploads")] {
        let error = named(method, uri, &source).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotImplemented, "{method} {uri}");
    }
    let encrypted = [
        source[0],
        ("x-amz-copy-source-server-side-encryption-customer-key", "k"),
    ];
    let error = named("PUT", "/b/k", &encrypted).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotImplemented);
    let tags = [("x-amz-tagging", "a=b")];
    assert_eq!(named("PUT", "/b/k", &tags).unwrap(), Operation::PutObject);
    let error = named("PUT", "/b/k?partNumber=1&uploadId=0", &tags).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotImplemented);
}

#[test]
fn conditions_of_a_delete_are_no_others() {
    for name in DELETE_CONDITIONS {
        let condition = [(name, "1")];
        let operation = named("DELETE", "/b/k", &condition);
        assert_eq!(operation.unwrap(), Operation::DeleteObject);
        for (method, uri) in [
            ("PUT", "/b/k"),
            ("GET", "/b/k"),
            ("DELETE", "/b"),
            ("DELETE", "/b/k?uploadId=0"),
        ] {
            let error = named(method, uri, &condition).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotImplemented, "{method} {uri}");
        }
    }
}

#[test]
fn headers_that_ask_for_more_are_not_ignored() {
    for (name, value) in [
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-server-side-encryption-customer-key", "k"),
        ("x-amz-object-lock-mode", "GOVERNANCE"),
        ("x-amz-bucket-object-lock-enabled", "true"),
    ] {
        let error = named("PUT", "/b/k", &[(name, value)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotImplemented, "{name}");
    }
    let off = [("x-amz-bucket-object-lock-enabled", "False")];
    assert_eq!(named("PUT", "/b", &off).unwrap(), Operation::CreateBucket);
}

#[test]
fn other_methods_and_forms_are_refused() {
    for (method, uri) in [
        ("POST", "/"),
        ("PUT", "/"),
        ("PATCH", "/b/k"),
        ("POST", "/b/k"),
    ] {
        let error = named(method, uri, &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MethodNotAllowed, "{method} {uri}");
    }
    let form = [("content-type", "Multipart/form-data; boundary=x")];
    let error = named("POST", "/b", &form).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotImplemented);
    let error = named("GET", "/b?list-type=3", &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

proptest! {
    #[test]
    fn hostile_hosts_and_paths_never_panic(host in "[!-~]{0,20}", path in "/[!-~&&[^#?<>\"`{}]]{0,40}") {
        if let Ok(uri) = path.parse::<http::Uri>() {
            let mut parts = request("GET", "/", &[("host", &host)]);
            parts.uri = uri;
            let _ = Target::of(&parts, &["s3.example".to_owned()]);
        }
    }
}

#[test]
fn usage_is_asked_for_in_the_place_of_a_bucket() {
    let operation = |method, uri| named(method, uri, &[]).unwrap();
    assert_eq!(operation("GET", "/_stats/b"), Operation::GetBucketStats);
    assert_eq!(operation("GET", "/stats/b"), Operation::GetObject);
    assert_eq!(operation("PUT", "/_stats/b"), Operation::PutObject);
    let error = named("GET", "/_stats/b?tagging", &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotImplemented);
}
