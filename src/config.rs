//! The configuration: the compiled-in defaults, overridden by a TOML file, the environment and the
//! command line, and converted into [`Settings`] that are valid by construction. Reading opens no
//! socket and changes no file; only [`KeyFile`] writes one.
//!
//! **Every mistake is reported together**, in the order of the file, with its line, its key, and
//! the right form. Only for a file that is not TOML, the first syntax error alone is reported. No
//! message and no `Debug` shows a secret.
//!
//! | module | purpose |
//! |---|---|
//! | `file`, `outline` | the file as TOML, and the line of each key |
//! | `environment` | `STREAMGAUGE_SECTION__KEY` variables as another tree |
//! | `layers` | the trees merged, each value with its origin |
//! | `reader`, `kind`, `notes` | a typed view of the tree, which notes mistakes and describes its keys |
//! | `sections`, `clients`, `upstreams`, … | one struct of [`Settings`] each, with the rules of its keys |
//! | `cross_checks` | the rules between sections |
//! | `stored_keys`, `key_file` | keys of clients in a file of their own; the file changed |
//! | `key_place`, `key_store`, `key_change` | the place of stored keys; what a place can do; keys made and ended |
//! | `price_file` | prices in a file of their own |
//! | `probe` | the admin port, even if other keys have mistakes |
//! | `effective` | the merged tree for people, without its secrets |
//! | `description`, `schema`, `docs` | all keys, as JSON Schema and as Markdown |

/// Builds a struct after all of its fields were read, so that every mistake in them is reported.
macro_rules! read_all {
    ($name:ident { $($field:ident: $read:expr),* $(,)? }) => {{
        $(
            #[allow(clippy::redundant_locals, reason = "a field may have been read already")]
            let $field = $read;
        )*
        Ok($name { $($field: $field?),* })
    }};
}

mod alert_template;
mod alerts;
mod clients;
mod connection;
mod cross_checks;
mod description;
mod disconnect;
mod docs;
mod duration;
mod effective;
mod environment;
mod file;
mod files;
pub mod forward_proxy;
mod groups;
mod headers;
mod identity;
mod key_change;
mod key_file;
mod key_path;
mod key_place;
mod key_store;
mod kind;
mod layers;
mod log_filter;
mod mistakes;
mod network;
mod notes;
mod otlp;
mod outline;
mod postgres;
mod price_file;
mod prices;
mod probe;
mod query;
mod reader;
mod redis;
pub mod reload;
mod routes;
mod schema;
mod secrets;
mod sections;
mod settings;
mod size;
mod stored_keys;
mod suggest;
mod tags;
mod time_zone;
mod tls;
mod upstreams;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use jiff::tz::TimeZone;

pub use alert_template::{AlertField, AlertTemplate};
pub use clients::ANONYMOUS;
pub use duration::{duration, past};
pub use environment::environment;
pub use files::{Files, KeysFile};
pub use key_change::{CreatedKey, EndedKey, KeyError, KeyListing, ListedKey, RevokedKeys};
pub use key_file::KeyFile;
pub use key_place::{KeyPlace, key_end, load_key_place};
pub use key_store::{KeyChange, KeyStore, StoreError};
pub use log_filter::check_log_filter;
pub use mistakes::{Mistake, Mistakes};
pub use postgres::host_name;
pub use price_file::{PricePlace, load_price_place, write_prices};
pub use probe::{AdminPort, check_file, load_admin_port, load_admin_token, load_read_token};
pub use settings::{
    AccessLines, AdminSettings, Alert, AwsIdentity, AwsSource, Client, ClientKey, CloudIdentity,
    ContainerToken, Database, DrainLimits, EntraGrant, EntraIdentity, ForwardProxy, GoogleIdentity,
    GroupSettings, HttpVersion, JsonlTarget, KeySettings, KeyStorage, LedgerSettings, Log, MemberSettings,
    MemoryLimit, OnDisconnect, OtlpSettings, PoolLimits, Postgres, Redis, RedisAddress, Route, RouteTarget,
    Sentinel, Server, ServiceAccount, Settings, StoredKey, Team, Timeouts, TokenEndpoint, Upstream,
    WebhookUrl,
};
pub use stored_keys::{LoadedKeys, load_keys_again, warn_of_table};
pub use time_zone::{time_zone, time_zone_name};
pub use upstreams::{MAX_CONNECTION_AGE, Place};

