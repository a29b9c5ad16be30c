//! A real Prometheus: Debian's `prometheus`, with the scrape configuration and the alerts of
//! `config/prometheus`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::Client;
use crate::process::Process;
use crate::scene::{Scene, TOKEN};
use crate::until;

/// The configuration that the documentation shows.
const CONFIGURATION: &str = include_str!("../../config/prometheus/prometheus.yml");
const ALERTS: &str = include_str!("../../config/prometheus/alerts.yml");

/// The number of attempts: another process may take the port before it listens there.
const STARTS: usize = 3;

/// Scrapes a proxy continuously. It ends when it is dropped.
pub struct Prometheus {
    address: SocketAddr,
    folder: tempfile::TempDir,
    _process: Process,
}

impl Prometheus {
    /// Starts one that scrapes the proxy of `scene`.
    pub fn start(scene: &Scene) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        fs::write(&token, TOKEN).unwrap();
        let mut text = CONFIGURATION.to_owned();
        for (example, ours) in [
            ("15s", "100ms"),
            ("/run/secrets/admin-token", token.to_str().unwrap()),
            ("[\"127.0.0.1:9090\"]", &format!("[\"{}\"]", scene.admin)),
        ] {
            assert!(text.contains(example), "the example has no {example}");
            text = text.replace(example, ours);
        }
        fs::write(folder.path().join("prometheus.yml"), text).unwrap();
        fs::write(folder.path().join("alerts.yml"), ALERTS).unwrap();
        for _ in 0..STARTS {
            // Prometheus does not print the port that it got.
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let mut command = Command::new("prometheus");
            command
                .arg(format!("--web.listen-address={address}"))
                .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
                .current_dir(folder.path());
            let is_ready = |line: &str| line.contains("Server is ready").then_some(());
            match Process::try_start(&mut command, is_ready) {
                Ok((process, ())) => return Self { address, folder, _process: process },
                Err(said) => assert!(said.contains("address already in use"), "{command:?} ended: {said}"),
            }
        }
        panic!("each of {STARTS} free ports was taken by others");
    }

    /// The configuration of this instance.
    pub fn configuration(&self) -> PathBuf {
        self.folder.path().join("prometheus.yml")
    }

    /// The `data` of a response of its API.
    ///
    /// # Panics
    /// Panics if the response is an error.
    pub fn api(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        let request = format!("GET /api/v1/{path}?{query} HTTP/1.1\r\nhost: {}\r\n\r\n", self.address);
        let response = Client::connect(self.address).send(request).response();
        let mut body: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(body["status"], "success", "{parameters:?}: {body}");
        body["data"].take()
    }

    /// The present result of a query: each series with its labels and its last value.
    pub fn query(&self, query: &str) -> Vec<(BTreeMap<String, String>, f64)> {
        series(&self.api("query", &[("query", query)]), |series| &series["value"])
    }

    /// The result of a query for a range that ends now, as in graphs: the last value of each series
    /// that has one.
    pub fn query_range(&self, query: &str) -> Vec<(BTreeMap<String, String>, f64)> {
        let now = jiff::Timestamp::now().as_second();
        let range = [("start", &(now - 10).to_string()), ("end", &(now + 1).to_string())];
        let range = range.map(|(name, value)| (name, value.as_str()));
        let parameters = [[("query", query), ("step", "1")], range].concat();
        series(&self.api("query_range", &parameters), |series| {
            series["values"].as_array().unwrap().last().unwrap()
        })
    }

    /// Waits until it has scraped that this many requests have ended.
    pub fn wait_for_requests(&self, count: usize) {
        until("the scrape of all requests", || {
            let sum = self.query("sum(streamgauge_requests_total)");
            sum.iter().any(|&(_, value)| value == count as f64).then_some(())
        });
    }
}

fn series(data: &Value, sample: impl Fn(&Value) -> &Value) -> Vec<(BTreeMap<String, String>, f64)> {
    let series = data["result"].as_array().unwrap().iter();
    let series = series.map(|series| {
        let labels = series["metric"].as_object().unwrap().iter();
        let labels = labels.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()));
        (labels.collect(), sample(series)[1].as_str().unwrap().parse().unwrap())
    });
    series.collect()
}

/// Runs promtool with `arguments` and `input`. It must report nothing.
pub fn promtool(arguments: &[&str], input: &str) {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.spawn().expect("promtool, which Debian's prometheus brings, as tests/run installs it");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "promtool {arguments:?}: {said}{output:?}");
}
