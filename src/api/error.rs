//! Every way a request can be refused, and how it looks. Source: facts 4.1, 4.2.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{DeployError, Reason, rates::Standing};
use crate::{engine, store::StoreError};

/// Why a request was refused.
#[derive(Debug)]
pub enum Error {
    /// 400: a part of the request cannot be understood.
    Malformed {
        /// Which part.
        part: Part,
        /// Everything that is wrong with it.
        issues: Vec<Issue>,
    },
    /// 400: not possible in the state that the thing is in. The text says why.
    NotNow(String),
    /// 401: no key, or one that opens nothing.
    Unauthenticated(&'static str),
    /// 403: a public token without the right scope.
    Forbidden,
    /// 403: an address that is not signed for this, or not any more.
    BadAddress(&'static str),
    /// 403: an additional key, where only the environment's root key will do.
    RootKeyOnly,
    /// 400: variables that are set already, and were not to be set anew.
    VariablesTaken(Vec<String>),
    /// 404: there is no such thing in this environment.
    NotFound(String),
    /// 405: the path exists, the method does not.
    MethodNotAllowed,
    /// 411: the length has to be known beforehand.
    LengthRequired,
    /// 413: more than a limit allows.
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Most there may be.
        limit: u64,
        /// Of what.
        unit: &'static str,
    },
    /// 415: a content type that this route does not take.
    UnsupportedType(&'static str),
    /// 422: understood, but against a rule. The text says which, and what to do.
    Rule(String),
    /// 422: a bundle that cannot be deployed.
    Refused {
        /// In one sentence.
        message: String,
        /// One by one.
        reasons: Vec<Reason>,
    },
    /// 429: too many in too short a time.
    RateLimited {
        /// Too many of these.
        of: &'static str,
        /// When there may be more.
        standing: Standing,
    },
    /// 429: as many as the server lets wait are waiting.
    TooManySubscribers,
    /// 503: the database is away, or the request took too long; the same may work later.
    Unavailable(&'static str),
    /// 500: a fault of ours. The text goes to the log, not to the client.
    Internal(anyhow::Error),
}

/// A part of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The body.
    Body,
    /// The path.
    Path,
    /// The query.
    Query,
    /// The headers.
    Headers,
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Issue {
    /// Where, such as `["options", "tags"]`.
    pub path: Vec<String>,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl Issue {
    /// An issue with a field, its path written with dots.
    pub fn new(path: &str, message: impl Into<String>) -> Issue {
        let path = if path.is_empty() { Vec::new() } else { path.split('.').map(String::from).collect() };
        Issue { path, message: message.into() }
    }
}

/// The body of every refusal.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorBody {
    /// What is wrong, for people.
    pub(super) error: String,
    /// Each thing that is wrong, if there may be several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) details: Vec<Issue>,
}

/// The body of a refused bundle.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RefusedBody {
    /// In one sentence.
    pub(super) error: String,
    /// Everything that stands against it.
    pub(super) reasons: Vec<Reason>,
}

impl Error {
    /// A body with one issue.
    pub fn body(path: &str, message: impl Into<String>) -> Error {
        Error::Malformed { part: Part::Body, issues: vec![Issue::new(path, message)] }
    }

    /// A query with one issue.
    pub fn query(name: &str, message: impl Into<String>) -> Error {
        let issue = Issue { path: vec![name.into()], message: message.into() };
        Error::Malformed { part: Part::Query, issues: vec![issue] }
    }

    /// A header with one issue.
    pub fn header(name: &str, message: &str) -> Error {
        Error::Malformed { part: Part::Headers, issues: vec![Issue { path: vec![name.into()], message: message.into() }] }
    }

    /// Everything that is wrong, in one text, for whoever gets it as data.
    pub fn describe(&self) -> String {
        match self {
            Error::Malformed { issues, .. } => {
                let issue = |issue: &Issue| match issue.path.is_empty() {
                    true => issue.message.clone(),
                    false => format!("{}: {}", issue.path.join("."), issue.message),
                };
                issues.iter().map(issue).collect::<Vec<_>>().join("; ")
            }
            other => other.to_body()["error"].as_str().unwrap_or_default().to_owned(),
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Error::Malformed { .. } => StatusCode::BAD_REQUEST,
            Error::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
            Error::VariablesTaken(_) | Error::NotNow(_) => StatusCode::BAD_REQUEST,
            Error::Forbidden | Error::RootKeyOnly | Error::BadAddress(_) => StatusCode::FORBIDDEN,
            Error::NotFound(_) => StatusCode::NOT_FOUND,
            Error::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Error::LengthRequired => StatusCode::LENGTH_REQUIRED,
            Error::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Error::UnsupportedType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Error::Rule(_) | Error::Refused { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Error::RateLimited { .. } | Error::TooManySubscribers => StatusCode::TOO_MANY_REQUESTS,
            Error::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Error::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn to_body(&self) -> Value {
        let error = match self {
            Error::Malformed { part, issues } => {
                let error = match part {
                    Part::Body => "Invalid request body",
                    Part::Path => "Params Error",
                    Part::Query => "Query Error",
                    Part::Headers => "Headers Error",
                };
                return json!({ "error": error, "details": issues });
            }
            Error::Forbidden => {
                return json!({
                    "error": "Unauthorized", "code": "unauthorized", "param": "access_token", "type": "authorization"
                });
            }
            Error::VariablesTaken(names) => {
                let taken = |name: &String| json!({ "key": name, "error": "is set already" });
                let errors: Vec<Value> = names.iter().map(taken).collect();
                let error = "Some of the variables are set already, and override is not true; nothing was set";
                return json!({ "error": error, "variableErrors": errors });
            }
            Error::RateLimited { of, standing } => {
                let error = standing.describe(of);
                return json!({ "type": "about:blank", "title": "Too Many Requests", "status": 429, "detail": error, "error": error });
            }
            Error::Refused { message, reasons } => return json!({ "error": message, "reasons": reasons }),
            Error::Unauthenticated(text) | Error::Unavailable(text) | Error::BadAddress(text) => (*text).to_owned(),
            Error::NotFound(text) | Error::Rule(text) | Error::NotNow(text) => text.clone(),
            Error::RootKeyOnly => "This needs the environment's root key; an additional key is not enough".into(),
            Error::MethodNotAllowed => "Method not allowed".into(),
            Error::TooManySubscribers => "Too many concurrent requests".into(),
            Error::LengthRequired => "Content-Length is required".into(),
            Error::TooLarge { what, limit, unit } => format!("{what} is larger than {limit} {unit}"),
            Error::UnsupportedType(wanted) => format!("Unsupported content type; send {wanted}"),
            Error::Internal(_) => "Internal server error".into(),
        };
        json!({ "error": error })
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        if let Error::Internal(error) = &self {
            tracing::error!("a request failed: {error:#}");
        }
        let mut response = (self.status(), Json(self.to_body())).into_response();
        if let Error::RateLimited { standing, .. } = &self {
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
            response.headers_mut().extend(standing.headers());
        }
        // Clients ask again after 404 unless told not to, because upstream reads from replicas; we do not.
        let retry = match self {
            Error::NotFound(_) => Some("false"),
            Error::Unavailable(_) => Some("true"),
            _ => None,
        };
        if let Some(retry) = retry {
            response.headers_mut().insert("x-should-retry", HeaderValue::from_static(retry));
        }
        response
    }
}

impl From<engine::Error> for Error {
    fn from(error: engine::Error) -> Error {
        match error {
            engine::Error::NotFound { what } => Error::not_found(what),
            engine::Error::Conflict(message) => Error::Rule(message),
            engine::Error::Invalid { field, message } => Error::Rule(format!("{field}: {message}")),
            engine::Error::TooLarge { field, limit, unit } => Error::TooLarge { what: field, limit: limit as u64, unit },
            error @ engine::Error::QueueFull { .. } => Error::Rule(error.to_string()),
            engine::Error::Unavailable(source) => source.into(),
            error @ (engine::Error::LostLease | engine::Error::Internal(_)) => Error::Internal(error.into()),
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Error {
        match error {
            StoreError::Unavailable(_) | StoreError::Undone(_) => {
                tracing::warn!("a request found no database: {:#}", anyhow::Error::new(error));
                Error::Unavailable("The database is not available; try again")
            }
            other => Error::Internal(other.into()),
        }
    }
}

impl From<DeployError> for Error {
    fn from(error: DeployError) -> Error {
        match error {
            DeployError::Refused { message, reasons } => Error::Refused { message, reasons },
            DeployError::Engine(error) => error.into(),
            DeployError::Internal(error) => Error::Internal(error),
        }
    }
}

impl Error {
    /// 404 for a thing of this kind: `run` gives `Run not found`.
    pub fn not_found(what: &str) -> Error {
        let mut letters = what.chars();
        let capital = letters.next().map(|letter| letter.to_uppercase().collect::<String>()).unwrap_or_default();
        Error::NotFound(format!("{capital}{} not found", letters.as_str()))
    }
}