use description::Description;
use file::File;
use key_path::KeyPath;
use layers::Layers;
use notes::Read;
use reader::{Reader, Table};

use crate::llm::price::Prices;

/// The compiled-in defaults. With the commented keys, the file is the reference of all keys.
const DEFAULTS: &str = include_str!("../config/default.toml");

/// The sources of a configuration.
#[derive(Clone, Default)]
pub struct Sources {
    /// `--config`.
    pub file: Option<PathBuf>,
    pub env: BTreeMap<String, String>,
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

/// Options of the command line, which override all other layers.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--listen`, which overrides `server.listen`.
    pub listen: Option<String>,
}

/// A configuration without mistakes.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub settings: Settings,
    /// The file that was read. `None` if there is none.
    pub origin: Option<PathBuf>,
    /// Values that are allowed but probably mistakes.
    pub warnings: Vec<String>,
    pub files: Files,
    /// The keys of secrets from the environment, which cannot change while a process runs, with the
    /// names of the variables.
    pub from_environment: Vec<(String, String)>,
    places: BTreeMap<&'static str, String>,
}

impl Loaded {
    /// The place of a key of [`PLACED`] in messages, such as `streamgauge.toml:3: server.listen`.
    pub fn place(&self, key: &'static str) -> &str {
        self.places.get(key).map_or(key, String::as_str)
    }
}

/// The keys that concern the machine, which is checked after the configuration.
const PLACED: [&str; 4] = ["server.listen", "admin.listen", "ledger.path", "ledger.jsonl"];

/// Reads the configuration: defaults, then the file, then the environment, then the command line;
/// the last layer wins.
///
/// # Errors
/// Fails with all mistakes.
pub fn load(sources: &Sources) -> Result<Loaded, Mistakes> {
    let file = file::find(sources.file.as_deref(), &sources.env, &file::CANDIDATES).map_err(Mistakes::one)?;
    assemble(file, sources, Files::default())
}

/// Reads the configuration again in a running process that has read `earlier`: the same
/// configuration file, which must exist, and regular files only. Secrets from pipes keep their
/// first value.
///
/// # Errors
/// Fails with all mistakes.
pub fn load_again(sources: &Sources, earlier: &Files) -> Result<Loaded, Mistakes> {
    let file = match earlier.origin() {
        Some(path) => file::read_again(path),
        None => file::find(sources.file.as_deref(), &sources.env, &file::CANDIDATES),
    };
    assemble(file.map_err(Mistakes::one)?, sources, earlier.before_reload())
}

/// Selects the ledger to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The database of this instance; `[ledger.postgres]` is not read.
    Local,
    /// The fleet's database, if there is one.
    Fleet,
    /// The ledger that `ledger.postgres.read` names.
    Configured,
}

/// The parts of the configuration that a reader of the ledger needs.
#[derive(Debug)]
pub struct ReadLedger {
    pub ledger: LedgerSettings,
    pub prices: Prices,
    /// The team of each client that is in one.
    pub teams: BTreeMap<String, String>,
}

/// The teams that clients name, whatever else is in their tables.
fn teams_of_clients(root: &Table<'_>) -> BTreeMap<String, String> {
    let team = |client: String| {
        let team = root.at(&["clients", &client, "team"])?.as_text()?.to_owned();
        Some((client, team))
    };
    root.keys("clients").into_iter().filter_map(team).collect()
}

