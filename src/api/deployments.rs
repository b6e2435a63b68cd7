//! Deployments: uploading a bundle, and which are there. Source: facts 7.8.

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    AppState, DeployOptions, Deployed, Error,
    auth::{Caller, SecretKey, SecretKeyOfAnyBranch},
    body,
    error::{ErrorBody, RefusedBody},
    pagination::{Paged, Parameters},
    when::rfc3339,
};
use crate::{
    engine,
    model::{
        deployment::{Deployment, MAX_EXTERNAL_ID_CHARS, Promotion},
        id::DeploymentId,
        machine::Machine,
        task::TaskDefinition,
    },
    store::deployments,
};

/// A bundle that was deployed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewDeployment {
    /// `deployment_…`
    #[schema(value_type = String)]
    id: DeploymentId,
    /// `YYYYMMDD.N`
    version: String,
    /// Always `DEPLOYED`.
    status: &'static str,
    /// What it brings.
    tasks: Vec<Task>,
    /// What the author should know.
    warnings: Vec<String>,
    /// New runs start on it.
    is_current: bool,
}

/// A task of a bundle.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Task {
    /// To be triggered by.
    id: String,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// Where it is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// Its machine preset.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    machine: Option<Machine>,
    /// Its queue, if not its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
}

impl Task {
    fn of(task: &TaskDefinition) -> Task {
        let TaskDefinition { id, description, source, machine, queue, .. } = task.clone();
        Task { id, description, source, machine, queue }
    }
}

/// A deployment, as clients list them.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeploymentItem {
    /// `deployment_…`
    #[schema(value_type = String)]
    id: DeploymentId,
    /// When it was deployed.
    created_at: String,
    /// The end of its id.
    short_code: String,
    /// `YYYYMMDD.N`
    version: String,
    /// What the SDK is for, such as `rust`.
    runtime: Option<String>,
    /// The SDK's version.
    runtime_version: Option<String>,
    /// Always `DEPLOYED`.
    status: &'static str,
    /// When it was deployed.
    deployed_at: String,
    /// The user's own name for it.
    external_id: Option<String>,
    /// New runs start on it.
    is_current: bool,
}

impl DeploymentItem {
    fn of(deployment: Deployment) -> DeploymentItem {
        let id = deployment.id.to_string();
        let (runtime, runtime_version) = deployment.sdk.split_once('/').unwrap_or((&deployment.sdk, ""));
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        DeploymentItem {
            created_at: rfc3339(deployment.created_at),
            short_code: id[id.len() - 8..].to_owned(),
            runtime: some(runtime),
            runtime_version: some(runtime_version),
            id: deployment.id,
            version: deployment.version,
            status: "DEPLOYED",
            deployed_at: rfc3339(deployment.created_at),
            external_id: deployment.external_id,
            is_current: deployment.is_current,
        }
    }
}

/// Uploads a bundle, a WebAssembly component, and makes a new version of it.
#[utoipa::path(post, path = "/api/v1/deployments", tag = "deployments", security(("secretKey" = [])),
    request_body(content_type = "application/wasm", description = "The component, at most 128 MiB"),
    params(
        ("externalId" = Option<String>, Query, description = "Your own name for it, at most 128 characters"),
        ("promote" = Option<bool>, Query, description = "Whether new runs start on it; true unless said otherwise")),
    responses(
        (status = 201, body = NewDeployment), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 415, body = ErrorBody),
        (status = 422, body = RefusedBody, description = "The bundle cannot be deployed; every reason is listed")))]
pub(super) async fn create(
    State(state): State<AppState>,
    SecretKeyOfAnyBranch(environment): SecretKeyOfAnyBranch,
    query: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<NewDeployment>), Error> {
    let content_type = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if content_type.split(';').next().is_none_or(|essence| !essence.trim().eq_ignore_ascii_case("application/wasm")) {
        return Err(Error::UnsupportedType("a WebAssembly component as application/wasm"));
    }
    let external_id = query.text("externalId").map(str::to_owned);
    if external_id.as_ref().is_some_and(|id| id.chars().count() > MAX_EXTERNAL_ID_CHARS) {
        return Err(Error::query("externalId", format!("at most {MAX_EXTERNAL_ID_CHARS} characters")));
    }
    let promotion = if query.flag("promote")?.unwrap_or(true) { Promotion::Promote } else { Promotion::Skip };

    // The permit first: a bundle is held in memory from here on.
    let _permit = state.deploys.acquire().await.expect("nobody closes the semaphore");
    let bytes = body::read(&headers, body, "The bundle", state.limits.bundle_bytes).await?;
    let options = DeployOptions { external_id, promotion };
    let Deployed { deployment, warnings } = state.deployer.deploy(&environment, bytes, options).await?;
    tracing::info!(deployment.version = deployment.version, tasks = deployment.tasks.len(), "deployed");

    let tasks = deployment.tasks.iter().map(Task::of).collect();
    let (id, version, is_current) = (deployment.id, deployment.version, deployment.is_current);
    Ok((StatusCode::CREATED, Json(NewDeployment { id, version, status: "DEPLOYED", tasks, warnings, is_current })))
}

