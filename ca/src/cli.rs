//! The command line: `run`, `token`, `status`. The only place that reads the environment and handles signals.
//!
//! Exit codes: 0 fine, 1 failed while running, 2 a bad command line, setting, key, store or token.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use portcullis_identity::{Clock, IdDefect, SpiffeId, TrustDomain, Workload};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use zeroize::Zeroizing;

use crate::authority::{Authority, AuthorityError, check_key};
use crate::issue::{TokenError, create_token};
use crate::seal::{KeyError, SealingKey};
use crate::server::{ServeError, serve};
use crate::settings::{GivenRoot, Lives, Settings, SettingsError, parse_life};
use crate::status::Human;
use crate::store::{Store, StoreError, StoreLock};

const KEY_VARIABLE: &str = "PORTCULLIS_CA_KEY";

/// The certificate authority of Portcullis.
#[derive(Parser)]
#[command(name = "portcullis-ca", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve: issue certificates and stream trust bundles. The first start makes the store and the authority.
    Run(RunArgs),
    /// Make a join token for one workload and print it.
    Token(TokenArgs),
    /// Show authorities, leaves and tokens.
    Status(StatusArgs),
}

#[derive(Args)]
struct StoreArgs {
    /// The store, an SQLite file
    #[arg(long, value_name = "FILE")]
    store: PathBuf,
    /// The key that encrypts private keys in the store, made at the first start (else PORTCULLIS_CA_KEY)
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

#[derive(Args)]
struct RunArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// What to log, as JSON lines on stderr: error, warn, info, debug, or a filter such as portcullis_ca=debug
    #[arg(long, value_name = "FILTER", env = "PORTCULLIS_LOG", default_value = "info")]
    log: String,
    /// Whom the authority vouches for
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    trust_domain: TrustDomain,
    /// Where to serve; port 0 takes a free one, see the `ready` line
    #[arg(long, value_name = "ADDR:PORT")]
    listen: SocketAddr,
    /// Life of a workload's certificate, from 3s to 90d
    #[arg(long, value_name = "LIFE", default_value = "24h", value_parser = parse_life)]
    leaf_life: Duration,
    /// Life of an intermediate, at least six leaf lives
    #[arg(long, value_name = "LIFE", default_value = "30d", value_parser = parse_life)]
    intermediate_life: Duration,
    /// Life of a root made at first start, at least six leaf lives
    #[arg(long, value_name = "LIFE", default_value = "3650d", value_parser = parse_life)]
    root_life: Duration,
    /// A root to start from instead of a fresh one, with at least six leaf lives left
    #[arg(long, value_name = "PEM", requires = "root_key")]
    root_cert: Option<PathBuf>,
    /// The private key of --root-cert
    #[arg(long, value_name = "PEM", requires = "root_cert")]
    root_key: Option<PathBuf>,
}

#[derive(Args)]
struct TokenArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The one identity that the token is good for
    #[arg(long, value_name = "spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT", value_parser = parse_workload)]
    identity: Workload,
    /// How long the token can be used, from 1s to 30d
    #[arg(long, value_name = "LIFE", default_value = "10m", value_parser = parse_life)]
    ttl: Duration,
}

#[derive(Args)]
struct StatusArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Human,
    Json,
}

/// Everything that ends the program.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("{source} (given: {} and {})", certificate.display(), key.display())]
    Root { certificate: PathBuf, key: PathBuf, source: SettingsError },
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(
        "--log {filter:?} is not a log filter: {source}; write a level such as info, or portcullis_ca=debug"
    )]
    Log { filter: String, source: ParseError },
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot listen on {address}: {source}; make way there, or choose another with --listen")]
    Listen { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
    #[error("the status cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        Self::Authority(error.into())
    }
}

impl CliError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Listen { .. } | Self::Serve(_) | Self::System { .. } | Self::Json(_) => ExitCode::from(1),
            Self::Settings(_)
            | Self::Root { .. }
            | Self::Key(_)
            | Self::Authority(_)
            | Self::Token(_)
            | Self::Log { .. }
            | Self::Read { .. } => ExitCode::from(2),
        }
    }
}

/// Runs the command line that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(source) => return fail(&CliError::System { what: "cannot start", source }),
    };
    let done = runtime.block_on(async {
        match cli.command {
            Command::Run(args) => run(args).await,
            Command::Token(args) => token(args).await,
            Command::Status(args) => status(args).await,
        }
    });
    done.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

fn fail(error: &CliError) -> ExitCode {
    // Nobody is left to tell when stderr is gone.
    let _ = writeln!(io::stderr(), "portcullis-ca: {error}");
    error.exit_code()
}

