//! The description of the API for programs.

use std::sync::Arc;

use axum::{
    http::header,
    routing::{MethodRouter, get},
};
use bytes::Bytes;
use utoipa::openapi::{
    ComponentsBuilder, Info, OpenApi,
    security::{Http, HttpAuthScheme, SecurityScheme},
};

use super::AppState;

/// Adds what the routes do not say of themselves.
pub(super) fn with_description(mut api: OpenApi) -> OpenApi {
    api.info = Info::new("Dormouse", env!("CARGO_PKG_VERSION"));
    api.info.description = Some(
        "Durable background tasks: WebAssembly that sleeps in a snapshot while it waits. Where the server limits rates, every route \
         under /api that takes a key may answer 429, with x-ratelimit-reset (milliseconds since 1970) and retry-after (seconds)."
            .into(),
    );
    let scheme = |text: &str| {
        let mut http = Http::new(HttpAuthScheme::Bearer);
        http.description = Some(text.to_owned());
        SecurityScheme::Http(http)
    };
    let mut components = ComponentsBuilder::from(api.components.take().unwrap_or_default());
    components = components.security_scheme("secretKey", scheme("A secret key of the environment, such as tr_dev_…"));
    components =
        components.security_scheme("publicToken", scheme("A public access token: a JWT with scopes, signed with the secret key"));
    api.components = Some(components.build());
    api
}

/// Serves the description, written once.
pub(super) fn serve(api: &OpenApi) -> MethodRouter<AppState> {
    let text: Arc<Bytes> = Arc::new(api.to_json().expect("the description is plain data").into());
    get(move || {
        let text = Bytes::clone(&text);
        async move { ([(header::CONTENT_TYPE, "application/json")], text) }
    })
}
