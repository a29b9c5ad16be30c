//! `streamgauge health`: requests the health of the process that runs with this configuration from
//! its admin port. It is for probes in images without a shell and curl.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::admin_client::{AdminClient, NOT_THERE, Response, is_not_there};
use super::{FAILED, WRONG};
use crate::config::{self, Overrides, Sources};
use crate::support::ListenAddress;

/// The longest wait for a connection, and for each piece of the response.
const PATIENCE: Duration = Duration::from_secs(5);

/// Options of `health`.
#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    #[arg(skip)]
    pub(super) config: Option<PathBuf>,
    /// Check that it can take requests (/readyz), not only that it runs (/healthz)
    #[arg(long)]
    ready: bool,
    /// The address of the admin port, instead of the configuration's
    #[arg(long, value_name = "ADDR")]
    address: Option<ListenAddress>,
}

/// Prints the response's body. Any other status than 200, and errors, go to stderr.
pub(super) fn run(args: &HealthArgs) -> ExitCode {
    let sources =
        Sources { file: args.config.clone(), env: config::environment(), overrides: Overrides::default() };
    let client = match AdminClient::find(&sources, args.address.clone(), PATIENCE) {
        Ok(Some(client)) => client,
        Ok(None) => {
            say!("health: admin.listen is \"\": this configuration has no admin port");
            return ExitCode::from(FAILED);
        }
        Err(mistakes) => {
            say!("{mistakes}");
            return ExitCode::from(WRONG);
        }
    };
    let path = if args.ready { "/readyz" } else { "/healthz" };
    let address = &client.address;
    match client.send("GET", path, "") {
        Ok(Response { status: 200, body }) => match io::stdout().write_all(body.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => super::output::unwritten(&error, 0),
        },
        Ok(Response { status, body }) => {
            say!("health: {address}{path}: status {status}\n{}", body.trim_end());
            ExitCode::from(FAILED)
        }
        Err(error) => {
            say!("health: {address}{path}: {error}");
            if args.address.is_none() && is_not_there(&error) {
                say!("{NOT_THERE}");
            }
            ExitCode::from(FAILED)
        }
    }
}