/// Lists deployments, newest first.
#[utoipa::path(get, path = "/api/v1/deployments", tag = "deployments", security(("secretKey" = []), ("publicToken" = [])),
    params(
        ("page[size]" = Option<u32>, Query), ("page[after]" = Option<String>, Query), ("page[before]" = Option<String>, Query),
        ("status" = Option<String>, Query, description = "Comma-separated; every deployment here is DEPLOYED"),
        ("period" = Option<String>, Query, description = "Such as 1d"),
        ("from" = Option<String>, Query, description = "Milliseconds since 1970, or a date"),
        ("to" = Option<String>, Query, description = "Milliseconds since 1970, or a date")),
    responses((status = 200, body = Paged<DeploymentItem>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody)))]
pub(super) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    query: Parameters,
) -> Result<Json<Paged<DeploymentItem>>, Error> {
    caller.must(&[("deployments", None)])?;
    let (created_from, created_to) = query.range("", state.now().await?)?;
    let filter = deployments::Filter { created_from, created_to };
    let page = query.page()?;
    let statuses = query.list("status");
    if !statuses.is_empty() && !statuses.iter().any(|status| status == "DEPLOYED") {
        return Ok(Json(Paged { data: Vec::new(), pagination: Default::default() }));
    }
    let listing = deployments::list(&state.store, caller.environment.id, &filter, page).await?;
    Ok(Json(Paged::of(listing, DeploymentItem::of)))
}

/// Shows the deployment that new runs start on.
#[utoipa::path(get, path = "/api/v1/deployments/current", tag = "deployments", security(("secretKey" = []), ("publicToken" = [])),
    responses((status = 200, body = DeploymentItem), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody)))]
pub(super) async fn current(State(state): State<AppState>, caller: Caller) -> Result<Json<DeploymentItem>, Error> {
    caller.must(&[("deployments", None)])?;
    let current = deployments::current(&state.store, caller.environment.id).await?;
    current.map(|current| Json(DeploymentItem::of(current))).ok_or_else(|| Error::not_found("deployment"))
}

/// Makes a version the current one: new runs start on it. Runs that have begun stay on theirs.
#[utoipa::path(post, path = "/api/v1/deployments/{version}/promote", tag = "deployments", security(("secretKey" = [])),
    params(("version" = String, Path, description = "`YYYYMMDD.N`")),
    responses((status = 200, body = DeploymentItem), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn promote(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path(version): Path<String>,
) -> Result<Json<DeploymentItem>, Error> {
    if version.contains('\0') {
        return Err(Error::not_found("deployment"));
    }
    let deployment = engine::deploy::promote(&state.store, environment.id, version).await?;
    tracing::info!(deployment.version = deployment.version, "promoted");
    Ok(Json(DeploymentItem::of(deployment)))
}

/// What is to be rolled back.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct RollbackBody {
    /// The version that is current; if it is not any more, nothing happens. So a request that is sent twice goes back once.
    from: Option<String>,
}

/// Promotes the version before the current one: the newest earlier one that has been current.
#[utoipa::path(post, path = "/api/v1/deployments/rollback", tag = "deployments", security(("secretKey" = [])),
    request_body = RollbackBody,
    responses((status = 200, body = DeploymentItem), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 422, body = ErrorBody, description = "Another version is current, or there is none before it")))]
pub(super) async fn rollback(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<DeploymentItem>, Error> {
    let body: RollbackBody = body::read_json(&headers, body, "The request body", 1024).await?;
    let deployment = engine::deploy::rollback(&state.store, environment.id, body.from).await?;
    tracing::info!(deployment.version = deployment.version, "rolled back");
    Ok(Json(DeploymentItem::of(deployment)))
}
