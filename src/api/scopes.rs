//! What a public token must allow, route by route: the one table of it. A route that is not in it takes secret keys only. Source:
//! facts 2.3.
//!
//! A handler says what it is about, as types with ids; the table says what may be done to which of these types. One that matches is
//! enough, so a run may be read through itself, its task, one of its tags or its batch.

/// What a token must allow: an action on a type of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    /// `read`, `write`, `trigger` or `batchTrigger`.
    pub(super) action: &'static str,
    /// Such as `runs`.
    pub(super) kind: &'static str,
}

/// What opens a route. Any one of the needs does; without needs, every token of the environment does.
pub(super) type Needs = &'static [Need];

const fn need(action: &'static str, kind: &'static str) -> Need {
    Need { action, kind }
}

const READ_RUN: Needs = &[need("read", "runs"), need("read", "tasks"), need("read", "tags"), need("read", "batch")];
const READ_QUEUES: Needs = &[need("read", "queues")];
const READ_DEPLOYMENTS: Needs = &[need("read", "deployments")];

/// Every route that takes public tokens, by method and path as it is registered.
const TABLE: &[(&str, &str, Needs)] = &[
    ("POST", "/api/v1/tasks/{taskId}/trigger", &[need("trigger", "tasks")]),
    ("POST", "/api/v2/tasks/batch", &[need("batchTrigger", "tasks")]),
    ("POST", "/api/v3/batches", &[need("batchTrigger", "tasks"), need("batchTrigger", "batch")]),
    ("POST", "/api/v3/batches/{batchId}/items", &[need("write", "batch"), need("batchTrigger", "tasks")]),
    ("GET", "/api/v2/batches/{batchId}", &[need("read", "batch"), need("read", "runs")]),
    ("GET", "/api/v3/runs/{runId}", READ_RUN),
    ("GET", "/api/v1/runs/{runId}/events", READ_RUN),
    ("GET", "/api/v1/runs/{runId}/logs", READ_RUN),
    ("GET", "/api/v1/runs/{runId}/trace", READ_RUN),
    ("GET", "/api/v1/runs/{runId}/spans/{spanId}", READ_RUN),
    ("GET", "/api/v1/runs/{runId}/packets/{field}", READ_RUN),
    // Whoever may trigger may put the payload somewhere before.
    ("PUT", "/api/v2/packets/{path}", &[need("trigger", "tasks"), need("batchTrigger", "tasks")]),
    ("GET", "/api/v1/packets/{path}", &[]),
    ("GET", "/api/v1/runs", &[need("read", "runs"), need("read", "tasks")]),
    ("POST", "/api/v2/runs/{runId}/cancel", &[need("write", "runs"), need("write", "tasks")]),
    ("POST", "/api/v1/idempotencyKeys/{key}/reset", &[need("write", "runs")]),
    ("POST", "/api/v1/waitpoints/tokens/{tokenId}/complete", &[need("write", "waitpoints")]),
    ("GET", "/api/v1/queues", READ_QUEUES),
    ("GET", "/api/v1/queues/{queue}", READ_QUEUES),
    ("GET", "/api/v1/concurrency-limits", READ_QUEUES),
    ("GET", "/api/v1/concurrency-limits/{name}", READ_QUEUES),
    ("GET", "/api/v1/deployments", READ_DEPLOYMENTS),
    ("GET", "/api/v1/deployments/current", READ_DEPLOYMENTS),
    ("GET", "/realtime/v1/runs/{runId}", READ_RUN),
    ("GET", "/realtime/v1/runs", &[need("read", "runs"), need("read", "tags")]),
    ("GET", "/realtime/v1/batches/{batchId}", &[need("read", "batch"), need("read", "runs")]),
    ("GET", "/realtime/v1/streams/{runId}/{streamKey}", READ_RUN),
    ("GET", "/realtime/v1/streams/{runId}/input/{streamKey}", READ_RUN),
    ("POST", "/realtime/v1/streams/{runId}/input/{streamKey}", &[need("write", "inputStreams")]),
];

/// What a public token must allow on this route; none if no token opens it.
pub(super) fn needs(method: &str, path: &str) -> Option<Needs> {
    // A HEAD is a GET of which nothing but the head is shown.
    let method = if method == "HEAD" { "GET" } else { method };
    TABLE.iter().find(|(of, at, _)| *of == method && *at == path).map(|(.., needs)| *needs)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn the_description_says_of_exactly_these_routes_that_they_take_tokens() {
        let api = serde_json::to_value(crate::api::description()).unwrap();
        let mut described = BTreeSet::new();
        for (path, item) in api["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let security = operation["security"].as_array().unwrap();
                if security.contains(&json!({"publicToken": []})) {
                    described.insert((method.to_uppercase(), path.clone()));
                }
            }
        }
        let listed: BTreeSet<_> = TABLE.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned())).collect();
        assert_eq!(described, listed);
        assert_eq!(listed.len(), TABLE.len(), "each is there once");
    }

    #[test]
    fn a_route_that_is_not_listed_takes_no_token() {
        assert_eq!(needs("POST", "/api/v1/schedules"), None);
        assert_eq!(needs("DELETE", "/api/v1/queues"), None);
        assert_eq!(needs("HEAD", "/api/v1/queues"), Some(READ_QUEUES));
    }
}
