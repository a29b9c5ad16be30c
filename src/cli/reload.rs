//! `streamgauge reload`: makes the process that runs with this configuration read it again.
//!
//! Exit status: 0 it is in use or has not changed, 2 it is refused, with the mistakes on stderr, 1
//! the process cannot be reached or refuses this command.
//!
//! The address and the token are those of the present file. A file that is not TOML does not
//! contain them reliably, so that no request is sent.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::admin_client::{AdminClient, NOT_THERE, Response, is_not_there};
use super::{FAILED, WRONG};
use crate::config::{self, Overrides, Sources};
use crate::support::ListenAddress;
use crate::support::secret::Secret;

/// The longest wait for a connection, and for each piece of the response. A large configuration
/// takes a moment to read.
const PATIENCE: Duration = Duration::from_secs(30);

const CHANGED_TOKEN: &str =
    "if admin.token has changed, the process knows the earlier one: send it SIGHUP, which needs no token";

const SIGNAL: &str = "SIGHUP needs no address";

/// Options of `reload`.
#[derive(Debug, Args)]
pub(super) struct ReloadArgs {
    #[arg(skip)]
    pub(super) config: Option<PathBuf>,
    /// The address of the admin port, instead of the configuration's
    #[arg(long, value_name = "ADDR")]
    address: Option<ListenAddress>,
}

pub(super) fn run(args: &ReloadArgs) -> ExitCode {
    let sources =
        Sources { file: args.config.clone(), env: config::environment(), overrides: Overrides::default() };
    // An address says which process is meant.
    if args.address.is_none()
        && let Err(mistakes) = config::check_file(&sources)
    {
        say!("{mistakes}");
        return ExitCode::from(WRONG);
    }
    let client = match AdminClient::find(&sources, args.address.clone(), PATIENCE) {
        Ok(Some(client)) => client,
        Ok(None) => {
            say!("reload: admin.listen is \"\": send SIGHUP to the process instead");
            return ExitCode::from(FAILED);
        }
        Err(mistakes) => {
            say!("{mistakes}");
            return ExitCode::from(WRONG);
        }
    };
    let token = config::load_admin_token(&sources);
    let token = token.as_ref().map(Secret::expose);
    let headers = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let address = &client.address;
    match client.send("POST", "/config/reload", &headers) {
        Ok(Response { status: 200, body }) => {
            if let late @ 1.. = late_workers(&body) {
                say!(
                    "reload: workers that are busy, and use the earlier configuration until they are idle: {late}"
                );
            }
            match io::stdout().write_all(body.as_bytes()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => super::output::unwritten(&error, 0),
            }
        }
        Ok(Response { status: 422, body }) => {
            say!("{}", message(&body));
            ExitCode::from(WRONG)
        }
        Ok(Response { status, body }) => {
            say!("reload: {address}: status {status}: {}", message(&body));
            if status == 401 {
                say!("{CHANGED_TOKEN}");
            }
            ExitCode::from(FAILED)
        }
        Err(error) => {
            say!("reload: {address}: {error}");
            if args.address.is_none() && is_not_there(&error) {
                say!("{NOT_THERE}; {SIGNAL}");
            }
            ExitCode::from(FAILED)
        }
    }
}

/// The number of workers that did not adopt the configuration in time.
fn late_workers(body: &str) -> u64 {
    let value = serde_json::from_str::<serde_json::Value>(body).ok();
    value.and_then(|value| value["late_workers"].as_u64()).unwrap_or(0)
}

/// The message of an error's body.
fn message(body: &str) -> String {
    let value = serde_json::from_str::<serde_json::Value>(body).ok();
    let message = value.as_ref().and_then(|value| value["error"]["message"].as_str());
    message.unwrap_or(body.trim_end()).to_owned()
}