async fn run(args: RunArgs) -> Result<(), CliError> {
    let filter =
        EnvFilter::try_new(&args.log).map_err(|source| CliError::Log { filter: args.log.clone(), source })?;
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_writer(io::stderr)
        .with_env_filter(filter)
        .init();
    let clock = Clock::system();
    let lives = Lives::new(args.leaf_life, args.intermediate_life, args.root_life)?;
    let given_root = match (&args.root_cert, &args.root_key) {
        (Some(certificate), Some(key)) => {
            let texts = (read(certificate)?, read(key)?);
            let root = GivenRoot::from_pem(&texts.0, &texts.1, &args.trust_domain, &lives, &clock);
            let (certificate, key) = (certificate.clone(), key.clone());
            Some(root.map_err(|source| CliError::Root { certificate, key, source })?)
        }
        _ => None,
    };
    let shutdown = on_signal()?;
    let path = &args.store.store;
    let lock = StoreLock::acquire(path)?;
    let key = key(&args.store, !Store::exists(path)?)?;
    let settings = Settings { trust_domain: args.trust_domain, lives, given_root };
    let authority = Arc::new(Authority::open(path, lock, key, settings, clock).await?);
    let address = args.listen;
    let listener = TcpListener::bind(address).await.map_err(|source| CliError::Listen { address, source })?;
    let served = serve(listener, Arc::clone(&authority), shutdown).await;
    authority.store().close().await;
    Ok(served?)
}

async fn token(args: TokenArgs) -> Result<(), CliError> {
    let path = &args.store.store;
    let key = key(&args.store, false)?;
    let store = Store::open(path, None).await?;
    let made = async {
        check_key(&store, &key, path).await?;
        Ok::<_, CliError>(create_token(&store, &args.identity, args.ttl, Clock::system().now()).await?)
    };
    let made = made.await;
    // Closed in either case, so that no log is left beside the store.
    store.close().await;
    print(&made?.to_text())
}

async fn status(args: StatusArgs) -> Result<(), CliError> {
    let now = Clock::system().now();
    let path = &args.store.store;
    // The status holds no secret: a key is not needed, but one that is given must fit.
    let key = args.store.key_file.is_some().then(|| key(&args.store, false)).transpose()?;
    let store = Store::open(path, None).await?;
    let read = async {
        if let Some(key) = &key {
            check_key(&store, key, path).await?;
        }
        Ok::<_, CliError>(store.status(now).await?)
    };
    let read = read.await;
    store.close().await;
    let status = read?;
    match args.output {
        Output::Human => print(Human { status: &status, now }.to_string().trim_end()),
        Output::Json => print(&serde_json::to_string_pretty(&status)?),
    }
}

/// The sealing key from the file or else the variable. `may_make`: there is no store yet, so a missing file is made.
fn key(args: &StoreArgs, may_make: bool) -> Result<SealingKey, CliError> {
    let Some(path) = &args.key_file else {
        #[allow(clippy::disallowed_methods, reason = "the command line reads the environment")]
        let text = std::env::var(KEY_VARIABLE).map(Zeroizing::new).map_err(|_| KeyError::None)?;
        return Ok(SealingKey::from_base64(&text, KEY_VARIABLE)?);
    };
    match SealingKey::load(path) {
        Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            if may_make {
                return Ok(SealingKey::create(path)?);
            }
            if !Store::exists(&args.store)? {
                return Err(StoreError::Missing(args.store.clone()).into());
            }
            Err(KeyError::Missing { path: path.clone(), store: args.store.clone() }.into())
        }
        loaded => Ok(loaded?),
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, CliError> {
    std::fs::read(path).map(Zeroizing::new).map_err(|source| CliError::Read { path: path.to_owned(), source })
}

fn print(text: &str) -> Result<(), CliError> {
    writeln!(io::stdout(), "{text}").map_err(|source| CliError::System { what: "cannot write", source })
}

/// Cancelled by SIGTERM or SIGINT.
fn on_signal() -> Result<CancellationToken, CliError> {
    let catch =
        |kind| signal(kind).map_err(|source| CliError::System { what: "cannot catch signals", source });
    let (mut terminate, mut interrupt): (Signal, Signal) =
        (catch(SignalKind::terminate())?, catch(SignalKind::interrupt())?);
    let shutdown = CancellationToken::new();
    let guard = shutdown.clone().drop_guard();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        drop(guard);
    });
    Ok(shutdown)
}

fn parse_workload(text: &str) -> Result<Workload, IdDefect> {
    SpiffeId::parse(text)?.try_into()
}
