//! `streamgauge serve`: runs the proxy until a signal stops it.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::control::{Control, Served};
use super::output::say_failure;
use super::upgrade::OwnSockets;
use super::{FAILED, WRONG};
use crate::app::open_files::{make_room, raise_limit};
use crate::app::{Addresses, App, Inherited, PassedSockets, Predecessor, preflight};
use crate::config::{self, Files, Loaded, Overrides, Sources};
use crate::support::ListenAddress;
use crate::support::drain::Phase;
use crate::support::supervisor::Supervisor;
use crate::support::telemetry::{self, InitError};
use crate::support::threads::Threads;

/// The time for writing the last lines of the log at the end.
pub(super) const FLUSH: Duration = Duration::from_millis(500);

/// Options of `serve`.
#[derive(Debug, Default, Args)]
pub(crate) struct ServeArgs {
    #[arg(skip)]
    pub(crate) config: Option<PathBuf>,
    /// The address to listen on, instead of the configuration's
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// Log filter: a level, or targets such as info,streamgauge::access=off [default: $RUST_LOG,
    /// else the configuration's]
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
}

pub(super) fn run(args: &ServeArgs) -> ExitCode {
    // Called while the process has one thread, so that `make_room` need not wait for others.
    make_room(raise_limit());
    // Before the first thread too: it changes the environment.
    let inherited = Predecessor::from_environment().and_then(|earlier| match earlier {
        Some((earlier, sockets)) => Ok((Some(earlier), sockets)),
        None => Ok((None, PassedSockets::from_supervisor()?)),
    });
    let (earlier, sockets) = match inherited {
        Ok(inherited) => inherited,
        Err(error) => {
            say!("{error}");
            return ExitCode::from(FAILED);
        }
    };
    let threads = Threads::default();
    // Before anything else: a signal during the start must not end the process in the middle of it.
    let control = preflight::threads(1)
        .and_then(|()| Control::start(&threads).map_err(|error| preflight::no_thread(&error)));
    let control = match control {
        Ok(control) => control,
        Err(error) => {
            say!("streamgauge: {error}");
            return ExitCode::from(FAILED);
        }
    };
    let env: BTreeMap<String, String> = config::environment();
    let rust_log = env.get("RUST_LOG").cloned();
    if let Some(Err(reason)) = args.log.as_deref().map(config::check_log_filter) {
        say!("--log: {reason}");
        return ExitCode::from(WRONG);
    }
    let overrides = Overrides { listen: args.listen.clone() };
    let sources = Sources { file: args.config.clone(), env, overrides };
    let loaded = match config::load(&sources) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            say!("{mistakes}");
            return ExitCode::from(WRONG);
        }
    };
    // A variable that other programs use too must not keep this one from starting.
    let rust_log = rust_log.filter(|filter| match config::check_log_filter(filter) {
        Ok(()) => true,
        Err(reason) => {
            say!("warning: RUST_LOG was ignored: {reason}");
            false
        }
    });
    let given = args.log.clone().or(rust_log);
    let sets_log_level = given.is_none();
    let filter = given.unwrap_or_else(|| loaded.settings.log.level.clone());
    match telemetry::init(&filter, loaded.settings.log.format, &threads) {
        Ok(()) => {}
        Err(InitError::Filter(error)) => {
            say!("--log: {filter:?} is not a log filter: {error}");
            return ExitCode::from(WRONG);
        }
        Err(InitError::System(error)) => {
            say!("{}", preflight::no_thread(&error));
            return ExitCode::from(FAILED);
        }
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let takes_over = earlier.as_ref().map(Predecessor::take_over);
    let inherited = Inherited { threads, sockets, supervisor: Supervisor::from_environment(), takes_over };
    let status = start(&control, inherited, earlier.as_ref(), loaded, |app, files| {
        let app = app.reloading(sources, files);
        if sets_log_level { app.setting_log_level() } else { app }
    });
    telemetry::flush(FLUSH);
    status
}

