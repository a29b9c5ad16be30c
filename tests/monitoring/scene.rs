//! The program as a gateway: two upstreams and their group, clients with keys and a limit, an admin
//! token, and a fleet's ledger.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;

use crate::harness::postgres::Server;
use crate::harness::{Client, Response};
use crate::process::Process;
use crate::traffic;
use crate::until;

/// The token of the admin pages.
pub const TOKEN: &str = "a-token-for-operators";

/// The running programs.
pub struct Scene {
    pub postgres: Server,
    pub proxy: SocketAddr,
    pub admin: SocketAddr,
    folder: tempfile::TempDir,
    /// The number of sent requests.
    sent: usize,
    _processes: [Process; 2],
}

impl Scene {
    pub fn start() -> Self {
        let postgres = Server::start();
        let folder = tempfile::tempdir().unwrap();
        let mut simulate = streamgauge();
        let (simulator, upstream) = Process::start(
            simulate.args(["simulate", "--listen", "127.0.0.1:0", "--workers", "1"]),
            |line| {
                let address = line.strip_prefix("simulate: listening on ")?;
                Some(address.split_once("; ").unwrap().0.to_owned())
            },
        );
        fs::write(folder.path().join("streamgauge.toml"), configuration(&upstream, &postgres.url())).unwrap();
        let migrated = streamgauge().args(["ledger", "migrate"]).current_dir(folder.path()).output().unwrap();
        assert!(migrated.status.success(), "{migrated:?}");
        let (mut proxy, mut admin) = (None, None);
        let mut serve = streamgauge();
        let (gauge, (proxy, admin)) = Process::start(serve.arg("serve").current_dir(folder.path()), |line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let address = || line["address"].as_str().unwrap().parse().ok();
            match line["message"].as_str().unwrap() {
                "listening" => proxy = address(),
                "admin pages" => admin = address(),
                _ => {}
            }
            proxy.zip(admin)
        });
        Self { postgres, proxy, admin, folder, sent: 0, _processes: [simulator, gauge] }
    }

    /// Sends [`traffic`] through, and waits until PostgreSQL has all requests so far. Returns their
    /// number.
    pub fn send_traffic(&mut self) -> usize {
        self.sent += traffic::send(self.proxy);
        until("the records of all requests", || {
            (self.postgres.number("SELECT count(*) FROM usage_records") == self.sent as u64).then_some(())
        });
        self.sent
    }

    /// Requests an admin page, with more lines of the head.
    pub fn get(&self, path: &str, head: &str) -> Response {
        let head = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n{head}\r\n", self.admin);
        Client::connect(self.admin).send(head).response()
    }

    /// The output of `streamgauge usage` for the instance's own ledger.
    pub fn usage(&self, by: &str) -> Value {
        let arguments = ["usage", "--format", "json", "--by", by];
        let output = streamgauge().args(arguments).current_dir(self.folder.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn streamgauge() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_streamgauge"));
    command.env_remove("RUST_LOG");
    command
}

fn configuration(upstream: &str, ledger: &str) -> String {
    let up = format!(
        "provider = \"other\"\nurl = \"{upstream}\"\napi_key = \"none\"\ndefault_model = \"m\"\ntimeouts = {{ idle = \"400ms\" }}"
    );
    format!(
        r#"
[server]
listen = "127.0.0.1:0"
workers = 1
[admin]
listen = "127.0.0.1:0"
token = {{ value = "{TOKEN}" }}
[log]
format = "json"
level = "info,streamgauge::access=off"
[ledger]
path = "usage.db"
[ledger.postgres]
url = {{ value = "{ledger}" }}
instance = "gateway-1"
[keys]
store = "postgres"
[clients.search]
key = {{ value = "{}" }}
[clients.support]
key = {{ value = "{}" }}
limits = [{{ requests = 1, per = "hour", at_limit = "warn" }}]
[upstreams.alpha]
{up}
[upstreams.beta]
{up}
[groups.both]
tiers = [["alpha", "beta"]]
[[prices]]
model = "*"
input = 1
output = 2
[[routes]]
path = "/beta"
upstream = "beta"
[[routes]]
path = "/both"
upstream = "both"
[[routes]]
upstream = "alpha"
"#,
        traffic::SEARCH,
        traffic::SUPPORT
    )
}
