//! Runs a command with `DATABASE_URL` set to a private Postgres that lives as long as the command.
//!
//! `with-postgres DATA_DIR COMMAND [ARGUMENT …]`. The cluster is for tests: it does not sync its files, and forgets nothing
//! only as long as nobody pulls the plug.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use dormouse::postgres::PrivatePostgres;
use sqlx::Connection as _;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let data = PathBuf::from(arguments.next().context("usage: with-postgres DATA_DIR COMMAND [ARGUMENT …]")?);
    let command = arguments.next().context("usage: with-postgres DATA_DIR COMMAND [ARGUMENT …]")?;
    std::fs::create_dir_all(&data)?;
    let postgres = PrivatePostgres::start(&data.canonicalize()?).await?;
    let mut connection = sqlx::PgConnection::connect(postgres.database_url()).await?;
    for statement in ["alter system set fsync = off", "alter system set max_connections = 300", "select pg_reload_conf()"] {
        sqlx::query(statement).execute(&mut connection).await?;
    }
    connection.close().await?;
    // The schema, for commands that check queries against it.
    dormouse::store::Store::connect(postgres.database_url(), 1).await?;
    let status =
        tokio::process::Command::new(command).args(arguments).env("DATABASE_URL", postgres.database_url()).status().await;
    postgres.stop().await;
    let code = status.context("running the command")?.code();
    Ok(ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}
