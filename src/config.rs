//! The configuration: a TOML file over compiled-in defaults, under the environment and the command
//! line, made into [`Settings`] that are valid by construction. What is valid may be used without
//! another check; nothing here opens a socket or changes a file.
//!
//! It promises that **every mistake is named in one go**, in the order in which it stands in the
//! file, with where it was said, the key, and what to change; only a file that is not TOML at all
//! ends with its first one. No message and no `Debug` shows a secret.
//!
//! From what the user wrote to what the program takes, in the order of reading:
//!
//! | module | what it makes |
//! |---|---|
//! | `file` | the text that was meant, as TOML |
//! | `environment` | `STREAMGAUGE_SECTION__KEY` variables as one more tree |
//! | `layers` | the trees merged, each value with its origin (figment lives there and in `reader`) |
//! | `reader` | a typed view of the tree that notes mistakes and goes on |
//! | `network`, `forward_proxy`, `connection` | what is said for several upstreams, and how one of them is reached |
//! | `sections`, `postgres`, `otlp`, `upstreams`, `tls`, `routes`, `prices` | one struct of [`Settings`] each, with the rules of its keys |
//! | `cross_checks` | the rules between sections |
//! | `probe` | where the admin port is, whatever else is wrong |
//! | `effective` | the merged tree again, for people, without its secrets |

mod connection;
mod cross_checks;
mod disconnect;
mod duration;
mod effective;
mod environment;
mod file;
mod forward_proxy;
mod headers;
mod key_path;
mod layers;
mod log_filter;
mod mistakes;
mod network;
mod notes;
mod otlp;
mod outline;
mod postgres;
mod prices;
mod probe;
mod query;
mod reader;
mod routes;
mod secrets;
mod sections;
mod settings;
mod size;
mod suggest;
mod tls;
mod upstreams;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

pub use duration::past;
pub use environment::environment;
pub use log_filter::check_log_filter;
pub use mistakes::{Mistake, Mistakes};
pub use probe::{AdminPort, load_admin_port};
pub use sections::ANONYMOUS;
pub use settings::{
    AccessLines, Admin, Client, Database, DrainLimits, ForwardProxy, HttpVersion, Jsonl, Ledger, Log,
    LogFormat, OnDisconnect, Otlp, PoolLimits, Postgres, Route, Server, Settings, Timeouts, Upstream,
};
pub use upstreams::MAX_CONNECTION_AGE;

use file::File;
use layers::Layers;
use notes::Read;
use reader::{Reader, Table};

use crate::price::Prices;

/// The compiled-in defaults, which are also the reference of all keys.
const DEFAULTS: &str = include_str!("../config/default.toml");

/// Where a configuration may come from. Nothing else is looked at but the files that it names.
#[derive(Clone, Default)]
pub struct Sources {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// The process's environment.
    pub env: BTreeMap<String, String>,
    /// What the command line says in place of the configuration.
    pub overrides: Overrides,
}

impl fmt::Debug for Sources {
    /// Names of variables only: their values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("file", &self.file)
            .field("env", &self.env.keys())
            .field("overrides", &self.overrides)
            .finish()
    }
}

/// Options of the command line that stand above everything.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--listen`, in place of `server.listen`.
    pub listen: Option<String>,
}

/// A configuration without mistakes.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What to run with.
    pub settings: Settings,
    /// The file that was read; `None`: there is none, only defaults and the environment.
    pub origin: Option<PathBuf>,
    /// What is allowed and probably not meant, for the log.
    pub warnings: Vec<String>,
}

/// Reads the configuration: defaults, then the file, then the environment, then the command line;
/// the last one wins.
///
/// # Errors
/// Every mistake of it.
pub fn load(sources: &Sources) -> Result<Loaded, Mistakes> {
    let file = file::find(sources.file.as_deref(), &sources.env, &file::CANDIDATES).map_err(Mistakes::one)?;
    assemble(file, &sources.env, &sources.overrides)
}

/// Which ledger somebody wants to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The database of this instance; what is said of the fleet's does not matter.
    Local,
    /// The fleet's, if there is one.
    Fleet,
    /// The one that `ledger.postgres.read` names.
    Configured,
}

