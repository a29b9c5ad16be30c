//! `streamgauge simulate`: an OpenAI-style upstream that generates its responses.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use clap::Args;
use rustls::ServerConfig;

use super::FAILED;
use super::stop_signals::StopSignals;
use crate::app::open_files::{make_room, raise_limit};
use crate::app::{advice, preflight};
use crate::simulator::{self, HELP, SimulatorSettings};
use crate::tls::{ClientCertificates, IdentitySource, ServerSettings, Source, Watch};

/// Files of a worker: its socket, and its runtime's.
const FILES_PER_WORKER: u64 = 5;

/// Files for a few connections, without which a start is useless.
const SPARE_FILES: u64 = 8;

/// Options of `simulate`.
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(super) struct SimulateArgs {
    /// The address to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    /// Threads; 0 means one for each CPU that this process may use
    #[arg(long, value_name = "N", default_value_t = 0)]
    workers: usize,
    /// The key that requests must have, as `Authorization: Bearer KEY` or `api-key: KEY`
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// The account whose ids it makes: it refuses responses, items and files of other accounts [default: it
    /// accepts any id]
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Serve through TLS, with this certificate (PEM) and its issuers'
    #[arg(long, value_name = "FILE", requires = "private_key")]
    certificate: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, value_name = "FILE", requires = "certificate")]
    private_key: Option<PathBuf>,
    /// Append the x-simulate-id of each executed request to this file, a line each
    #[arg(long, value_name = "FILE")]
    executions: Option<PathBuf>,
}

/// Runs it until Ctrl-C or SIGTERM.
pub(super) fn run(args: &SimulateArgs) -> ExitCode {
    match simulate(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say!("simulate: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn simulate(args: &SimulateArgs) -> Result<(), String> {
    let tls = tls(args)?;
    let workers = match args.workers {
        0 => thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    preflight::files(FILES_PER_WORKER * (workers as u64 + 1) + SPARE_FILES)?;
    preflight::threads(workers)?;
    // The command is meant for thousands of idle streams. If the limit cannot be raised, the system
    // reports it at a connection.
    make_room(raise_limit());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let mut signals = runtime.block_on(async { StopSignals::listen() }).map_err(|error| error.to_string())?;
    let settings = SimulatorSettings { listen: args.listen, workers, api_key: args.api_key.clone() };
    let bound = simulator::bind(&settings);
    let mut bound = bound.map_err(|error| advice::address("--listen", args.listen, &error))?;
    let address = bound.address();
    let scheme = if tls.is_some() { "https" } else { "http" };
    if let Some(tls) = tls {
        bound = bound.with_tls(tls);
    }
    if let Some(account) = &args.account {
        bound = bound.with_account(account);
    }
    if let Some(path) = &args.executions {
        let file = File::options().create(true).append(true).open(path);
        let file = file.map_err(|error| format!("--executions {}: {error}", path.display()))?;
        bound = bound.with_executions(file);
    }
    let running = bound.spawn();
    say!(
        "simulate: listening on {scheme}://{address}/v1; `streamgauge simulate --help` says what requests can ask for"
    );
    let name = runtime.block_on(signals.next());
    say!("simulate: {name}");
    running.stop();
    Ok(())
}

fn tls(args: &SimulateArgs) -> Result<Option<Arc<ServerConfig>>, String> {
    let (Some(certificate), Some(private_key)) = (&args.certificate, &args.private_key) else {
        return Ok(None);
    };
    let identity = IdentitySource {
        certificate: Source::File(certificate.clone()),
        private_key: Source::File(private_key.clone()),
        passphrase: None,
    };
    let settings =
        ServerSettings { identity, client_ca: Vec::new(), client_certificates: ClientCertificates::Optional };
    let live = Watch::default().server(&settings).map_err(|fault| fault.to_string())?;
    Ok(Some(Arc::clone(&live.load().config)))
}