/// Runs the proxy, and reports an unexpected end.
fn start(
    control: &Control,
    inherited: Inherited,
    earlier: Option<&Predecessor>,
    loaded: Loaded,
    reloading: impl FnOnce(App, Files) -> App,
) -> ExitCode {
    let Loaded { settings, origin: file, files, .. } = loaded;
    let supervisor = inherited.supervisor.clone();
    let app = match App::bind_on(&settings, Vec::new(), None, inherited) {
        Ok(app) => reloading(app, files),
        Err(error) => {
            say_failure(error);
            return ExitCode::from(FAILED);
        }
    };
    let file = file.map_or_else(|| "none, defaults only".to_owned(), |path| path.display().to_string());
    tracing::info!(config = file, "streamgauge {}", env!("CARGO_PKG_VERSION"));
    for upstream in &settings.upstreams {
        let proxy = upstream.proxy.as_ref().map(|proxy| tracing::field::display(&proxy.address));
        tracing::info!(name = upstream.name, provider = upstream.provider.as_str(), url = %upstream.url, proxy, "upstream");
    }
    let has_tls = HasTls { proxy: settings.server.tls.is_some(), admin: settings.admin.tls.is_some() };
    match serve(app, has_tls, control, earlier, supervisor) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say_failure(preflight::no_thread(&error));
            ExitCode::from(FAILED)
        }
    }
}

/// Runs until a signal, or until a thread has failed, then drains; a second signal ends at once.
fn serve(
    app: App,
    has_tls: HasTls,
    control: &Control,
    earlier: Option<&Predecessor>,
    supervisor: Supervisor,
) -> io::Result<()> {
    let sockets = OwnSockets::new(app.copy_sockets()?);
    if let Some(earlier) = earlier {
        earlier.wait_to_go();
    }
    let mut running = app.spawn()?;
    running.watch_memory()?;
    control.attach(Served {
        stop: running.stop().clone(),
        stop_delay: Arc::clone(running.stop_delay()),
        drain_timeout: Arc::clone(running.drain_timeout()),
        upgrade_drain: Arc::clone(running.upgrade_drain()),
        shipping_end: running.shipping_end().clone(),
        supervisor: supervisor.clone(),
        program: control.program().clone(),
        sockets: sockets.clone(),
        files: running.jsonl(),
        reload: running.reload().clone(),
    });
    let Addresses { proxy, admin } = running.addresses();
    let proxy_url = url(&proxy, has_tls.proxy, "/v1");
    tracing::info!(address = %proxy, url = proxy_url, workers = running.workers(), "listening");
    let admin_url = admin.map(|address| {
        let url = url(&address, has_tls.admin, "/");
        tracing::info!(%address, url, "admin pages");
        url
    });
    // For people, regardless of the log's filter and form.
    if io::stderr().is_terminal() {
        say!("proxy      {proxy_url}   (the base URL for SDKs)");
        if let Some(url) = admin_url {
            say!("dashboard  {url}");
        }
    }
    if let Some(earlier) = earlier {
        earlier.serve();
    }
    supervisor.send("READY=1");
    running.stop().wait(Phase::Leaving);
    // The supervisor would stop the earlier process if this is the end of a failed upgrade.
    if earlier.is_none_or(Predecessor::has_handed_over) {
        supervisor.send("STOPPING=1");
    }
    running.stop().wait(Phase::Draining);
    sockets.close();
    let finished = running.finish();
    control.finish_upgrade();
    finished
}

/// The servers that use TLS.
#[derive(Clone, Copy)]
struct HasTls {
    proxy: bool,
    admin: bool,
}

/// The URL for a client on this machine.
fn url(listen: &ListenAddress, has_tls: bool, path: &str) -> String {
    let Some(address) = listen.inet() else { return format!("{listen}:{path}") };
    let scheme = if has_tls { "https" } else { "http" };
    match address.ip().is_unspecified() {
        true => format!("{scheme}://localhost:{}{path}", address.port()),
        false => format!("{scheme}://{address}{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_one_that_a_client_here_can_use() {
        for (address, has_tls, expected) in [
            ("127.0.0.1:8080", false, "http://127.0.0.1:8080/v1"),
            ("[::1]:8080", true, "https://[::1]:8080/v1"),
            ("0.0.0.0:80", false, "http://localhost:80/v1"),
            ("[::]:443", true, "https://localhost:443/v1"),
            ("unix:/run/a.sock", false, "unix:/run/a.sock:/v1"),
        ] {
            assert_eq!(url(&address.parse().unwrap(), has_tls, "/v1"), expected);
        }
    }
}
