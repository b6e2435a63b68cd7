//! The server's settings: one struct per concern, read from flags and environment once, with defaults for a laptop.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use secrecy::SecretString;

use crate::model::{egress::Allowed, price, queue::MAX_CONCURRENCY};

/// Everything a server process is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// What this process does.
    pub role: Role,
    /// Folder for what is kept on this machine: the private cluster, blobs, compiled components, scratch files.
    pub data_dir: PathBuf,
    /// Where and how the API is reached.
    pub http: Http,
    /// Where rows are.
    pub database: Database,
    /// Where components and checkpoints are.
    pub blobs: Blobs,
    /// How runs are run.
    pub worker: Worker,
    /// What tasks may reach by HTTP, and how much they may take.
    pub egress: Egress,
    /// What makes components suspendable.
    pub rewriter: Rewriter,
    /// How much is let in.
    pub limits: Limits,
    /// How long what is over is kept.
    pub retention: Retention,
    /// What runs cost.
    pub prices: Prices,
    /// Who is let in.
    pub auth: Auth,
    /// What values in rows are encrypted with.
    pub encryption: Encryption,
    /// How the process speaks of itself.
    pub telemetry: Telemetry,
    /// Where the traces of runs go.
    pub export: Export,
}

/// What a process of `dormouse serve` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// API, worker and sweeps in one process.
    All,
    /// Answers HTTP, and sweeps.
    Api,
    /// Runs tasks, and sweeps.
    Worker,
}

impl Role {
    /// Whether the process answers HTTP.
    pub const fn serves(self) -> bool {
        matches!(self, Role::All | Role::Api)
    }

    /// Whether the process runs tasks.
    pub const fn works(self) -> bool {
        matches!(self, Role::All | Role::Worker)
    }
}

/// Where and how the API is reached.
#[derive(Debug, Clone)]
pub struct Http {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How clients reach it, for the callback addresses of tokens; none: `http://` and the address listened on.
    pub public_url: Option<String>,
}

/// Where rows are.
#[derive(Debug, Clone)]
pub struct Database {
    /// A PostgreSQL server; none: a private cluster in the data folder.
    pub url: Option<SecretString>,
    /// Most connections the process opens.
    pub max_connections: u32,
}

/// Where components and checkpoints are.
#[derive(Debug, Clone)]
pub struct Blobs {
    /// `file:///…` or `s3://bucket/prefix`; none: `blobs` in the data folder.
    pub url: Option<String>,
}

/// How runs are run.
#[derive(Debug, Clone, Args)]
pub struct Worker {
    /// Most runs in memory at a time; suspended ones do not count
    #[arg(long, env = "DORMOUSE_CONCURRENCY", value_name = "N", default_value_t = 100)]
    pub concurrency: u32,
    /// A wait shorter than this stays in memory instead of being suspended, unless every place is taken
    #[arg(long, env = "DORMOUSE_GRACE", value_name = "DURATION", default_value = "250ms", value_parser = duration)]
    pub grace: Duration,
    /// How long a run stays claimed without a sign of life from its worker, which gives three in that time; then another one goes on
    /// with it
    #[arg(long, env = "DORMOUSE_LEASE", value_name = "DURATION", default_value = "8s", value_parser = duration)]
    pub lease: Duration,
}

