//! The routes of the admin API and the OpenAPI document of them, both from the same declarations: those beside the
//! handlers.

use std::{collections::HashMap, sync::LazyLock};

use axum::{
    Extension, Router,
    extract::{MatchedPath, Request},
    middleware::{Next, from_fn},
    response::Response as AxumResponse,
};
use http::{Response, StatusCode};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api, Body, Error, account, backup, bucket, connection, error::ErrorAnswer, fsck, json, metrics,
    not_found, policy, presign, quarantine, token, upkeep,
};

/// Routes, and what they are called.
static API: LazyLock<(Router, utoipa::openapi::OpenApi)> = LazyLock::new(|| {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(document))
        .routes(routes!(config))
        .routes(routes!(account::create, account::list))
        .routes(routes!(account::patch))
        .routes(routes!(token::create, token::list))
        .routes(routes!(token::show, token::revoke))
        .routes(routes!(presign::create))
        .routes(routes!(bucket::list, bucket::create))
        .routes(routes!(bucket::show, bucket::delete))
        .routes(routes!(bucket::put_public))
        .routes(routes!(bucket::put_quota))
        .routes(routes!(policy::put, policy::get, policy::delete))
        .routes(routes!(policy::explain))
        .routes(routes!(quarantine::list, quarantine::purge))
        .routes(routes!(quarantine::revalidate))
        .routes(routes!(metrics::show))
        .routes(routes!(connection::list))
        .routes(routes!(connection::close))
        .routes(routes!(upkeep::status))
        .routes(routes!(upkeep::scrub, upkeep::start_scrub))
        .routes(routes!(upkeep::take_snapshot))
        .routes(routes!(backup::create, backup::list))
        .routes(routes!(fsck::check))
        .split_for_parts()
});

/// Names of operations by path and method, for the log.
static OPERATIONS: LazyLock<HashMap<(&str, String), &str>> = LazyLock::new(|| {
    let mut names = HashMap::new();
    for (path, item) in &API.1.paths.paths {
        for (method, operation) in operations(item) {
            if let Some(name) = &operation.operation_id {
                names.insert((path.as_str(), method.to_owned()), name.as_str());
            }
        }
    }
    names
});

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Jay: admin API",
        description = "What the operator of a Jay server asks of it. Every request carries the admin token: \
                       `Authorization: Bearer <JAY_ADMIN_TOKEN>`. `/health/live` and `/health/ready`, on the same port, \
                       need none."
    ),
    modifiers(&Bearer),
    security(("admin_token" = []))
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("admin_token", SecurityScheme::Http(scheme));
    }
}

/// The name of the operation that has answered.
#[derive(Clone)]
struct Answered(&'static str);

/// All routes of the API.
pub(super) fn router() -> Router {
    let routes = API.0.clone();
    routes
        .route_layer(from_fn(note_route))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
}

async fn note_route(request: Request, next: Next) -> AxumResponse {
    let operation = request.extensions().get().map_or("", |path: &MatchedPath| {
        let place = (path.as_str(), request.method().to_string());
        OPERATIONS.get(&place).copied().unwrap_or_default()
    });
    if let Some(api) = request.extensions().get::<Api>() {
        api.window.show(operation);
    }
    let mut response = next.run(request).await;
    response.extensions_mut().insert(Answered(operation));
    response
}

async fn not_allowed() -> Error {
    Error::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")
}

/// The name of the operation that gave this answer, or "" when none did.
pub(super) fn operation_of(response: &AxumResponse) -> &'static str {
    let answered = response.extensions().get();
    answered.map_or("", |Answered(operation)| operation)
}

fn operations(
    item: &utoipa::openapi::PathItem,
) -> impl Iterator<Item = (&'static str, &utoipa::openapi::path::Operation)> {
    let operations = [
        ("GET", &item.get),
        ("PUT", &item.put),
        ("POST", &item.post),
        ("DELETE", &item.delete),
        ("PATCH", &item.patch),
    ];
    operations
        .into_iter()
        .filter_map(|(method, operation)| Some((method, operation.as_ref()?)))
}

/// This document.
#[utoipa::path(get, path = "/_jay/openapi.json", operation_id = "OpenApi",
    responses((status = 200, body = serde_json::Value), (status = "default", body = ErrorAnswer)))]
async fn document() -> Response<Body> {
    json(StatusCode::OK, &API.1)
}

/// The settings that are in effect, without secrets.
#[utoipa::path(get, path = "/_jay/config", operation_id = "GetConfig",
    responses((status = 200, body = serde_json::Value), (status = "default", body = ErrorAnswer)))]
async fn config(Extension(api): Extension<Api>) -> Response<Body> {
    json(StatusCode::OK, &api.settings.config)
}

#[cfg(test)]
mod tests;
pub(super) mod types;
