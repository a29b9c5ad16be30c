//! The proxies, and the configuration of each for the same job.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{CertificateParams, KeyPair};

use super::process::{self, LOAD_CORE, PROXY_CORE, Running, free_port};
use super::workloads::{Service, Workload};

/// What the proxies are programs of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Streamgauge,
    Nginx,
    Haproxy,
    Caddy,
}

/// A proxy that can be started.
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    name: String,
    program: PathBuf,
}

/// The simulated service, in the clear and through TLS.
pub(crate) struct Services {
    plain: u16,
    tls: u16,
    pub(crate) ca: PathBuf,
    _running: [Running; 2],
}

impl Services {
    pub(crate) fn start(folder: &Path) -> Self {
        let (ca, key) = (folder.join("service.crt"), folder.join("service.key"));
        let pair = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&pair).unwrap();
        fs::write(&ca, certificate.pem()).unwrap();
        fs::write(&key, pair.serialize_pem()).unwrap();
        let (plain, tls) = (free_port(), free_port());
        let simulate = |port: u16, more: &[&Path]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_streamgauge"));
            command.args(["simulate", "--workers", "1", "--listen", &format!("127.0.0.1:{port}")]);
            if let [certificate, key] = more {
                command.arg("--certificate").arg(certificate).arg("--private-key").arg(key);
            }
            Running::start(LOAD_CORE, &command, port)
        };
        let _running = [simulate(plain, &[]), simulate(tls, &[&ca, &key])];
        Self { plain, tls, ca, _running }
    }

    pub(crate) fn port(&self, service: Service) -> u16 {
        if service == Service::Plain { self.plain } else { self.tls }
    }
}

impl Peer {
    pub(crate) fn new(kind: Kind, program: PathBuf) -> Self {
        let name = match kind {
            Kind::Streamgauge => "streamgauge",
            Kind::Nginx => "nginx",
            Kind::Haproxy => "HAProxy",
            Kind::Caddy => "Caddy",
        };
        Self { kind, name: name.to_owned(), program }
    }

    pub(crate) fn streamgauge() -> Self {
        Self::new(Kind::Streamgauge, env!("CARGO_BIN_EXE_streamgauge").into())
    }

