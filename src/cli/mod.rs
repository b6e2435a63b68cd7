//! The command line. Every command but `dev` and `serve` is an ordinary client of the HTTP API.
//!
//! Exit codes: 0 done, 1 failed, 2 asked for in a wrong way. Results go to standard output, everything else to standard error.

mod access;
mod build;
mod client;
mod deploy;
mod deployments;
mod dev;
mod dotenv;
mod env;
mod keys;
mod limits;
mod output;
mod pages;
mod queues;
mod runs;
mod schedules;
mod serve;
mod tokens;
mod traces;
mod trigger;
mod whoami;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// A command that was asked for in a wrong way, found out only while running it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

fn usage(message: impl Into<String>) -> anyhow::Error {
    Usage(message.into()).into()
}

/// Durable background tasks: WebAssembly whose memory and call stack sleep in a snapshot while they wait.
#[derive(Debug, Parser)]
#[command(name = "dormouse", version, about, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a server for development: API, worker and a private PostgreSQL
    #[command(after_help = "Example:\n  dormouse dev --port 3030")]
    Dev(dev::Dev),
    /// Start a server for production
    #[command(
        after_help = "Example:\n  dormouse serve --database-url postgres://dormouse@db/dormouse --blobs s3://bucket/dormouse"
    )]
    Serve(serve::Serve),
    /// Upload a bundle, building it first if given a project folder
    #[command(
        after_help = "Examples:\n  dormouse deploy target/wasm32-wasip2/release/hello.wasm\n  dormouse deploy examples/hello"
    )]
    Deploy(deploy::Deploy),
    /// Look at versions, promote one, go back to the one before
    #[command(subcommand, after_help = "Example:\n  dormouse deployments rollback --env prod")]
    Deployments(deployments::Deployments),
    /// Set the environment variables of tasks
    #[command(
        subcommand,
        after_help = "Examples:\n  dormouse env set GREETING=Hello\n  dormouse env import .env.production --env prod"
    )]
    Env(env::Env),
    /// Make, rotate and revoke the keys of an environment
    #[command(subcommand, after_help = "Example:\n  dormouse keys create ci --expires 90d")]
    Keys(keys::Keys),
    /// Start a run of a task
    #[command(after_help = "Examples:\n  dormouse trigger hello --payload '{\"name\":\"Ada\"}' --follow\n  \
                            dormouse trigger report --payload @report.json --delay 1h --tag nightly")]
    Trigger(Box<trigger::Trigger>),
    /// Look at runs, cancel and repeat them, read what they log and did
    #[command(subcommand, after_help = "Example:\n  dormouse runs list --status FAILED,CRASHED --limit 5")]
    Runs(runs::Runs),
    /// Start tasks by the clock
    #[command(
        subcommand,
        after_help = "Example:\n  dormouse schedules create report '0 9 * * 1-5' --timezone Europe/Berlin --key report-daily"
    )]
    Schedules(schedules::Schedules),
    /// Look at queues, pause them, set their limits
    #[command(subcommand, after_help = "Example:\n  dormouse queues limit task/report 5")]
    Queues(queues::Queues),
    /// Look at concurrency limits, pause them, set their bounds
    #[command(subcommand, after_help = "Example:\n  dormouse limits set openai --total 3")]
    Limits(limits::Limits),
    /// Make and complete the tokens that runs wait for
    #[command(subcommand, after_help = "Example:\n  dormouse tokens create --timeout 1d --tag order:17")]
    Tokens(tokens::Tokens),
    /// Show which server and environment the commands talk to
    #[command(after_help = "Example:\n  dormouse whoami --json")]
    Whoami(whoami::Whoami),
}

/// What every command that prints data takes.
#[derive(Debug, Clone, Args)]
struct Client {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: access::Access,
}

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            anstream::eprintln!("dormouse: could not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(arguments.command)) {
        Ok(code) => code,
        Err(error) => {
            anstream::eprintln!("{}error:{} {error:#}", output::RED, output::PLAIN);
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Dev(dev) => dev.run().await.map(|()| ExitCode::SUCCESS),
        Command::Serve(serve) => serve.run().await.map(|()| ExitCode::SUCCESS),
        Command::Deploy(deploy) => deploy.run().await,
        Command::Deployments(deployments) => deployments.run().await.map(|()| ExitCode::SUCCESS),
        Command::Env(env) => env.run().await.map(|()| ExitCode::SUCCESS),
        Command::Keys(keys) => keys.run().await.map(|()| ExitCode::SUCCESS),
        Command::Trigger(trigger) => trigger.run().await,
        Command::Runs(runs) => runs.run().await,
        Command::Schedules(schedules) => schedules.run().await.map(|()| ExitCode::SUCCESS),
        Command::Queues(queues) => queues.run().await.map(|()| ExitCode::SUCCESS),
        Command::Limits(limits) => limits.run().await.map(|()| ExitCode::SUCCESS),
        Command::Tokens(tokens) => tokens.run().await.map(|()| ExitCode::SUCCESS),
        Command::Whoami(whoami) => whoami.run().await.map(|()| ExitCode::SUCCESS),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_command_has_an_example() {
        let command = Arguments::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands() {
            let after = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains("Example"), "{} has no example", sub.get_name());
        }
    }
}