/// What tasks may reach by HTTP, and how much they may take. A guest is told the error code of WASI that is named.
#[derive(Debug, Clone, Args)]
pub struct Egress {
    /// What tasks may send HTTP requests to besides public addresses: address ranges such as 10.1.0.0/16, loopback, or all, with
    /// commas between; public: nothing else. Everything not public is refused otherwise. [default: public; for dev: loopback]
    #[arg(long = "allow-egress", env = "DORMOUSE_ALLOW_EGRESS", value_name = "RANGES", value_delimiter = ',')]
    pub allow: Vec<Allowed>,
    /// Requests that a run may have open at a time; one more fails: connection-limit-reached
    #[arg(
        id = "http_concurrent",
        long = "http-concurrency",
        env = "DORMOUSE_HTTP_CONCURRENCY",
        value_name = "N",
        default_value_t = 16
    )]
    pub concurrent: usize,
    /// Largest body of a request or an answer, in bytes; more fails: HTTP-request-body-size, HTTP-response-body-size
    #[arg(id = "http_body_bytes", long = "http-max-body-bytes", env = "DORMOUSE_HTTP_MAX_BODY_BYTES", value_name = "BYTES", default_value_t = 128 << 20)]
    pub body_bytes: u64,
    /// Longest time until a connection stands, its name found and its TLS agreed; a task may ask for less: connection-timeout
    #[arg(id = "http_connect", long = "http-connect-timeout", env = "DORMOUSE_HTTP_CONNECT_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub connect: Duration,
    /// Longest time from there until an answer begins; a task may ask for less: HTTP-response-timeout
    #[arg(id = "http_first_byte", long = "http-first-byte-timeout", env = "DORMOUSE_HTTP_FIRST_BYTE_TIMEOUT", value_name = "DURATION", default_value = "300s", value_parser = duration)]
    pub first_byte: Duration,
    /// Longest pause within an answer; a task may ask for less: connection-read-timeout
    #[arg(id = "http_between_bytes", long = "http-between-bytes-timeout", env = "DORMOUSE_HTTP_BETWEEN_BYTES_TIMEOUT", value_name = "DURATION", default_value = "120s", value_parser = duration)]
    pub between_bytes: Duration,
}

/// What makes components suspendable.
#[derive(Debug, Clone, Default, Args)]
pub struct Rewriter {
    /// The version that rewritten components are filed under; none: the rewriter's own. Not for users, and in no help text: with
    /// a lower one a server does to its runs, its rows and its blobs what an earlier release did, so that a test can upgrade it
    /// without having that release
    #[arg(id = "rewriter_version", long = "rewriter-version", env = "DORMOUSE_REWRITER_VERSION", hide = true)]
    pub version: Option<u32>,
}

/// Runs in line in one queue, unless told otherwise.
const MAX_QUEUED: u64 = 1_000_000;

