//! The proxies under test: their programs, and how they are started.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::configs::{self, Job};
use super::process::{self, PROXY_CORE, Running, free_port};
use super::services::Services;
use super::workloads::{Service, Unit, Workload};

/// The programs of the proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Streamgauge { has_ledger: bool, has_group: bool },
    Nginx { has_log: bool },
    Haproxy,
    Envoy,
    Caddy,
    Litellm,
}

/// streamgauge with its defaults.
const DEFAULT: Kind = Kind::Streamgauge { has_ledger: true, has_group: false };

/// streamgauge without its ledger.
pub(crate) const NO_LEDGER: &str = "no ledger";

/// streamgauge with a group of upstreams, to which no request is routed.
pub(crate) const GROUP: &str = "with group";

/// nginx as the bench configures it, and the same with its access log.
pub(crate) const NGINX: &str = "nginx";
pub(crate) const NGINX_LOG: &str = "nginx with log";

/// The cost per unit is so far from the others' that two workloads suffice.
pub(crate) const LITELLM: &str = "LiteLLM";

/// A proxy that can be started.
pub(crate) struct Peer {
    kind: Kind,
    name: String,
    program: PathBuf,
}

impl Peer {
    pub(crate) fn new(kind: Kind, program: PathBuf) -> Self {
        let name = match kind {
            Kind::Streamgauge { has_group: true, .. } => GROUP,
            Kind::Streamgauge { has_ledger: true, .. } => "streamgauge",
            Kind::Streamgauge { has_ledger: false, .. } => NO_LEDGER,
            Kind::Nginx { has_log: false } => NGINX,
            Kind::Nginx { has_log: true } => NGINX_LOG,
            Kind::Haproxy => "HAProxy",
            Kind::Envoy => "Envoy",
            Kind::Caddy => "Caddy",
            Kind::Litellm => LITELLM,
        };
        Self { kind, name: name.to_owned(), program }
    }

    pub(crate) fn streamgauge() -> Self {
        Self::new(DEFAULT, env!("CARGO_BIN_EXE_streamgauge").into())
    }

    pub(crate) fn without_ledger() -> Self {
        let kind = Kind::Streamgauge { has_ledger: false, has_group: false };
        Self::new(kind, env!("CARGO_BIN_EXE_streamgauge").into())
    }

    pub(crate) fn with_group() -> Self {
        let kind = Kind::Streamgauge { has_ledger: true, has_group: true };
        Self::new(kind, env!("CARGO_BIN_EXE_streamgauge").into())
    }

    pub(crate) fn other_build(name: &str, program: PathBuf) -> Self {
        Self { kind: DEFAULT, name: name.to_owned(), program }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns true if this proxy takes part in the workload in this round, of which the first is
    /// 1. Short requests show the cost of a log, a ledger or a group. LiteLLM takes many seconds to start.
    pub(crate) fn does(&self, workload: &Workload, round: usize) -> bool {
        let is_short_request = workload.unit == Unit::Request && workload.has_short_prompts();
        match self.kind {
            Kind::Nginx { has_log: false } => workload.service != Service::Http2,
            Kind::Nginx { has_log: true }
            | Kind::Streamgauge { has_ledger: false, .. }
            | Kind::Streamgauge { has_group: true, .. } => {
                workload.service == Service::Plain && is_short_request
            }
            Kind::Litellm => round == 1 && matches!(workload.name, "requests" | "streams"),
            Kind::Streamgauge { .. } | Kind::Haproxy | Kind::Envoy | Kind::Caddy => true,
        }
    }

    /// The least time of a measurement. LiteLLM's first responses take seconds.
    pub(crate) fn least_time(&self) -> Duration {
        Duration::from_secs(if self.kind == Kind::Litellm { 4 } else { 0 })
    }

    /// The version that the program prints.
    pub(crate) fn version(&self) -> String {
        let argument = match self.kind {
            Kind::Streamgauge { .. } | Kind::Envoy | Kind::Litellm => "--version",
            Kind::Nginx { .. } | Kind::Haproxy => "-v",
            Kind::Caddy => "version",
        };
        let Ok(output) = Command::new(&self.program).arg(argument).output() else { return "?".to_owned() };
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).replace(&*self.program.to_string_lossy(), "");
        let mut words =
            text.split(|c: char| !(c.is_ascii_digit() || c == '.')).map(|word| word.trim_matches('.'));
        words.find(|word| word.contains('.')).unwrap_or("?").to_owned()
    }

    /// Starts the program on its core; returns the port on which it listens.
    ///
    /// # Errors
    /// Returns an error if it does not listen.
    pub(crate) fn start(
        &self,
        services: &Services,
        service: Service,
        folder: &Path,
    ) -> Result<(Running, u16), String> {
        fs::create_dir_all(folder).unwrap();
        process::open_to_others(folder);
        let port = free_port();
        let command = self.command(services, service, folder, port);
        Ok((Running::start(PROXY_CORE, &command, port)?, port))
    }

    /// The command that makes it serve on `port`.
    pub(crate) fn command(&self, services: &Services, service: Service, folder: &Path, port: u16) -> Command {
        let job = Job { folder, port, upstream: services.port(service), service, ca: &services.ca };
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let mut command = Command::new(&self.program);
        match self.kind {
            Kind::Streamgauge { has_ledger, has_group } => {
                let config = write("streamgauge.toml", configs::streamgauge(&job, has_ledger, has_group));
                command.args(["serve", "--log", "warn", "--config"]).arg(config);
            }
            Kind::Nginx { has_log } => {
                let config = write("nginx.conf", configs::nginx(&job, has_log));
                command.arg("-c").arg(config).arg("-p").arg(folder);
            }
            Kind::Haproxy => {
                let config = write("haproxy.cfg", configs::haproxy(&job));
                command.arg("-db").arg("-f").arg(config);
            }
            Kind::Envoy => {
                let config = write("envoy.yaml", configs::envoy(&job));
                command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c"]);
                command.arg(config);
            }
            Kind::Caddy => {
                let config = write("Caddyfile", configs::caddy(&job));
                command.args(["run", "--adapter", "caddyfile", "--config"]).arg(config);
                command.env("GOMAXPROCS", "1").env("HOME", folder).env("XDG_DATA_HOME", folder);
            }
            Kind::Litellm => {
                let config = write("litellm.yaml", configs::litellm(&job));
                command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
                command.args(["--num_workers", "1", "--telemetry", "False", "--config"]).arg(config);
                command.env("HOME", folder).env("LITELLM_LOG", "ERROR");
                // No list of prices is fetched at the start, and no key is asked of clients.
                command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
                command.env("LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY", "true");
            }
        }
        command
    }
}
