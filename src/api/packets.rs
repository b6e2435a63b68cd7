//! Payloads that are too large for a request: clients put them here first, at an address that is signed for one thing and a short
//! time, and then trigger with the path. What a run was triggered with, and what it came to, is got at such addresses, too. Source:
//! facts 5.
//!
//! An address is signed with the environment's root key, so one that is changed, is for another method or is too old opens nothing.

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    response::{IntoResponse, Response},
};
use chrono::{TimeDelta, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    AppState, Error,
    auth::Caller,
    body,
    error::{ErrorBody, Issue, Part},
    pagination::Parameters,
    runs,
};
use crate::{
    auth,
    blobs::{self, Area},
    model::{
        environment::Environment,
        id::EnvironmentId,
        payload::{self, MAX_STORED_BYTES, Packet, StoredPacket},
        run::RunStatus,
        trigger::NewRun,
    },
    store::{self, environments},
};

/// How long an address for an upload is good.
const UPLOAD_WITHIN: TimeDelta = TimeDelta::minutes(15);
/// How long an address for a download is good.
const DOWNLOAD_WITHIN: TimeDelta = TimeDelta::hours(1);
const MAX_PATH_CHARS: usize = 512;
const MAX_TYPE_CHARS: usize = 128;

/// Where a payload is to be put, and what to trigger with then.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UploadResponse {
    /// A PUT of the bytes, with their content type, goes to this address within 15 minutes.
    presigned_url: String,
    /// The `payload` of a trigger whose `options.payloadType` is `application/store`, within a day.
    storage_path: String,
}

/// Where bytes are to be had.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DownloadResponse {
    /// A GET of this address within an hour answers the bytes, with their content type.
    presigned_url: String,
}

/// Says where a payload of at most 10 MiB is to be put that is too large for a request. A path holds one payload, and stays so.
#[utoipa::path(put, path = "/api/v2/packets/{path}", tag = "packets", security(("secretKey" = []), ("publicToken" = [])),
    params(("path" = String, Path, description = "1 to 512 characters, percent-encoded as one segment")),
    responses((status = 200, body = UploadResponse), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody)))]
pub(super) async fn upload_address(
    State(state): State<AppState>,
    caller: Caller,
    Path(path): Path<String>,
) -> Result<Json<UploadResponse>, Error> {
    if !(1..=MAX_PATH_CHARS).contains(&path.chars().count()) || path.contains('\0') {
        let issue = Issue::new("path", format!("write 1 to {MAX_PATH_CHARS} characters, none of them NUL"));
        return Err(Error::Malformed { part: Part::Path, issues: vec![issue] });
    }
    let address = format!("/storage/v1/{}/packets/{}", caller.environment.id, encoded(&path));
    let presigned_url = signed(&state, &caller.environment, &Method::PUT, &address, UPLOAD_WITHIN);
    Ok(Json(UploadResponse { presigned_url, storage_path: path }))
}