/// Reads where usage records are kept and what tokens cost, from the same places as [`load`].
/// Mistakes elsewhere do not matter for it: who looks at the ledger may lack the secrets that the
/// proxy has.
///
/// # Errors
/// The file cannot be read; or every mistake, where one of them is in `[ledger]`, as far as that is
/// wanted, or in `[[prices]]`.
pub fn load_ledger(sources: &Sources, which: Which) -> Result<(Ledger, Prices), Mistakes> {
    let file = file::find(sources.file.as_deref(), &sources.env, &file::CANDIDATES).map_err(Mistakes::one)?;
    let (layers, clashes) = Layers::merge(file, &sources.env, &sources.overrides);
    let reader = Reader::new(&layers, &sources.env);
    let both = reader.glance(|root| {
        let names = root.names("upstreams").unwrap_or_default().into_iter().map(|(name, _)| name);
        let prices = prices::prices(root, &names.collect::<Vec<_>>());
        let is_fleet = match which {
            Which::Local => false,
            Which::Fleet => true,
            Which::Configured => {
                root.at(&["ledger", "postgres", "read"]).is_some_and(|read| read.boolean().unwrap_or(false))
            }
        };
        let section = if is_fleet { sections::ledger } else { sections::local_ledger };
        Ok((root.section("ledger", section)?, prices?))
    });
    if let Ok((both, _)) = reader.finish(both, Vec::new()) {
        return Ok(both);
    }
    let reader = Reader::new(&layers, &sources.env);
    let settings = reader.read(read);
    reader.finish(settings, clashes).map(|(settings, _)| (settings.ledger, settings.prices))
}

/// Reads a configuration from text as from a file in the working directory, without any
/// environment.
///
/// # Errors
/// Every mistake of it.
pub fn from_text(text: &str) -> Result<Loaded, Mistakes> {
    let file = File::parse(None, text).map_err(Mistakes::one)?;
    assemble(Some(file), &BTreeMap::new(), &Overrides::default())
}

fn assemble(
    file: Option<File>,
    env: &BTreeMap<String, String>,
    overrides: &Overrides,
) -> Result<Loaded, Mistakes> {
    let origin = file.as_ref().and_then(|file| file.origin.clone());
    let (layers, clashes) = Layers::merge(file, env, overrides);
    let reader = Reader::new(&layers, env);
    let settings = reader.read(read);
    let (mut settings, mut warnings) = reader.finish(settings, clashes)?;
    settings.effective = effective::masked(layers.root());
    let strays = env.keys().filter(|variable| environment::is_stray(variable));
    warnings.extend(strays.map(|variable| {
        format!(
            "environment {variable}: is no key and was passed over; two underscores stand between a section and its key"
        )
    }));
    Ok(Loaded { settings, origin, warnings })
}

/// Reads every section before it gives up.
fn read(root: &Table<'_>) -> Read<Settings> {
    let server = root.section("server", sections::server);
    let admin = root.section("admin", sections::admin);
    let ledger = root.section("ledger", sections::ledger);
    let log = root.section("log", sections::log);
    let clients = sections::clients(root);
    let network = root.section("network", network::network);
    let otlp = root.section("otlp", |table| otlp::otlp(table, network.as_ref().ok()));
    let (names, upstreams) = upstreams::upstreams(root, network.as_ref().ok());
    let routes = routes::routes(root, &names);
    let prices = prices::prices(root, &names);
    cross_checks::check(root, &server, &admin, &ledger, &clients);
    if let (Ok(network), Ok(upstreams)) = (&network, &upstreams) {
        network::warn_of_unused(root, network, upstreams);
    }
    network?;
    Ok(Settings {
        server: server?,
        admin: admin?,
        ledger: ledger?,
        otlp: otlp?,
        log: log?,
        clients: clients?,
        upstreams: upstreams?,
        routes: routes?,
        prices: prices?,
        effective: serde_json::Value::Null,
    })
}

#[cfg(test)]
mod tests;
