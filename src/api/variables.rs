//! Environment variables. A key reaches those of its own environment only; the path says again which that is. Values of secrets
//! are never shown. Source: facts 7.7, N7.

use std::collections::HashMap;

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    AppState, Error,
    auth::{SecretKey, SecretKeyOfAnyBranch},
    body,
    error::{ErrorBody, Issue, Part},
    waitpoints::Success,
};
use crate::{
    engine::{
        self,
        variables::{Existing, Import, Imported, MAX_VARIABLES},
    },
    model::environment::{Environment, EnvironmentKind, NewVariable},
    store::variables::{self, Shown},
};

/// What stands in place of a secret's value. Source: facts 7.7.
const REDACTED: &str = "<redacted>";
/// Largest body with one value: every character may be escaped.
const MAX_ONE_BYTES: u64 = 512 * 1024;
/// Largest body with many.
const MAX_IMPORT_BYTES: u64 = 8 << 20;

/// A variable.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct VariableObject {
    name: String,
    /// `<redacted>` for a secret.
    value: String,
    is_secret: bool,
}

impl VariableObject {
    fn of(shown: Shown) -> VariableObject {
        let value = shown.value.map_or_else(|| REDACTED.to_owned(), |value| value.expose_secret().to_owned());
        VariableObject { name: shown.name, value, is_secret: shown.is_secret }
    }
}

/// A variable to be set.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CreateVariableBody {
    /// Letters, digits and underscores, at most 256.
    name: String,
    /// At most 64 KiB.
    #[schema(value_type = String)]
    value: SecretString,
    /// Its value is never shown again. As it was unless said otherwise; no secret if it is new.
    is_secret: Option<bool>,
}

/// A variable's new value.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct UpdateBody {
    /// At most 64 KiB.
    #[schema(value_type = String)]
    value: SecretString,
}

/// Variables to be set together.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImportBody {
    /// Values by name, 1000 at most.
    #[schema(value_type = HashMap<String, String>)]
    variables: HashMap<String, SecretString>,
    /// Whether variables that are set already are set anew; otherwise nothing is set if there is one.
    #[serde(rename = "override")]
    replace: Option<bool>,
    /// All of them are secrets, or none is.
    is_secret: Option<bool>,
    /// Which of them are secrets.
    #[serde(default)]
    secrets: HashMap<String, bool>,
    /// Of a branch: what is set in its preview environment along with it.
    #[serde(default)]
    #[schema(value_type = HashMap<String, String>)]
    parent_variables: HashMap<String, SecretString>,
    /// Which of those are secrets.
    #[serde(default)]
    parent_secrets: HashMap<String, bool>,
}

/// Lists the variables of the key's environment by name, those that a branch inherits included.
#[utoipa::path(get, path = "/api/v1/projects/{projectRef}/envvars/{slug}", tag = "variables", security(("secretKey" = [])),
    params(("projectRef" = String, Path), ("slug" = String, Path, description = "dev, stg, prod or preview: that of the key")),
    responses((status = 200, body = Vec<VariableObject>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody)))]
pub(super) async fn list(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path((reference, slug)): Path<(String, String)>,
) -> Result<Json<Vec<VariableObject>>, Error> {
    check(&environment, &reference, &slug)?;
    let shown = variables::list(&state.store, environment.id).await?;
    Ok(Json(shown.into_iter().map(VariableObject::of).collect()))
}

/// Sets a variable. Runs see it when their next attempt begins or their wait ends.
#[utoipa::path(post, path = "/api/v1/projects/{projectRef}/envvars/{slug}", tag = "variables", security(("secretKey" = [])),
    params(("projectRef" = String, Path), ("slug" = String, Path)),
    request_body = CreateVariableBody,
    responses((status = 200, body = Success), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn create(
    State(state): State<AppState>,
    SecretKeyOfAnyBranch(environment): SecretKeyOfAnyBranch,
    Path((reference, slug)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Success>, Error> {
    check(&environment, &reference, &slug)?;
    let CreateVariableBody { name, value, is_secret } =
        body::read_json(&headers, body, "The request body", MAX_ONE_BYTES).await?;
    engine::variables::set(&state.store, environment.id, NewVariable { name, value, is_secret }).await.map_err(refused)?;
    Ok(Json(Success { success: true }))
}

/// Shows a variable.
#[utoipa::path(get, path = "/api/v1/projects/{projectRef}/envvars/{slug}/{name}", tag = "variables",
    security(("secretKey" = [])),
    params(("projectRef" = String, Path), ("slug" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = VariableObject), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody)))]
pub(super) async fn retrieve(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path((reference, slug, name)): Path<(String, String, String)>,
) -> Result<Json<VariableObject>, Error> {
    check(&environment, &reference, &slug)?;
    let shown = variables::get(&state.store, environment.id, known(&name)?).await?.ok_or_else(not_found)?;
    Ok(Json(VariableObject::of(shown)))
}

