//! Lists that come in numbered pages.

use clap::Args;
use serde_json::Value;

use super::{client::Client, output};

/// Which page of a list.
#[derive(Debug, Args)]
pub(super) struct Page {
    /// Which page, from 1
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    page: u32,
    /// How many of a page, 1 to 100
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=100))]
    limit: u32,
    #[command(flatten)]
    client: super::Client,
}

impl Page {
    /// Prints the page of the list at `path`: as it is, or as `show` has it.
    pub(super) async fn print(&self, path: &str, show: impl FnOnce(&[Value])) -> anyhow::Result<()> {
        let client = Client::of(&self.client.access)?;
        let query = [("page", self.page.to_string()), ("perPage", self.limit.to_string())];
        let page: Value = client.get(path, &query).await?;
        if self.client.json {
            output::json(&page);
            return Ok(());
        }
        show(page["data"].as_array().map(Vec::as_slice).unwrap_or_default());
        let pages = page["pagination"]["totalPages"].as_u64().unwrap_or_default();
        if pages > 1 {
            anstream::eprintln!("{}page {} of {pages}{}", output::DIM, self.page, output::PLAIN);
        }
        Ok(())
    }
}
