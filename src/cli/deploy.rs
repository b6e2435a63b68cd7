//! `dormouse deploy`: upload a bundle.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Args;
use futures_util::TryStreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use tokio_util::io::ReaderStream;

use super::{
    build, client,
    output::{self, BOLD, DIM, PLAIN, RED, YELLOW},
};

/// Arguments of `dormouse deploy`.
#[derive(Debug, Args)]
pub(super) struct Deploy {
    /// A component (.wasm), or the folder of a Rust project
    #[arg(value_name = "FILE.wasm|PROJECT_DIR")]
    bundle: PathBuf,
    /// Leave the current version current
    #[arg(long)]
    skip_promotion: bool,
    /// Your own name for the deployment, such as a commit; at most 128 characters
    #[arg(long, value_name = "ID")]
    external_id: Option<String>,
    #[command(flatten)]
    client: super::Client,
}

impl Deploy {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let client = client::Client::of(&self.client.access)?;
        let file = if self.bundle.is_dir() { build::build(&self.bundle).await? } else { self.bundle.clone() };
        let opened = tokio::fs::File::open(&file).await.with_context(|| format!("could not open {}", file.display()))?;
        let length = opened.metadata().await.with_context(|| format!("could not look at {}", file.display()))?.len();

        let bar = progress(length);
        let counter = bar.clone();
        let chunks = ReaderStream::with_capacity(opened, 64 << 10);
        let stream = chunks.inspect_ok(move |chunk| counter.inc(chunk.len() as u64));
        let mut query = vec![("promote", (!self.skip_promotion).to_string())];
        query.extend(self.external_id.map(|id| ("externalId", id)));
        let uploaded = client.upload("/api/v1/deployments", &query, reqwest::Body::wrap_stream(stream), length).await;
        bar.finish_and_clear();

        match uploaded {
            Ok(deployment) => {
                if self.client.json {
                    output::json(&deployment)
                } else {
                    show(&deployment)
                }
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => match error.downcast_ref::<client::Refused>() {
                Some(refused) if refused.body["reasons"].is_array() => {
                    if self.client.json {
                        output::json(&refused.body)
                    } else {
                        show_reasons(refused)
                    }
                    Ok(ExitCode::FAILURE)
                }
                _ => Err(error),
            },
        }
    }
}

fn progress(length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    let style = ProgressStyle::with_template(
        "{spinner} uploading {bytes}/{total_bytes}; then the server checks and compiles it {elapsed}",
    );
    bar.set_style(style.expect("the template is fixed"));
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

fn show(deployment: &Value) {
    anstream::println!("Deployed version {BOLD}{}{PLAIN}", deployment["version"].as_str().unwrap_or_default());
    for task in deployment["tasks"].as_array().into_iter().flatten() {
        let description = task["description"].as_str().unwrap_or_default();
        anstream::println!("  {} {DIM}{description}{PLAIN}", task["id"].as_str().unwrap_or_default());
    }
    for warning in deployment["warnings"].as_array().into_iter().flatten() {
        anstream::eprintln!("{YELLOW}warning:{PLAIN} {}", output::inline(warning));
    }
}

fn show_reasons(refused: &client::Refused) {
    anstream::eprintln!("{RED}refused:{PLAIN} {}", refused.message);
    for reason in refused.body["reasons"].as_array().into_iter().flatten() {
        let place =
            ["module", "function"].into_iter().filter_map(|part| reason[part].as_str().map(|name| format!("{part} {name}")));
        let place = place.collect::<Vec<_>>().join(", ");
        let separator = if place.is_empty() { "" } else { ": " };
        anstream::eprintln!("  {place}{separator}{}", reason["reason"].as_str().unwrap_or_default());
    }
}