/// Gives a variable another value; a secret stays one.
#[utoipa::path(put, path = "/api/v1/projects/{projectRef}/envvars/{slug}/{name}", tag = "variables",
    security(("secretKey" = [])),
    params(("projectRef" = String, Path), ("slug" = String, Path), ("name" = String, Path)),
    request_body = UpdateBody,
    responses((status = 200, body = Success), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn update(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path((reference, slug, name)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Success>, Error> {
    check(&environment, &reference, &slug)?;
    let UpdateBody { value } = body::read_json(&headers, body, "The request body", MAX_ONE_BYTES).await?;
    let variable = NewVariable { name: known(&name)?.to_owned(), value, is_secret: None };
    engine::variables::update(&state.store, environment.id, variable).await?;
    Ok(Json(Success { success: true }))
}

/// Deletes a variable. A branch sees that of its preview environment again, if there is one.
#[utoipa::path(delete, path = "/api/v1/projects/{projectRef}/envvars/{slug}/{name}", tag = "variables",
    security(("secretKey" = [])),
    params(("projectRef" = String, Path), ("slug" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = Success), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody)))]
pub(super) async fn delete(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path((reference, slug, name)): Path<(String, String, String)>,
) -> Result<Json<Success>, Error> {
    check(&environment, &reference, &slug)?;
    engine::variables::delete(&state.store, environment.id, known(&name)?.to_owned()).await?;
    Ok(Json(Success { success: true }))
}

/// Sets many variables, all of them or none.
#[utoipa::path(post, path = "/api/v1/projects/{projectRef}/envvars/{slug}/import", tag = "variables",
    security(("secretKey" = [])),
    params(("projectRef" = String, Path), ("slug" = String, Path)),
    request_body = ImportBody,
    responses((status = 200, body = Success), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 413, body = ErrorBody), (status = 415, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
pub(super) async fn import(
    State(state): State<AppState>,
    SecretKeyOfAnyBranch(environment): SecretKeyOfAnyBranch,
    Path((reference, slug)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Success>, Error> {
    check(&environment, &reference, &slug)?;
    let content_type = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if content_type.starts_with("multipart/") {
        return Err(Error::UnsupportedType("the variables as application/json"));
    }
    let body: ImportBody = body::read_json(&headers, body, "The request body", MAX_IMPORT_BYTES).await?;
    for (path, variables) in [("variables", &body.variables), ("parentVariables", &body.parent_variables)] {
        if variables.len() > MAX_VARIABLES {
            return Err(Error::body(path, format!("there are at most {MAX_VARIABLES}; these are {}", variables.len())));
        }
    }
    if body.variables.is_empty() && body.parent_variables.is_empty() {
        return Err(Error::body("variables", "write at least one"));
    }
    let import = Import {
        own: new_variables(body.variables, body.is_secret, &body.secrets),
        parent: new_variables(body.parent_variables, body.is_secret, &body.parent_secrets),
        existing: if body.replace == Some(true) { Existing::Replace } else { Existing::Refuse },
    };
    match engine::variables::import(&state.store, environment.id, import).await.map_err(refused)? {
        Imported::All => Ok(Json(Success { success: true })),
        Imported::Taken(mut names) => {
            names.sort();
            Err(Error::VariablesTaken(names))
        }
    }
}

fn new_variables(
    values: HashMap<String, SecretString>,
    all_secret: Option<bool>,
    secrets: &HashMap<String, bool>,
) -> Vec<NewVariable> {
    let is_secret = |name: &String| secrets.get(name).copied().or(all_secret);
    values.into_iter().map(|(name, value)| NewVariable { is_secret: is_secret(&name), name, value }).collect()
}

/// A name that no variable can have is a mistake in the body. Source: facts 7.7.
fn refused(error: engine::Error) -> Error {
    match error {
        engine::Error::Invalid { field: "name", message } => Error::body("name", message),
        other => other.into(),
    }
}

/// Whether the path names the environment of the key.
fn check(environment: &Environment, reference: &str, slug: &str) -> Result<(), Error> {
    if environment.project_ref != reference {
        return Err(Error::not_found("project"));
    }
    let own = environment.kind.slug();
    // Both are in use for it.
    let asked = if slug == "staging" { EnvironmentKind::Staging.slug() } else { slug };
    if asked == own {
        return Ok(());
    }
    let message = format!("the key is of the environment {own}; write that, or use a key of {slug}");
    Err(Error::Malformed { part: Part::Path, issues: vec![Issue { path: vec!["slug".into()], message }] })
}

/// What no variable can be called is not there, and nothing that the database should hear of.
fn known(name: &str) -> Result<&str, Error> {
    if name.contains('\0') { Err(not_found()) } else { Ok(name) }
}

fn not_found() -> Error {
    Error::not_found("environment variable")
}