/// Says where a payload is to be had that was put within the last day.
#[utoipa::path(get, path = "/api/v1/packets/{path}", tag = "packets", security(("secretKey" = []), ("publicToken" = [])),
    params(("path" = String, Path)),
    responses((status = 200, body = DownloadResponse), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn download_address(
    State(state): State<AppState>,
    caller: Caller,
    Path(path): Path<String>,
) -> Result<Json<DownloadResponse>, Error> {
    let known = !path.contains('\0') && store::packets::get(&state.store, caller.environment.id, &path).await?.is_some();
    if !known {
        return Err(Error::not_found("packet"));
    }
    let address = format!("/storage/v1/{}/packets/{}", caller.environment.id, encoded(&path));
    Ok(Json(DownloadResponse { presigned_url: signed(&state, &caller.environment, &Method::GET, &address, DOWNLOAD_WITHIN) }))
}

/// Says where the payload or the output of a run is to be had, as it was encoded.
#[utoipa::path(get, path = "/api/v1/runs/{runId}/packets/{field}", tag = "packets",
    security(("secretKey" = []), ("publicToken" = [])),
    params(("runId" = String, Path), ("field" = String, Path, description = "`payload` or `output`")),
    responses((status = 200, body = DownloadResponse), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn run_address(
    State(state): State<AppState>,
    caller: Caller,
    Path((id, field)): Path<(String, String)>,
) -> Result<Json<DownloadResponse>, Error> {
    let run = runs::of_environment(&state, &caller.environment, &id).await?;
    runs::may_read(&caller, &run)?;
    let field = Field::parse(&field)?;
    if field == Field::Output && run.status != RunStatus::Completed {
        return Err(Error::not_found("output"));
    }
    Ok(Json(DownloadResponse { presigned_url: address_of(&state, &caller.environment, run.id, field) }))
}

/// What belongs to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Payload,
    Output,
}

impl Field {
    fn parse(text: &str) -> Result<Field, Error> {
        match text {
            "payload" => Ok(Field::Payload),
            "output" => Ok(Field::Output),
            _ => {
                let issue = Issue::new("field", "write payload or output");
                Err(Error::Malformed { part: Part::Path, issues: vec![issue] })
            }
        }
    }
}

/// A signed address of what belongs to a run.
pub(super) fn address_of(state: &AppState, environment: &Environment, run: crate::model::id::RunId, field: Field) -> String {
    let field = match field {
        Field::Payload => "payload",
        Field::Output => "output",
    };
    let address = format!("/storage/v1/{}/runs/{run}/{field}", environment.id);
    signed(state, environment, &Method::GET, &address, DOWNLOAD_WITHIN)
}

/// Takes a payload at an address that `PUT /api/v2/packets/{path}` has told.
#[utoipa::path(put, path = "/storage/v1/{environmentId}/packets/{path}", tag = "packets", security(()),
    params(("environmentId" = String, Path), ("path" = String, Path),
        ("expires" = i64, Query, description = "Seconds since 1970"), ("signature" = String, Query)),
    request_body(content = String, content_type = "application/octet-stream", description = "At most 10 MiB, of any type"),
    responses((status = 200, description = "It is durable"), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn upload(
    State(state): State<AppState>,
    Path((environment, path)): Path<(String, String)>,
    query: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<(), Error> {
    let address = format!("/storage/v1/{environment}/packets/{}", encoded(&path));
    let environment = opened(&state, &environment, &Method::PUT, &address, &query).await?;
    let content_type = headers.get(header::CONTENT_TYPE).map_or(Ok("application/octet-stream"), HeaderValue::to_str);
    let content_type = content_type.ok().filter(|text| (1..=MAX_TYPE_CHARS).contains(&text.len()) && *text != payload::STORE);
    let Some(content_type) = content_type.map(str::to_owned) else {
        let issue = Issue { path: vec!["content-type".into()], message: format!("write 1 to {MAX_TYPE_CHARS} characters") };
        return Err(Error::Malformed { part: Part::Headers, issues: vec![issue] });
    };
    let bytes = body::read(&headers, body, "The payload", MAX_STORED_BYTES as u64).await?;
    let size = bytes.len() as u64;
    // Blob first, row second: an orphaned blob is swept.
    let digest = state.blobs.put(Area::Packets, bytes).await?;
    let packet = StoredPacket { digest, bytes: size, content_type };
    let is_new =
        state.store.tx(move |tx| Box::pin(async move { store::packets::put(tx, environment.id, &path, &packet).await })).await?;
    if is_new { Ok(()) } else { Err(Error::Rule("There is another payload at this path; choose another path".into())) }
}

/// Answers a payload at an address that `GET /api/v1/packets/{path}` has told.
#[utoipa::path(get, path = "/storage/v1/{environmentId}/packets/{path}", tag = "packets", security(()),
    params(("environmentId" = String, Path), ("path" = String, Path),
        ("expires" = i64, Query, description = "Seconds since 1970"), ("signature" = String, Query)),
    responses((status = 200, description = "The bytes, with the content type that they were put with"),
        (status = 400, body = ErrorBody), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn download(
    State(state): State<AppState>,
    Path((environment, path)): Path<(String, String)>,
    query: Parameters,
) -> Result<Response, Error> {
    let address = format!("/storage/v1/{environment}/packets/{}", encoded(&path));
    let environment = opened(&state, &environment, &Method::GET, &address, &query).await?;
    let packet = store::packets::get(&state.store, environment.id, &path).await?.ok_or_else(|| Error::not_found("packet"))?;
    shown(fetch(&state, &packet).await?)
}

/// Answers the payload or the output of a run.
#[utoipa::path(get, path = "/storage/v1/{environmentId}/runs/{runId}/{field}", tag = "packets", security(()),
    params(("environmentId" = String, Path), ("runId" = String, Path), ("field" = String, Path),
        ("expires" = i64, Query, description = "Seconds since 1970"), ("signature" = String, Query)),
    responses((status = 200, description = "The bytes, with their content type"), (status = 400, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn of_run(
    State(state): State<AppState>,
    Path((environment, id, field)): Path<(String, String, String)>,
    query: Parameters,
) -> Result<Response, Error> {
    let address = format!("/storage/v1/{environment}/runs/{id}/{field}");
    let environment = opened(&state, &environment, &Method::GET, &address, &query).await?;
    let detail = store::runs::detail(&state.store, environment.id, runs::parse(&id)?).await?;
    let detail = detail.ok_or_else(|| Error::not_found("run"))?;
    let packet = match Field::parse(&field)? {
        Field::Payload => detail.payload,
        Field::Output => detail.output.filter(|_| detail.run.status == RunStatus::Completed).unwrap_or_else(Packet::empty),
    };
    match StoredPacket::of(&packet) {
        Some(stored) => shown(fetch(&state, &stored).await?),
        None => shown(packet),
    }
}

/// Puts what a client has uploaded in the place of the path that it triggers with.
///
/// # Errors
/// 422 if nothing was uploaded there.
pub(super) async fn resolve(state: &AppState, environment: EnvironmentId, new: &mut NewRun) -> Result<(), Error> {
    if new.payload.content_type != payload::STORE {
        return Ok(());
    }
    let path = String::from_utf8_lossy(&new.payload.data);
    let stored = store::packets::get(&state.store, environment, &path).await?;
    let stored = stored.ok_or_else(|| {
        Error::Rule(format!("payload: nothing was put at {path:?} within a day; ask PUT /api/v2/packets/ where to put it"))
    })?;
    new.payload = stored.to_packet();
    Ok(())
}

async fn fetch(state: &AppState, stored: &StoredPacket) -> Result<Packet, Error> {
    let bytes = state.blobs.get(Area::Packets, &stored.digest).await?;
    Ok(Packet { data: bytes.into(), content_type: stored.content_type.clone() })
}

/// The bytes, for programs: whatever their type says, no browser shall take them for a page of this server.
fn shown(packet: Packet) -> Result<Response, Error> {
    let content_type =
        HeaderValue::from_str(&packet.content_type).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment")),
        (HeaderName::from_static("content-security-policy"), HeaderValue::from_static("sandbox; default-src 'none'")),
    ];
    Ok((headers, packet.data).into_response())
}

fn signed(state: &AppState, environment: &Environment, method: &Method, address: &str, within: TimeDelta) -> String {
    let expires = (Utc::now() + within).timestamp();
    let signature = auth::address_signature(method.as_str(), address, expires, &environment.root_key);
    format!("{}{address}?expires={expires}&signature={signature}", state.public_url)
}

/// The environment, if the address is signed for this and is not too old. One that was signed before the key was rotated is good as
/// long as that key.
async fn opened(
    state: &AppState,
    environment: &str,
    method: &Method,
    address: &str,
    query: &Parameters,
) -> Result<Environment, Error> {
    let refused = || Error::BadAddress("The address is not signed for this, or is too old; ask for a new one");
    let id: EnvironmentId = environment.parse().map_err(|_| refused())?;
    let expires: i64 = query.text("expires").and_then(|text| text.parse().ok()).ok_or_else(refused)?;
    let signature = query.text("signature").ok_or_else(refused)?;
    if expires <= Utc::now().timestamp() {
        return Err(refused());
    }
    let environment = environments::get(&state.store, id).await?.ok_or_else(refused)?;
    let is_ours = |key| auth::is_address_signature(signature, method.as_str(), address, expires, key);
    if environment.root_keys().any(is_ours) { Ok(environment) } else { Err(refused()) }
}

/// A path as one segment, in the one way in which it is signed.
fn encoded(path: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    path.bytes().map(byte).collect()
}

impl From<blobs::Error> for Error {
    fn from(error: blobs::Error) -> Error {
        match error {
            blobs::Error::NotFound(_) => Error::not_found("packet"),
            blobs::Error::Unavailable(_) => {
                tracing::warn!("a request found no blob store: {:#}", anyhow::Error::new(error));
                Error::Unavailable("The blob store is not available; try again")
            }
            error @ blobs::Error::Damaged(_) => Error::Internal(error.into()),
        }
    }
}
