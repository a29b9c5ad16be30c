//! `streamgauge top`: shows what a running proxy does, and keeps it up to date: running streams with
//! their rates, tokens and costs, members of groups, limits.
//!
//! Everything comes from the admin port of the process that runs with this configuration.
//!
//! | module | what it is |
//! |---|---|
//! | `reading` | what the admin port says at one moment |
//! | `source` | requests to it, and why one failed |
//! | `speed` | output per second of running streams |
//! | `frame` | a reading as lines of a terminal |
//! | `tables`, `cells`, `numbers` | the parts of a frame; columns in the width of a terminal; short numbers |
//! | `screen` | the terminal, as it was before at the end |
//! | `watch` | readings, keys and signals as they come |

mod cells;
mod frame;
mod numbers;
mod reading;
mod screen;
mod source;
mod speed;
mod tables;
mod watch;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::admin_client::AdminClient;
use super::output::{print, unwritten};
use super::{FAILED, WRONG};
use crate::config::{self, Overrides, Sources};
use crate::support::ListenAddress;
use crate::support::secret::Secret;
use frame::View;
use source::Source;
use speed::Speeds;

/// The longest wait for a connection, and for each piece of a response.
const PATIENCE: Duration = Duration::from_secs(5);

/// The shortest interval. Each reading costs the proxy a few milliseconds.
const SHORTEST: Duration = Duration::from_millis(200);

/// The width of a frame that no terminal shows.
const WIDTH: usize = 80;

/// Options of `top`.
#[derive(Debug, Args)]
pub(super) struct TopArgs {
    #[arg(skip)]
    pub(super) config: Option<PathBuf>,
    /// The address of the admin port, instead of the configuration's
    #[arg(long, value_name = "ADDR")]
    address: Option<ListenAddress>,
    /// Time between two readings
    #[arg(long, short, value_name = "DURATION", default_value = "2s", value_parser = interval)]
    interval: Duration,
    /// Order of the running streams
    #[arg(long, value_enum, default_value_t = StreamOrder::Time)]
    sort: StreamOrder,
    /// Print one reading as text, and end; always so if stdout is not a terminal
    #[arg(long)]
    once: bool,
}

/// The order of running streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum StreamOrder {
    /// The longest first
    Time,
    /// Most output tokens first
    Tokens,
    /// Most output tokens per second first
    Speed,
    Client,
    User,
    Model,
    Upstream,
}

fn interval(text: &str) -> Result<Duration, String> {
    match config::duration(text)? {
        interval if interval < SHORTEST => Err("must be 200ms or longer".to_owned()),
        interval => Ok(interval),
    }
}

pub(super) fn run(args: &TopArgs) -> ExitCode {
    let sources =
        Sources { file: args.config.clone(), env: config::environment(), overrides: Overrides::default() };
    let client = match AdminClient::find(&sources, args.address.clone(), PATIENCE) {
        Ok(Some(client)) => client,
        Ok(None) => {
            say!("top: admin.listen is \"\": this configuration has no admin port, which has what top shows");
            return ExitCode::from(FAILED);
        }
        Err(mistakes) => {
            say!("{mistakes}");
            return ExitCode::from(WRONG);
        }
    };
    let token = config::load_read_token(&sources);
    let address = client.address.clone();
    let mut source = Source::new(client, token.as_ref().map(Secret::expose));
    // The first reading shows mistakes before the screen is taken.
    let first = match source.read() {
        Ok(first) => first,
        Err(failure) => {
            say!("top: {address}: {failure}");
            if let Some(hint) = failure.hint(args.address.is_some(), token.is_some()) {
                say!("{hint}");
            }
            return ExitCode::from(FAILED);
        }
    };
    let ended = if args.once || !io::stdout().is_terminal() {
        let speeds = Speeds::of(&first);
        let view = View::new(&address, &first, &speeds, args.sort);
        print(frame::text(&view, screen::width().unwrap_or(WIDTH))).map(|()| ExitCode::SUCCESS)
    } else {
        watch::run(address, source, first, args.interval, args.sort)
    };
    match ended {
        Ok(status) => status,
        Err(error) => unwritten(&error, 0),
    }
}
