//! `dormouse serve`: one process of a production server.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use secrecy::{ExposeSecret, SecretString};

use super::usage;
use crate::{
    app, auth,
    config::{
        Auth, Blobs, Config, Database, Egress, Encryption, Export, Http, Limits, Prices, Retention, Rewriter, Role, Telemetry,
        Worker,
    },
    telemetry,
};

/// Arguments of `dormouse serve`.
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// The PostgreSQL server (15 or newer); its schema is brought up to date at start
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    database_url: SecretString,
    /// Most connections to the database
    #[arg(long, value_name = "N", env = "DORMOUSE_DATABASE_CONNECTIONS", default_value_t = 20)]
    database_connections: u32,
    /// Where bundles and checkpoints are kept: file:///… or s3://bucket/prefix; shared by all processes of a server
    #[arg(long, value_name = "URL", env = "DORMOUSE_BLOBS")]
    blobs: Option<String>,
    /// Folder for what this machine alone needs: compiled components, scratch files, and blobs if no --blobs is given
    #[arg(long, value_name = "FOLDER", env = "DORMOUSE_DATA_DIR", default_value = "/var/lib/dormouse")]
    data_dir: PathBuf,
    /// What this process does
    #[arg(long, env = "DORMOUSE_ROLE", default_value = "all")]
    role: Role,
    /// Address of the API
    #[arg(long, value_name = "ADDRESS", env = "DORMOUSE_LISTEN", default_value = "0.0.0.0:3030")]
    listen: SocketAddr,
    /// How clients reach the API, for the callback addresses of tokens
    #[arg(long, value_name = "URL", env = "DORMOUSE_PUBLIC_URL")]
    public_url: Option<String>,
    /// Secret keys of environments, with commas between: tr_dev_, tr_stg_, tr_preview_ or tr_prod_ and 40 letters and digits. Each
    /// makes its environment. A key that was rotated or revoked stays so [default: one of prod, made up if the database is new]
    #[arg(long = "secret-key", value_name = "KEYS", env = "DORMOUSE_SECRET_KEY", value_delimiter = ',', hide_env_values = true)]
    secret_keys: Vec<SecretString>,
    /// Reference of the project
    #[arg(long, value_name = "REF", env = "DORMOUSE_PROJECT_REF", default_value = "proj_default")]
    project_ref: String,
    #[command(flatten)]
    encryption: Encryption,
    #[command(flatten)]
    worker: Worker,
    #[command(flatten)]
    egress: Egress,
    #[command(flatten)]
    rewriter: Rewriter,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    retention: Retention,
    #[command(flatten)]
    prices: Prices,
    #[command(flatten)]
    telemetry: Telemetry,
    #[command(flatten)]
    export: Export,
}

impl Serve {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        telemetry::init(&self.telemetry)?;
        if self.secret_keys.iter().any(|key| auth::environment_kind(key.expose_secret()).is_none()) {
            return Err(usage(
                "a secret key must be tr_dev_, tr_stg_, tr_preview_ or tr_prod_ and at least 16 letters and digits",
            ));
        }
        let config = Config {
            role: self.role,
            data_dir: self.data_dir,
            http: Http { listen: self.listen, public_url: self.public_url.map(|url| url.trim_end_matches('/').to_owned()) },
            database: Database { url: Some(self.database_url), max_connections: self.database_connections },
            blobs: Blobs { url: self.blobs },
            worker: self.worker,
            egress: self.egress,
            rewriter: self.rewriter,
            limits: self.limits,
            retention: self.retention,
            prices: self.prices,
            auth: Auth { secret_keys: self.secret_keys, project_ref: self.project_ref },
            encryption: self.encryption,
            telemetry: self.telemetry,
            export: self.export,
        };
        app::run(config, |ready| {
            tracing::info!(url = ready.api_url, project = ready.project_ref, "ready");
            Ok(())
        })
        .await
    }
}
