//! `streamgauge simulate`: an OpenAI-style upstream that answers from nothing.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;

use super::FAILED;
use super::signals::Signals;
use crate::simulator::{self, HELP, SimulatorSettings};

/// Options of `simulate`.
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(super) struct SimulateArgs {
    /// The address to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    /// Threads; 0 is one for each CPU that this process may use
    #[arg(long, value_name = "N", default_value_t = 0)]
    workers: usize,
    /// The key that requests must have, as `Authorization: Bearer KEY` or `api-key: KEY`
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
}

/// Runs it until Ctrl-C or SIGTERM.
pub(super) fn run(args: &SimulateArgs) -> ExitCode {
    match simulate(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("simulate: {}: {error}", args.listen);
            ExitCode::from(FAILED)
        }
    }
}

fn simulate(args: &SimulateArgs) -> std::io::Result<()> {
    // Thousands of idle streams are what it is for. Where the limit stays, the system says so at the connection.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut signals = runtime.block_on(async { Signals::listen() })?;
    let settings =
        SimulatorSettings { listen: args.listen, workers: args.workers, api_key: args.api_key.clone() };
    let bound = simulator::bind(&settings)?;
    let address = bound.address();
    let running = bound.spawn();
    eprintln!(
        "simulate: listening on http://{address}/v1; `streamgauge simulate --help` says what requests can ask for"
    );
    let name = runtime.block_on(signals.next());
    eprintln!("simulate: {name}");
    running.stop();
    Ok(())
}