/// How much is let in.
#[derive(Debug, Clone, Args)]
pub struct Limits {
    /// Largest bundle that may be uploaded, in bytes
    #[arg(long, env = "DORMOUSE_MAX_BUNDLE_BYTES", value_name = "BYTES", default_value_t = 128 << 20)]
    pub bundle_bytes: u64,
    /// Bundles that may be uploaded and compiled at a time; more wait
    #[arg(long, env = "DORMOUSE_MAX_DEPLOYS", value_name = "N", default_value_t = 2)]
    pub concurrent_deploys: usize,
    /// How long a request may take, uploads of bundles apart
    #[arg(long, env = "DORMOUSE_REQUEST_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub request: Duration,
    /// How long the upload, check and compilation of a bundle may take
    #[arg(long, env = "DORMOUSE_DEPLOY_TIMEOUT", value_name = "DURATION", default_value = "600s", value_parser = duration)]
    pub deploy: Duration,
    /// How long a server takes a key for good that it has just looked up: a key revoked on another server is good for so long
    #[arg(long, env = "DORMOUSE_KEYS_KNOWN_FOR", value_name = "DURATION", default_value = "1s", value_parser = duration)]
    pub keys_known_for: Duration,
    /// Requests of an environment, such as 750:25: 750 at once, and 25 more each second; more are answered 429. Each process counts
    /// by itself [default: any number]
    #[arg(long = "api-rate-limit", env = "DORMOUSE_API_RATE_LIMIT", value_name = "BURST:PER_SECOND", value_parser = rate)]
    pub api_rate: Option<Rate>,
    /// Items of the batches of an environment, such as 1200:10, counted when a batch is made; more are answered 429. Each process
    /// counts by itself [default: any number]
    #[arg(long = "batch-rate-limit", env = "DORMOUSE_BATCH_RATE_LIMIT", value_name = "BURST:PER_SECOND", value_parser = rate)]
    pub batch_rate: Option<Rate>,
    /// Requests under /api that one public token may make in a window of time, such as 60:60s, or off; more are answered 429. Each
    /// process counts by itself. They are no part of --api-rate-limit: pages cannot use up what a backend has
    #[arg(long = "token-rate-limit", env = "DORMOUSE_TOKEN_RATE_LIMIT", value_name = "REQUESTS:DURATION", default_value = "60:60s", value_parser = token_rate)]
    pub token_rate: TokenRate,
    /// Subscribers whose requests a server holds at a time until something happens: to runs, and to streams. One more is answered 429
    #[arg(long = "max-subscribers", env = "DORMOUSE_MAX_SUBSCRIBERS", value_name = "N", default_value_t = 10_000)]
    pub subscribers: usize,
    /// Runs that may be in line in one queue: further triggers are answered 422 until some have begun. 0: any number
    #[arg(long = "max-queued", env = "DORMOUSE_MAX_QUEUED", value_name = "N", default_value_t = MAX_QUEUED)]
    pub queued: u64,
    /// The same in environments for development [default: as in others]
    #[arg(long = "max-queued-dev", env = "DORMOUSE_MAX_QUEUED_DEV", value_name = "N")]
    pub queued_dev: Option<u64>,
    /// Runs that may execute at the same time in an environment that is made from now on; `dormouse limits environment` changes it
    /// [default: any number]
    #[arg(long = "environment-limit", env = "DORMOUSE_ENVIRONMENT_LIMIT", value_name = "N",
        value_parser = clap::value_parser!(u32).range(..=i64::from(MAX_CONCURRENCY)))]
    pub environment: Option<u32>,
}

/// So many at once, and so many more each second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Most at once, 1 or more.
    pub burst: u32,
    /// By which the rest grows, above 0.
    pub per_second: f64,
}

/// How often one public token may ask. Source: facts 4.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenRate {
    /// As often as its environment.
    Off,
    /// So often, whatever its environment does.
    Window {
        /// 1 or more.
        requests: u32,
        /// From the first of them on; a second at least.
        length: Duration,
    },
}

impl Default for TokenRate {
    fn default() -> Self {
        TokenRate::Window { requests: 60, length: Duration::from_secs(60) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bundle_bytes: 128 << 20,
            concurrent_deploys: 2,
            request: Duration::from_secs(30),
            deploy: Duration::from_secs(600),
            keys_known_for: Duration::from_secs(1),
            api_rate: None,
            batch_rate: None,
            token_rate: TokenRate::default(),
            subscribers: 10_000,
            queued: MAX_QUEUED,
            queued_dev: None,
            environment: None,
        }
    }
}

/// How long what is over is kept.
#[derive(Debug, Clone, Args)]
pub struct Retention {
    /// How long a run is kept after its end, with its attempts, its batch and what it waited for: a number of days such as 90d, at
    /// least 1d, or forever. Logs and events are kept for 30 days at most
    #[arg(id = "keep_runs", long = "keep-runs", env = "DORMOUSE_KEEP_RUNS", value_name = "DAYS", default_value = "30d", value_parser = keep)]
    pub runs: Keep,
}

/// For how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// So long.
    For(Duration),
    /// Without end.
    Forever,
}

impl Keep {
    /// How long, if there is an end.
    pub const fn limit(self) -> Option<Duration> {
        match self {
            Keep::For(limit) => Some(limit),
            Keep::Forever => None,
        }
    }
}

