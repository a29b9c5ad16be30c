//! The proxy under test, in this process, on a free port.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};

use serde_json::Value;
use streamgauge::app::{App, Running};
use streamgauge::config::reload::{ReloadKind, ReloadOutcome};
use streamgauge::config::{self, Overrides, Sources};
use streamgauge::record::{Sink, UsageRecord};

use super::{Client, PATIENCE, Response, Upstream};

/// A running proxy. Dropping it cuts running work.
pub struct Proxy {
    pub running: Option<Running>,
    pub address: SocketAddr,
    records: Receiver<Value>,
}

/// The builder of a proxy: `proxy().upstream(&upstream).run()`.
pub fn proxy() -> Builder {
    Builder {
        server: String::new(),
        tls: String::new(),
        admin: "listen = \"\"\n".to_owned(),
        ledger: String::new(),
        tables: String::new(),
        env: BTreeMap::new(),
    }
}

pub struct Builder {
    server: String,
    /// The table `[server.tls]`, if there is one.
    tls: String,
    /// Lines of the `[admin]` table.
    admin: String,
    /// The path of the ledger. Empty: there is none.
    ledger: String,
    tables: String,
    env: BTreeMap<String, String>,
}

impl Builder {
    /// Lines of the `[server]` table.
    pub fn server(mut self, lines: &str) -> Self {
        self.server += lines;
        self.server.push('\n');
        self
    }

    /// Adds lines to the `[server.tls]` table: clients must use TLS.
    pub fn tls(mut self, lines: &str) -> Self {
        self.tls = format!("[server.tls]\n{lines}\n");
        self
    }

    /// Adds admin pages on a free port.
    pub fn admin(self) -> Self {
        self.admin_lines("listen = \"127.0.0.1:0\"")
    }

    /// Adds lines to the `[admin]` table, which tables may follow.
    pub fn admin_lines(mut self, lines: &str) -> Self {
        self.admin = format!("{lines}\n");
        self
    }

    /// Adds an upstream of provider `other`, named `up`.
    pub fn upstream(self, upstream: &Upstream) -> Self {
        self.other("up", upstream.address)
    }

    /// Adds an upstream that is reached by HTTP/2 with prior knowledge.
    pub fn http2(self, address: SocketAddr) -> Self {
        self.other("up", address).tables("http = \"2\"")
    }

    /// Adds an upstream that is reached over TLS, with these lines of its `tls` table.
    pub fn https(self, address: SocketAddr, lines: &str) -> Self {
        // Dotted keys, so that further keys of the upstream may follow.
        let tls: Vec<_> = lines.lines().map(|line| format!("tls.{line}")).collect();
        self.at("up", &format!("https://{address}/v1")).tables(&tls.join("\n"))
    }

    /// Adds an upstream of provider `other` with a secret key.
    pub fn other(self, name: &str, address: SocketAddr) -> Self {
        self.at(name, &format!("http://{address}/v1"))
    }

    fn at(self, name: &str, url: &str) -> Self {
        self.tables(&format!(
            "[upstreams.{name}]\nprovider = \"other\"\nurl = \"{url}\"\n\
             api_key = {{ value = \"sk-upstream\" }}\ndefault_model = \"default-model\""
        ))
    }

    /// Adds a variable to the environment, which is this map and never the test's own.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Keeps records in a ledger at this path.
    pub fn ledger(mut self, path: &Path) -> Self {
        self.ledger = path.display().to_string();
        self
    }

    /// Adds further lines.
    pub fn tables(mut self, lines: &str) -> Self {
        self.tables += lines;
        self.tables.push('\n');
        self
    }

    /// The whole configuration.
    pub fn text(&self) -> String {
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n{}\n{}[admin]\n{}[ledger]\npath = {:?}\n{}",
            self.server, self.tls, self.admin, self.ledger, self.tables
        );
        // A later line overrides the harness's own.
        if self.server.contains("workers") { text.replacen("workers = 1\n", "", 1) } else { text }
    }

    pub fn run(self) -> Proxy {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("streamgauge.toml");
        fs::write(&path, self.text()).unwrap();
        self.run_from(&path)
    }

    /// Runs with the configuration in a file, which reloads read again.
    pub fn run_from(self, path: &Path) -> Proxy {
        let sources = Sources { file: Some(path.to_owned()), env: self.env, overrides: Overrides::default() };
        let loaded = config::load(&sources).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let (sender, records) = mpsc::channel();
        let app = App::bind(&loaded.settings, vec![Box::new(Records(sender))]).unwrap();
        let running = app.reloading(sources, loaded.files).spawn().unwrap();
        let address = running.addresses().proxy.inet().unwrap();
        Proxy { running: Some(running), address, records }
    }
}

impl Proxy {
    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// The next record.
    pub fn record(&self) -> Value {
        self.records.recv_timeout(PATIENCE).expect("a usage record")
    }

    /// Reloads the configuration, and waits for the outcome.
    pub fn reload(&self) -> ReloadOutcome {
        self.request(ReloadKind::Reload)
    }

    /// Compares the files, as the proxy does every two seconds.
    pub fn look(&self) -> ReloadOutcome {
        self.request(ReloadKind::Look)
    }

    /// Compares limits with the ledger, as the proxy does every ten minutes.
    pub fn compare_limits(&self) {
        self.request(ReloadKind::CompareLimits);
    }

    fn request(&self, kind: ReloadKind) -> ReloadOutcome {
        let reload = self.running.as_ref().unwrap().reload();
        reload.request(kind).expect("a proxy with a file").blocking_recv().expect("it runs")
    }

    /// The address of the admin pages.
    pub fn admin(&self) -> SocketAddr {
        self.running.as_ref().unwrap().addresses().admin_port().expect("a proxy with admin pages")
    }

    /// A page for operators.
    pub fn page(&self, path: &str) -> Response {
        let admin = self.admin();
        Client::connect(admin).send(format!("GET {path} HTTP/1.1\r\nhost: {admin}\r\n\r\n")).response()
    }

    /// The present value of a metric by its name and labels.
    pub fn metric(&self, name: &str) -> f64 {
        let admin = self.admin();
        // The page is served under its own name only.
        let request = format!("GET /metrics HTTP/1.1\r\nhost: {admin}\r\n\r\n");
        let metrics = Client::connect(admin).send(request).response();
        let line = metrics.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is missing in\n{}", metrics.text())).parse().unwrap()
    }

    /// Stops, and returns the remaining records.
    pub fn stop(mut self) -> Vec<Value> {
        let running = self.running.take().expect("still running");
        running.stop().drain();
        running.finish().unwrap();
        self.records.try_iter().collect()
    }
}

struct Records(Sender<Value>);

impl Sink for Records {
    fn name(&self) -> String {
        "the test".to_owned()
    }

    fn write(&mut self, batch: &[UsageRecord]) -> io::Result<()> {
        for row in batch {
            // The test may be over.
            let _ = self.0.send(serde_json::to_value(row)?);
        }
        Ok(())
    }
}