    pub(crate) fn other_build(name: &str, program: PathBuf) -> Self {
        Self { kind: Kind::Streamgauge, name: name.to_owned(), program }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn can(&self, workload: &Workload) -> bool {
        workload.service != Service::Http2 || self.kind != Kind::Nginx
    }

    /// What the program says of its version.
    pub(crate) fn version(&self) -> String {
        let argument = match self.kind {
            Kind::Streamgauge => "--version",
            Kind::Nginx | Kind::Haproxy => "-v",
            Kind::Caddy => "version",
        };
        let output = Command::new(&self.program).arg(argument).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let word = |word: &&str| {
            word.trim_start_matches(['v', 'n', 'g', 'i', 'x', '/']).starts_with(|c: char| c.is_ascii_digit())
        };
        let version = text.split_whitespace().find(word).unwrap_or("?");
        let version = version.trim_start_matches(|c: char| !c.is_ascii_digit());
        version.split(['-', '+']).next().unwrap_or(version).to_owned()
    }

    /// Starts it on its core; returns where it listens.
    pub(crate) fn start(&self, services: &Services, service: Service, folder: &Path) -> (Running, u16) {
        fs::create_dir_all(folder).unwrap();
        process::open_to_others(folder);
        let port = free_port();
        let command = self.command(services, service, folder, port);
        (Running::start(PROXY_CORE, &command, port), port)
    }

    /// The command that makes it serve on `port`.
    pub(crate) fn command(&self, services: &Services, service: Service, folder: &Path, port: u16) -> Command {
        let upstream = services.port(service);
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let mut command = Command::new(&self.program);
        let ca = services.ca.display();
        match self.kind {
            Kind::Streamgauge => {
                let config =
                    write("streamgauge.toml", streamgauge(folder, port, upstream, service, &ca.to_string()));
                command.args(["serve", "--log", "warn", "--config"]).arg(config);
            }
            Kind::Nginx => {
                let config = write("nginx.conf", nginx(folder, port, upstream, service, &ca.to_string()));
                command.arg("-c").arg(config).arg("-p").arg(folder);
            }
            Kind::Haproxy => {
                let config = write("haproxy.cfg", haproxy(port, upstream, service, &ca.to_string()));
                command.arg("-db").arg("-f").arg(config);
            }
            Kind::Caddy => {
                let config = write("Caddyfile", caddy(port, upstream, service, &ca.to_string()));
                command.args(["run", "--adapter", "caddyfile", "--config"]).arg(config);
                command.env("GOMAXPROCS", "1").env("HOME", folder).env("XDG_DATA_HOME", folder);
            }
        }
        command
    }
}

fn streamgauge(folder: &Path, port: u16, upstream: u16, service: Service, ca: &str) -> String {
    let folder = folder.display();
    let scheme = if service == Service::Plain { "http" } else { "https" };
    let mut config = format!(
        r#"
[server]
listen = "127.0.0.1:{port}"
workers = 1
[admin]
listen = "127.0.0.1:{}"
[ledger]
path = "{folder}/usage.db"
[upstreams.up]
provider = "other"
url = "{scheme}://localhost:{upstream}/v1"
api_key = {{ value = "sk-bench" }}
default_model = "m"
http = "{}"
[upstreams.up.pool]
max_idle = 4096
"#,
        free_port(),
        if service == Service::Http2 { "2" } else { "1" },
    );
    if service != Service::Plain {
        write!(config, "[upstreams.up.tls]\nca = {{ file = \"{ca}\" }}\n").unwrap();
    }
    config
}

fn nginx(folder: &Path, port: u16, upstream: u16, service: Service, ca: &str) -> String {
    let folder = folder.display();
    let (scheme, tls) = match service {
        Service::Plain => ("http", String::new()),
        _ => (
            "https",
            format!(
                "proxy_ssl_verify on; proxy_ssl_trusted_certificate {ca}; proxy_ssl_name localhost; proxy_ssl_server_name on;
                 proxy_ssl_protocols TLSv1.2 TLSv1.3;"
            ),
        ),
    };
    format!(
        r#"
worker_processes 1;
worker_rlimit_nofile 20000;
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 10000; }}
http {{
  access_log off;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  keepalive_requests 100000000;
  client_max_body_size 32m;
  client_body_buffer_size 1m;
  upstream up {{ server 127.0.0.1:{upstream}; keepalive 4096; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass {scheme}://up;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host "localhost:{upstream}";
      proxy_set_header Authorization "Bearer sk-bench";
      proxy_buffering off;
      proxy_read_timeout 600s;
      {tls}
    }}
  }}
}}
"#
    )
}

fn haproxy(port: u16, upstream: u16, service: Service, ca: &str) -> String {
    let tls = match service {
        Service::Plain => String::new(),
        Service::Tls => {
            format!("ssl verify required ca-file {ca} sni str(localhost) verifyhost localhost alpn http/1.1")
        }
        Service::Http2 => {
            format!("ssl verify required ca-file {ca} sni str(localhost) verifyhost localhost alpn h2")
        }
    };
    format!(
        r#"
global
  nbthread 1
  maxconn 9000
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  option http-no-delay
  http-reuse always
frontend front
  bind 127.0.0.1:{port} backlog 4096
  default_backend up
backend up
  http-request set-header Host localhost:{upstream}
  http-request set-header Authorization "Bearer sk-bench"
  server up 127.0.0.1:{upstream} pool-max-conn 4096 {tls}
"#
    )
}

fn caddy(port: u16, upstream: u16, service: Service, ca: &str) -> String {
    let (scheme, tls) = match service {
        Service::Plain => ("http", String::new()),
        Service::Tls => (
            "https",
            format!("tls_trust_pool file {ca}\n      tls_server_name localhost\n      versions 1.1"),
        ),
        Service::Http2 => {
            ("https", format!("tls_trust_pool file {ca}\n      tls_server_name localhost\n      versions 2"))
        }
    };
    format!(
        r#"
{{
  admin off
  auto_https off
  persist_config off
}}
http://:{port} {{
  bind 127.0.0.1
  reverse_proxy {scheme}://127.0.0.1:{upstream} {{
    header_up Host localhost:{upstream}
    header_up Authorization "Bearer sk-bench"
    flush_interval -1
    transport http {{
      keepalive_idle_conns_per_host 4096
      compression off
      {tls}
    }}
  }}
}}
"#
    )
}
