//! An HTTP server on which the task `bench-five` leaves its effects: what it did, in which order, and how often.

use std::sync::{Arc, Mutex};

use axum::{Router, extract::State, routing::post};
use tokio::net::TcpListener;

/// The server; gone with the test's runtime.
#[derive(Clone)]
pub struct Effects {
    url: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Effects {
    /// On a free port of 127.0.0.1.
    pub async fn start() -> Effects {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let note = async |State(seen): State<Arc<Mutex<Vec<String>>>>, effect: String| seen.lock().unwrap().push(effect);
        let router = Router::new().route("/", post(note)).with_state(seen.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Effects { url, seen }
    }

    /// Where tasks post to.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Checks that the run with this key left each of its effects, and for the first time in their order; tells how many it left
    /// again.
    pub fn check(&self, key: &str) -> usize {
        let seen = self.seen.lock().unwrap();
        // The task writes its key as JSON.
        let prefix = format!("\"{key}\".");
        let own = seen.iter().filter_map(|effect| effect.strip_prefix(&prefix)).collect::<Vec<_>>();
        let mut first: Vec<&str> = Vec::new();
        for effect in &own {
            if !first.contains(effect) {
                first.push(effect);
            }
        }
        assert_eq!(first, ["0", "1", "2", "3", "4", "done"], "{key}: {own:?}");
        own.len() - first.len()
    }
}