/// Reads `[ledger]` and `[[prices]]`, from the same sources as [`load`]. Mistakes in other sections
/// are ignored, since a reader of the ledger may lack the secrets of the proxy.
///
/// # Errors
/// Fails if the file cannot be read, or with all mistakes of the configuration if one is in
/// `[[prices]]` or in the part of `[ledger]` that `which` needs.
pub fn load_ledger(sources: &Sources, which: Which) -> Result<ReadLedger, Mistakes> {
    let file = file::find(sources.file.as_deref(), &sources.env, &file::CANDIDATES).map_err(Mistakes::one)?;
    let (layers, clashes) = Layers::merge(file, &sources.env, &sources.overrides);
    let reader = Reader::new(&layers, &sources.env);
    let both = reader.read_part(|root| {
        let names = root.keys("upstreams");
        let ledger = ledger_section(root, which);
        let file = ledger.as_ref().ok().and_then(|ledger| ledger.prices_file.as_deref());
        let prices = prices::prices(root, &names, file);
        let ledger = ledger?;
        let prices = prices?.in_zone(&ledger.time_zone);
        Ok(ReadLedger { ledger, prices, teams: teams_of_clients(root) })
    });
    if let Ok((both, _)) = reader.finish(both, Vec::new()) {
        return Ok(both);
    }
    let reader = Reader::new(&layers, &sources.env);
    let settings = reader.read(read);
    reader.finish(settings, clashes).map(|(settings, _)| ReadLedger {
        teams: settings.team_by_client(),
        ledger: settings.ledger,
        prices: settings.prices,
    })
}

/// The part of `[ledger]` that a reader of this ledger needs.
fn ledger_section(root: &Table<'_>, which: Which) -> Read<LedgerSettings> {
    let is_fleet = match which {
        Which::Local => false,
        Which::Fleet => true,
        Which::Configured => {
            root.at(&["ledger", "postgres", "read"]).is_some_and(|read| read.boolean().unwrap_or(false))
        }
    };
    root.section("ledger", if is_fleet { sections::ledger } else { sections::local_ledger })
}

/// Reads a configuration from text, like a file in the working directory, without an environment.
///
/// # Errors
/// Fails with all mistakes.
pub fn from_text(text: &str) -> Result<Loaded, Mistakes> {
    let file = File::parse(None, text).map_err(Mistakes::one)?;
    assemble(Some(file), &Sources::default(), Files::default())
}

/// The JSON Schema of the file.
pub fn schema() -> serde_json::Value {
    schema::schema(&Description::new())
}

/// All keys in Markdown: `docs/configuration.md`.
pub fn docs() -> String {
    docs::docs(&Description::new())
}

/// `known` are the files before the reading.
fn assemble(file: Option<File>, sources: &Sources, known: Files) -> Result<Loaded, Mistakes> {
    let Sources { env, overrides, .. } = sources;
    let origin = file.as_ref().and_then(|file| file.origin.clone());
    let mut files = file.as_ref().map(|file| file.files.clone()).unwrap_or_default();
    let (layers, clashes) = Layers::merge(file, env, overrides);
    let reader = Reader::after(known, &layers, env);
    let settings = reader.read(read);
    files.extend(reader.files());
    let variables = reader.variables().into_iter();
    let from_environment = variables.map(|(key, name)| (key.to_string(), name)).collect();
    let asked = reader.asked();
    let (mut settings, mut warnings) = reader.finish(settings, clashes)?;
    settings.effective = effective::masked(layers.root(), &asked);
    let place = |key: &'static str| {
        let path = key.split('.').fold(KeyPath::root(), |path, key| path.key(key));
        (key, layers.place(&path))
    };
    let strays = env.keys().filter(|variable| environment::is_stray(variable, &asked));
    warnings.extend(strays.map(|variable| {
        format!(
            "environment {variable}: is not a key and was ignored; two underscores separate a section and its key"
        )
    }));
    Ok(Loaded {
        settings,
        origin,
        warnings,
        files,
        from_environment,
        places: PLACED.into_iter().map(place).collect(),
    })
}

