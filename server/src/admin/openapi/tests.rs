//! Routes against the document, and the document against routes.

use std::collections::BTreeSet;

use axum::body::Body as AxumBody;
use http::Method;
use tower_service::Service as _;

use super::*;

/// All that is served. A route that is new, or gone, shows here.
const SERVED: [(&str, &str); 34] = [
    ("DELETE", "/_jay/buckets/{name}"),
    ("DELETE", "/_jay/buckets/{name}/policy"),
    ("DELETE", "/_jay/connections/{id}"),
    ("DELETE", "/_jay/quarantine"),
    ("DELETE", "/_jay/tokens/{id}"),
    ("GET", "/_jay/accounts"),
    ("GET", "/_jay/backups"),
    ("GET", "/_jay/buckets"),
    ("GET", "/_jay/buckets/{name}"),
    ("GET", "/_jay/buckets/{name}/policy"),
    ("GET", "/_jay/config"),
    ("GET", "/_jay/connections"),
    ("GET", "/_jay/metrics"),
    ("GET", "/_jay/openapi.json"),
    ("GET", "/_jay/quarantine"),
    ("GET", "/_jay/scrub"),
    ("GET", "/_jay/tokens"),
    ("GET", "/_jay/tokens/{id}"),
    ("GET", "/_jay/upkeep"),
    ("PATCH", "/_jay/accounts/{id}"),
    ("POST", "/_jay/accounts"),
    ("POST", "/_jay/backups"),
    ("POST", "/_jay/buckets"),
    ("POST", "/_jay/explain"),
    ("POST", "/_jay/fsck"),
    ("POST", "/_jay/presign"),
    ("POST", "/_jay/quarantine/revalidate"),
    ("POST", "/_jay/scrub"),
    ("POST", "/_jay/snapshots"),
    ("POST", "/_jay/tokens"),
    ("PUT", "/_jay/buckets/{name}/policy"),
    ("PUT", "/_jay/buckets/{name}/public"),
    ("PUT", "/_jay/buckets/{name}/quota"),
    ("GET", "/_jay/nothing-of-this-name"),
];

fn documented() -> BTreeSet<(String, String)> {
    let paths = API.1.paths.paths.iter();
    let all = paths.flat_map(|(path, item)| {
        operations(item).map(move |(method, _)| (method.to_owned(), path.clone()))
    });
    all.collect()
}

/// The status without an engine: a route that exists fails for want of it (500), or answers.
async fn status(method: &str, path: &str) -> StatusCode {
    let path = path.replace(['{', '}'], "");
    let request = Request::builder().method(method).uri(path);
    let request = request.body(AxumBody::empty()).unwrap();
    let Ok(response) = router().call(request).await;
    response.status()
}

#[tokio::test]
async fn every_route_is_in_the_document_and_every_path_of_it_is_a_route() {
    let (nothing, served) = SERVED.split_last().unwrap();
    let served: BTreeSet<_> = served
        .iter()
        .map(|(m, p)| (m.to_string(), p.to_string()))
        .collect();
    assert_eq!(documented(), served);
    let paths: BTreeSet<_> = served.iter().map(|(_, path)| path).collect();
    let methods = [
        Method::GET,
        Method::PUT,
        Method::POST,
        Method::DELETE,
        Method::PATCH,
    ];
    for path in paths {
        for method in &methods {
            let is_served = served.contains(&(method.to_string(), path.clone()));
            let is_refused = status(method.as_str(), path).await == StatusCode::METHOD_NOT_ALLOWED;
            assert_eq!(is_served, !is_refused, "{method} {path}");
        }
    }
    assert_eq!(status(nothing.0, nothing.1).await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn every_operation_has_a_name_of_its_own_for_the_log() {
    let names: BTreeSet<_> = OPERATIONS.values().collect();
    assert_eq!(names.len(), documented().len());
    let request = Request::get("/_jay/openapi.json").body(AxumBody::empty());
    let Ok(response) = router().call(request.unwrap()).await;
    assert_eq!(operation_of(&response), "OpenApi");
}