/// What runs cost, in cents. Only shown: nobody is charged, and nothing is refused for it. What is kept is CPU time by machine, so
/// another price holds for earlier runs, too. All processes of a server should have the same. Source: facts M1, M2.
#[derive(Debug, Clone, Default, Args)]
pub struct Prices {
    /// Cents that a second of a run's CPU time costs, for each vCPU of its machine
    #[arg(long = "cents-per-vcpu-second", env = "DORMOUSE_CENTS_PER_VCPU_SECOND", value_name = "CENTS", default_value_t = 0.0, value_parser = cents)]
    pub cents_per_vcpu_second: f64,
    /// Cents that a second of a run's CPU time costs, for each GB of memory of its machine
    #[arg(long = "cents-per-gb-ram-second", env = "DORMOUSE_CENTS_PER_GB_RAM_SECOND", value_name = "CENTS", default_value_t = 0.0, value_parser = cents)]
    pub cents_per_gb_ram_second: f64,
    /// Cents that a run costs as such, once it has begun
    #[arg(long = "cents-per-run", env = "DORMOUSE_CENTS_PER_RUN", value_name = "CENTS", default_value_t = 0.0, value_parser = cents)]
    pub cents_per_run: f64,
}

impl Prices {
    /// The price table.
    pub fn table(&self) -> price::Prices {
        price::Prices {
            per_vcpu_second: self.cents_per_vcpu_second,
            per_gb_second: self.cents_per_gb_ram_second,
            per_run: self.cents_per_run,
        }
    }
}

/// Who is let in.
#[derive(Debug, Clone)]
pub struct Auth {
    /// Root keys of environments, which are made with them; a key says for which. None: one for production is made up when the
    /// database is new.
    pub secret_keys: Vec<SecretString>,
    /// The first project's public reference, `proj_…`.
    pub project_ref: String,
}

/// What values in rows are encrypted with: the environment variables of tasks. Each key is 32 bytes, as 64 hexadecimal digits or
/// in base64.
#[derive(Debug, Clone, Default, Args)]
pub struct Encryption {
    /// The key that environment variables of tasks are encrypted with in the database: 32 bytes, as 64 hexadecimal digits or in
    /// base64. All processes of a server need it [default: none, and no variables can be set; for dev: made up and kept in the
    /// data folder]
    #[arg(
        id = "encryption_key",
        long = "encryption-key",
        env = "DORMOUSE_ENCRYPTION_KEY",
        value_name = "KEY",
        hide_env_values = true
    )]
    pub key: Option<SecretString>,
    /// Further keys that variables may be encrypted with, with commas between; at start they are encrypted anew with the one
    /// above. For a change of keys
    #[arg(long, env = "DORMOUSE_DECRYPTION_KEYS", value_name = "KEYS", value_delimiter = ',', hide_env_values = true)]
    pub decryption_keys: Vec<SecretString>,
}

/// How the process speaks of itself.
#[derive(Debug, Clone, Args)]
pub struct Telemetry {
    /// What is logged, as in info,dormouse::worker=debug
    #[arg(long, env = "DORMOUSE_LOG", value_name = "FILTER", default_value = "info,sqlx=warn")]
    pub log: String,
    /// How it is written
    #[arg(long, env = "DORMOUSE_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// Where the traces of runs go.
#[derive(Debug, Clone, Default, Args)]
pub struct Export {
    /// OpenTelemetry collector that the traces of runs are sent to once they are over, by OTLP over HTTP, such as
    /// http://collector:4318; /v1/traces is added unless it is there [default: none]
    #[arg(
        id = "otlp_endpoint",
        long = "otlp-endpoint",
        env = "DORMOUSE_OTLP_ENDPOINT",
        value_name = "URL",
        hide_env_values = true
    )]
    pub endpoint: Option<String>,
    /// Headers of these requests, as name=value with commas between, such as a key that the collector asks for
    #[arg(
        id = "otlp_headers",
        long = "otlp-headers",
        env = "DORMOUSE_OTLP_HEADERS",
        value_name = "NAME=VALUE",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub headers: Vec<SecretString>,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// `250ms`, `10s`, `5m`, `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("write a number and a unit: 250ms, 10s, 5m, 1h".into()),
    };
    let number: u64 = number.parse().map_err(|_| "write a number and a unit: 250ms, 10s, 5m, 1h".to_owned())?;
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(|| "too long".into())
}