/// Reads every section before it fails.
fn read(root: &Table<'_>) -> Read<Settings> {
    let server = root.section("server", sections::server);
    let admin = root.section("admin", sections::admin);
    let ledger = root.section("ledger", sections::ledger);
    let log = root.section("log", sections::log);
    let redis = root.table("redis", redis::redis);
    let zone = ledger.as_ref().map_or(TimeZone::UTC, |ledger| ledger.time_zone.clone());
    let (upstream_names, group_names) = (root.keys("upstreams"), root.keys("groups"));
    let limits = clients::LimitContext {
        is_client: false,
        zone: &zone,
        upstreams: &upstream_names,
        groups: &group_names,
    };
    let tags = root.section("tags", tags::tags);
    let of_all = clients::limits(root, &limits);
    let (team_names, teams) = clients::teams(root, &limits);
    let keys = root.section("keys", stored_keys::keys);
    let has_certificates = server.as_ref().map_or(true, Server::has_client_certificates);
    let context = clients::Context {
        teams: &team_names,
        valid_teams: teams.as_deref().unwrap_or_default(),
        limits: &limits,
        of_all: of_all.as_deref().unwrap_or_default(),
        tags: tags.as_deref().ok(),
        needs_no_key: has_certificates || keys.as_ref().map_or(true, KeySettings::is_kept),
    };
    let clients = clients::clients(root, &context);
    let network = root.section("network", network::network);
    let alerts = alerts::alerts(root, network.as_ref().ok());
    let otlp = root.section("otlp", |table| otlp::otlp(table, network.as_ref().ok()));
    let (names, upstreams) = upstreams::upstreams(root, network.as_ref().ok());
    let prices_file = ledger.as_ref().ok().and_then(|ledger| ledger.prices_file.as_deref());
    let prices = prices::prices(root, &names, prices_file);
    let (names, groups) = groups::groups(root, names, upstreams.as_deref().ok());
    let mut routes = routes::routes(root, &names);
    if let (Ok(all), Ok(groups), Ok(upstreams)) = (&routes, &groups, &upstreams) {
        routes::warn_of_unused(root, all, groups, &names);
        if let Err(noted) = routes::check_paths(root, all, groups, upstreams) {
            routes = Err(noted);
        }
    }
    if let (Ok(clients), Ok(teams), Ok(routes)) = (&clients, &teams, &routes) {
        clients::warn_of_unused(root, clients, teams, routes);
        let has_choice = upstreams.as_ref().is_ok_and(|upstreams| upstreams.len() > 1);
        redis::warn_of_unused(root, has_choice || has_certificates || !clients.is_empty());
    }
    if let (Ok(keys), Ok(clients)) = (&keys, &clients) {
        stored_keys::check(root, keys, clients, has_certificates, &ledger);
    }
    cross_checks::check(root, &server, &admin, &ledger, &clients);
    if let (Ok(ledger), Ok(clients), Ok(teams), Ok(of_all)) = (&ledger, &clients, &teams, &of_all) {
        let owners = clients::Owners { clients, teams, of_all };
        clients::check_periods(root, ledger, owners);
        if let Ok(prices) = &prices {
            clients::check_costs(root, prices, owners);
        }
    }
    if let (Ok(alerts), Ok(ledger), Ok(prices)) = (&alerts, &ledger, &prices) {
        alerts::check_spikes(root, alerts, ledger, prices);
    }
    if let (Ok(network), Ok(upstreams)) = (&network, &upstreams) {
        network::warn_of_unused(root, network, upstreams);
    }
    network?;
    let ledger = ledger?;
    let prices = prices?.in_zone(&ledger.time_zone);
    Ok(Settings {
        server: server?,
        admin: admin?,
        ledger,
        redis: redis?,
        otlp: otlp?,
        log: log?,
        clients: clients?,
        tags: tags?,
        keys: keys?,
        teams: teams?,
        limits: of_all?,
        upstreams: upstreams?,
        groups: groups?,
        alerts: alerts?,
        routes: routes?,
        prices,
        effective: serde_json::Value::Null,
    })
}

#[cfg(test)]
mod tests;
