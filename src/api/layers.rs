//! What is around every handler: an id and a span per request, a limit on its time, CORS, and panics that stay inside.

use std::{any::Any, time::Duration};

use axum::{
    Router,
    extract::{MatchedPath, Request},
    http::{HeaderName, HeaderValue, Method, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::CorsLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, RequestId, SetRequestIdLayer},
    trace::TraceLayer,
};
use tracing::{Span, field};
use utoipa_axum::router::OpenApiRouter;

use super::{AppState, Error, rates};

/// Headers that the clients send from a browser. Source: facts 3.5.
const ALLOWED_HEADERS: [&str; 17] = [
    "authorization",
    "content-type",
    "trigger-version",
    "x-trigger-api-version",
    "x-trigger-branch",
    "x-trigger-client",
    "x-trigger-electric-version",
    "x-trigger-realtime-streams-version",
    "x-trigger-request-idempotency-key",
    "x-trigger-source",
    "last-event-id",
    "timeout-seconds",
    "x-trigger-stream-start",
    "x-part-id",
    "cache-control",
    "traceparent",
    "tracestate",
];

/// Headers of answers that the clients read in a browser: besides those of facts 3.5, all by which they know whether and when to ask
/// again. Source: facts 3.4, 3.5.
const EXPOSED_HEADERS: [&str; 7] = [
    "x-trigger-jwt",
    "x-trigger-jwt-claims",
    "x-should-retry",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "retry-after",
];

/// Ends requests to these routes that take longer than `limit`.
pub(super) fn timeout(routes: OpenApiRouter<AppState>, limit: Duration) -> OpenApiRouter<AppState> {
    routes.route_layer(middleware::from_fn(move |request: Request, next: Next| async move {
        let answer = tokio::time::timeout(limit, next.run(request)).await;
        answer.unwrap_or_else(|_| Error::Unavailable("The request took too long; try again").into_response())
    }))
}

/// Refuses methods that a path does not have, in the shape of every refusal.
pub(super) fn only_known_methods(router: Router<AppState>) -> Router<AppState> {
    router.method_not_allowed_fallback(|| async { Error::MethodNotAllowed })
}

/// Lets pages of any origin use these routes, with keys they bring themselves (never cookies).
pub(super) fn cors(router: Router<AppState>) -> Router<AppState> {
    router.layer(any_origin().expose_headers(EXPOSED_HEADERS.map(HeaderName::from_static)))
}

/// The same for feeds and streams, whose answers say in headers where to go on.
pub(super) fn cors_of_feeds(router: Router<AppState>) -> Router<AppState> {
    router.layer(any_origin().expose_headers(tower_http::cors::Any))
}

fn any_origin() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(tower_http::cors::Any)
        .allow_methods([Method::GET, Method::POST, Method::PUT])
        .allow_headers(ALLOWED_HEADERS.map(HeaderName::from_static))
        .max_age(Duration::from_secs(3600))
}

/// What every request goes through, outermost last.
pub(super) fn around(router: Router<AppState>) -> Router<AppState> {
    let request_id = HeaderName::from_static("x-request-id");
    router
        .fallback(|| async { Error::NotFound("Not found".into()) })
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(rates::tell))
        .layer(middleware::from_fn(no_store))
        .layer(TraceLayer::new_for_http().make_span_with(span).on_request(()).on_response(answered).on_failure(()))
        .layer(PropagateRequestIdLayer::new(request_id.clone()))
        .layer(SetRequestIdLayer::new(request_id, MakeRequestUuid))
}

fn span(request: &Request) -> Span {
    let id = request.extensions().get::<RequestId>().and_then(|id| id.header_value().to_str().ok()).unwrap_or_default();
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    tracing::info_span!("request", otel.name = %format_args!("{} {route}", request.method()), request.id = id, status = field::Empty)
}

fn answered(response: &Response, took: Duration, span: &Span) {
    let status = response.status().as_u16();
    span.record("status", status);
    tracing::debug!(status, duration_ms = took.as_millis() as u64, "answered");
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    Error::Internal(anyhow::anyhow!("a handler panicked: {}", text.unwrap_or_default())).into_response()
}

/// Answers are about one moment and one key.
async fn no_store(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