/// `90d`, `forever`
fn keep(text: &str) -> Result<Keep, String> {
    if text == "forever" {
        return Ok(Keep::Forever);
    }
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok()).filter(|days| (1..=36_500).contains(days));
    let days = days.ok_or("write a number of days from 1d to 36500d, or forever")?;
    Ok(Keep::For(Duration::from_secs(u64::from(days) * 24 * 60 * 60)))
}

/// `750:25`
fn rate(text: &str) -> Result<Rate, String> {
    let parsed = text.split_once(':').and_then(|(burst, per_second)| {
        let (burst, per_second) = (burst.parse().ok()?, per_second.parse().ok()?);
        (burst >= 1 && (0.001..=1e6).contains(&per_second)).then_some(Rate { burst, per_second })
    });
    parsed.ok_or_else(|| "write how many at once and how many each second, such as 750:25".into())
}

/// `60:60s` or `off`
fn token_rate(text: &str) -> Result<TokenRate, String> {
    if text == "off" {
        return Ok(TokenRate::Off);
    }
    let parsed = text.split_once(':').and_then(|(requests, length)| {
        let (requests, length) = (requests.parse().ok()?, duration(length).ok()?);
        let in_range = Duration::from_secs(1)..=Duration::from_secs(86_400);
        (requests >= 1 && in_range.contains(&length)).then_some(TokenRate::Window { requests, length })
    });
    parsed.ok_or_else(|| "write how many requests in how long, 1s to 24h, such as 60:60s, or off".into())
}

/// `0.0034`
fn cents(text: &str) -> Result<f64, String> {
    let cents = text.parse::<f64>().ok().filter(|cents| (0.0..=1e6).contains(cents));
    cents.ok_or_else(|| "write a number of cents from 0 to 1000000, such as 0.0034".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokens_rate_has_a_number_and_a_span_or_is_off() {
        let window = |requests, secs| Ok(TokenRate::Window { requests, length: Duration::from_secs(secs) });
        assert_eq!(token_rate("60:60s").as_ref(), Ok(&TokenRate::default()), "as it is unless said otherwise");
        assert_eq!((token_rate("5:1s"), token_rate("1:24h")), (window(5, 1), window(1, 86_400)));
        assert_eq!(token_rate("off"), Ok(TokenRate::Off));
        for text in ["", "60", "0:60s", "60:0s", "60:500ms", "60:25h", "-1:60s", "60:60", "on"] {
            assert!(token_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_have_a_number_and_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        for text in ["", "5", "s", "-1s", "1.5s", "1d", "99999999999999999999s", "9999999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_price_is_a_number_of_cents_that_nobody_gets_back() {
        assert_eq!((cents("0"), cents("0.0034")), (Ok(0.0), Ok(0.0034)));
        for text in ["", "-1", "NaN", "inf", "1e7", "2c"] {
            assert!(cents(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_over_is_kept_for_days_or_for_ever() {
        assert_eq!(keep("30d").unwrap().limit(), Some(Duration::from_secs(2_592_000)));
        assert_eq!(keep("forever").unwrap().limit(), None);
        for text in ["", "0d", "12h", "-1d", "1.5d", "36501d", "never"] {
            assert!(keep(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_rate_has_a_burst_and_a_growth() {
        assert_eq!(rate("750:25"), Ok(Rate { burst: 750, per_second: 25.0 }));
        assert_eq!(rate("1:0.5"), Ok(Rate { burst: 1, per_second: 0.5 }));
        for text in ["", "750", "0:1", "1:0", "1:-1", "1:NaN", "-1:1", "1:1:1", "off"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn secrets_do_not_show_when_settings_are_printed() {
        let auth = Auth { secret_keys: vec!["tr_dev_secret".into()], project_ref: "proj_1".into() };
        assert!(!format!("{auth:?}").contains("tr_dev_secret"));
    }
}
