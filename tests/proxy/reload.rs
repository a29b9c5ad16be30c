//! A configuration that is reloaded while requests run: it changes for the next requests, and not
//! for running ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use serde_json::Value;
use streamgauge::config::reload::ReloadOutcome;

use crate::harness::{
    CHAT_BODY, CHAT_REQUEST, CHAT_STREAM, Client, EVENTS_HEAD, LAST_CHUNK, PATIENCE, Proxy, Response,
    Upstream, chunk, free_address, proxy, sized, until, upstream,
};

const TAKEN: ReloadOutcome = ReloadOutcome::Taken { needs_restart: Vec::new(), late_workers: 0 };

/// A proxy with its configuration in a directory of its own.
struct Configured {
    folder: tempfile::TempDir,
    proxy: Proxy,
}

impl Configured {
    fn new(tables: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("streamgauge.toml");
        fs::write(&path, text(tables)).unwrap();
        let proxy = proxy().run_from(&path);
        Self { folder, proxy }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("streamgauge.toml")
    }

    /// Writes another configuration and reloads it.
    fn change(&self, tables: &str) {
        self.write(tables);
        assert_eq!(self.proxy.reload(), TAKEN);
    }

    fn write(&self, tables: &str) {
        fs::write(self.path(), text(tables)).unwrap();
    }

    fn ask(&self) -> Response {
        ask(&mut self.proxy.client(), None)
    }
}

fn text(tables: &str) -> String {
    let server = "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n[admin]\nlisten = \"127.0.0.1:0\"\n";
    let ledger = if tables.contains("[ledger]") { "" } else { "[ledger]\npath = \"\"\n" };
    format!("{server}{ledger}{tables}")
}

fn other(name: &str, upstream: &Upstream) -> String {
    format!(
        "[upstreams.{name}]\nprovider = \"other\"\nurl = \"http://{}/v1\"\napi_key = {{ value = \"sk-{name}\" }}\n\
         default_model = \"m\"\n",
        upstream.address
    )
}

fn ask(client: &mut Client, key: Option<&str>) -> Response {
    let body = "{\"model\":\"m\",\"messages\":[]}";
    let key = key.map(|key| format!("authorization: Bearer {key}\r\n")).unwrap_or_default();
    client
        .send(format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n{key}content-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        ))
        .response()
}

/// Responds with a body that names the upstream.
fn named(name: &'static str) -> Upstream {
    let body = CHAT_BODY.replace("Hello", name);
    Upstream::responding(sized("200 OK", "application/json", body.as_bytes()))
}

#[test]
fn next_request_goes_by_the_new_configuration() {
    let (one, two) = (named("one"), named("two"));
    let configured = Configured::new(&other("up", &one));
    let mut kept = configured.proxy.client();
    assert!(ask(&mut kept, None).text().contains("one"));
    configured.change(&other("up", &two));
    assert!(ask(&mut kept, None).text().contains("two"), "also on a connection that was open before");
    configured.change(&format!(
        "{}{}[[routes]]\npath = \"/elsewhere\"\nupstream = \"up\"\n[[routes]]\nupstream = \"first\"\n",
        other("up", &two),
        other("first", &one)
    ));
    assert!(ask(&mut kept, None).text().contains("one"));
}

#[test]
fn running_streams_are_untouched_and_keep_their_upstreams_name() {
    let (go, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let up = upstream(move |connection| {
        if connection.request().is_none() {
            return;
        }
        let (first, rest) = CHAT_STREAM.split_at(CHAT_STREAM.find("\n\n").unwrap() + 2);
        connection.send(EVENTS_HEAD);
        connection.send(chunk(first.as_bytes()));
        gate.lock().unwrap().recv().unwrap();
        connection.send(chunk(rest.as_bytes()));
        connection.send(LAST_CHUNK);
    });
    let two = named("two");
    let configured = Configured::new(&other("up", &up));
    let mut client = configured.proxy.client();
    let head = client.post("/v1/chat/completions", CHAT_REQUEST).head();
    let mut body = client.chunk();
    // Renamed, so that nothing of it is left.
    configured.change(&other("two", &two));
    assert!(configured.ask().text().contains("two"));
    assert_eq!(configured.proxy.metric("streamgauge_config_generations"), 2.0);
    assert_eq!(configured.proxy.metric("streamgauge_streams_active{upstream=\"up\"}"), 1.0);
    go.send(()).unwrap();
    body.extend(client.body_and_end(&head).0);
    assert_eq!(String::from_utf8(body).unwrap(), CHAT_STREAM);
    let records = [configured.proxy.record(), configured.proxy.record()];
    let of = |name: &str| records.iter().find(|record| record["upstream"] == name).expect(name);
    assert_eq!((&of("up")["outcome"], &of("up")["output_tokens"]), (&"complete".into(), &2.into()));
    assert_eq!(of("two")["outcome"], "complete");
    until(PATIENCE, "the end of the first configuration", || {
        (configured.proxy.metric("streamgauge_config_generations") == 1.0).then_some(())
    });
    assert_eq!(
        configured.proxy.metric("streamgauge_streams_active{upstream=\"up\"}"),
        0.0,
        "it stays until a restart"
    );
}

#[test]
fn connections_stay_for_same_upstreams_and_end_for_changed_ones() {
    let (closed, closes) = mpsc::channel();
    let up = upstream(move |connection| {
        while connection.request().is_some() {
            connection.send(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
        }
        closed.send(()).unwrap();
    });
    let tables = other("up", &up).replace("workers = 2", "workers = 1");
    let configured = Configured::new(&tables);
    // One or both workers have a connection: the test needs that there are no more.
    let mut client = configured.proxy.client();
    assert_eq!(ask(&mut client, None).status(), 200);
    assert_eq!(up.accepted(), 1);
    configured.change(&format!("{tables}headers = {{ x-new = \"1\" }}\n"));
    configured.change(&format!("{tables}headers = {{ x-new = \"2\" }}\nmodels = {{ m = \"n\" }}\n"));
    assert_eq!(ask(&mut client, None).status(), 200);
    assert_eq!(up.accepted(), 1, "headers and models say nothing about connections");
    configured.change(&format!("{tables}[upstreams.up.timeouts]\nidle = \"61s\"\n"));
    closes.recv_timeout(PATIENCE).expect("the idle connection is closed");
    assert_eq!(ask(&mut client, None).status(), 200);
    assert_eq!(up.accepted(), 2);
}

#[test]
fn removed_client_gets_401_at_next_request_on_kept_connection() {
    let up = named("up");
    let clients = |names: &[&str]| {
        let clients = names
            .iter()
            .map(|name| format!("[clients.{name}]\nkey = {{ value = \"sg-of-{name}-123456\" }}\n"));
        format!("{}{}", other("up", &up), clients.collect::<String>())
    };
    let configured = Configured::new(&clients(&["alice", "bob"]));
    let (mut alice, mut bob) = (configured.proxy.client(), configured.proxy.client());
    let (alices, bobs) = (Some("sg-of-alice-123456"), Some("sg-of-bob-123456"));
    assert_eq!((ask(&mut alice, alices).status(), ask(&mut bob, bobs).status()), (200, 200));
    configured.change(&clients(&["alice", "carol"]));
    assert_eq!((ask(&mut alice, alices).status(), ask(&mut bob, bobs).status()), (200, 401));
    assert_eq!(ask(&mut bob, Some("sg-of-carol-123456")).status(), 200);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn limits_of_connections_change_for_those_that_are_open() {
    let up = named("up");
    let configured = Configured::new(&other("up", &up));
    let mut client = configured.proxy.client();
    assert_eq!(ask(&mut client, None).status(), 200);
    let changed =
        text(&other("up", &up)).replacen("workers = 2", "workers = 2\nkeep_alive_timeout = \"50ms\"", 1);
    fs::write(configured.path(), changed).unwrap();
    assert_eq!(configured.proxy.reload(), TAKEN);
    assert!(client.next_response().is_none(), "the idle connection is closed");
}

#[test]
fn prices_change_for_records_and_for_the_page_at_once() {
    let up = named("up");
    let tables = |price: &str| {
        format!(
            "[ledger]\npath = \"usage.db\"\n{}[[prices]]\nmodel = \"*\"\ninput = {price}\noutput = {price}\n",
            other("up", &up)
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let write = |price| {
        fs::write(
            folder.path().join("streamgauge.toml"),
            text(&tables(price)).replace("usage.db", folder.path().join("usage.db").to_str().unwrap()),
        )
        .unwrap()
    };
    write("1");
    let proxy = proxy().run_from(&folder.path().join("streamgauge.toml"));
    let cost = |proxy: &Proxy| {
        let report: Value = serde_json::from_slice(proxy.page("/usage?format=json&since=1h").body()).unwrap();
        report["total"]["cost"].to_string()
    };
    assert_eq!(ask(&mut proxy.client(), None).status(), 200);
    proxy.record();
    let before = until(PATIENCE, "the record in the ledger", || {
        Some(cost(&proxy)).filter(|cost| cost.contains("0.00001"))
    });
    write("2");
    assert_eq!(proxy.reload(), TAKEN);
    let after = cost(&proxy);
    assert!(before.contains("0.00001") && after.contains("0.00002"), "{before} {after}");
    assert_eq!(ask(&mut proxy.client(), None).status(), 200);
    proxy.record();
    let total = until(PATIENCE, "both costs", || {
        let metrics = proxy.page("/metrics");
        let line = metrics.text().lines().find(|line| line.starts_with("streamgauge_cost_total{"))?;
        Some(line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).filter(|total| *total > 2e-5)
    });
    assert!(
        (total - 3e-5).abs() < 1e-9,
        "the first at its price of then, the second at the new one: {total}"
    );
}

#[test]
fn keys_that_need_a_restart_are_named_and_others_applied() {
    let (one, two) = (named("one"), named("two"));
    let configured = Configured::new(&other("up", &one));
    let taken =
        |keys: &[&'static str]| ReloadOutcome::Taken { needs_restart: keys.to_vec(), late_workers: 0 };
    let changed = text(&other("up", &two))
        .replacen("127.0.0.1:0", &free_address().to_string(), 1)
        .replace("workers = 2", "workers = 3")
        .replace("path = \"\"", "path = \"other.db\"");
    fs::write(configured.path(), changed).unwrap();
    assert_eq!(configured.proxy.reload(), taken(&["server.listen", "server.workers", "ledger.path"]));
    assert!(configured.ask().text().contains("two"));
    let shown = configured.proxy.page("/config?format=json");
    assert_eq!(
        shown.header("x-streamgauge-needs-restart"),
        Some("server.listen, server.workers, ledger.path")
    );
    let shown: Value = serde_json::from_slice(shown.body()).unwrap();
    assert_eq!((&shown["server"]["listen"], &shown["server"]["workers"]), (&"127.0.0.1:0".into(), &2.into()));
    assert_eq!(configured.proxy.metric("streamgauge_config_restart_needed"), 1.0);
    configured.change(&other("up", &two));
    assert_eq!(configured.proxy.metric("streamgauge_config_restart_needed"), 0.0);
    let shown = configured.proxy.page("/config?format=json");
    assert_eq!(shown.header("x-streamgauge-needs-restart"), None);
}

#[test]
fn three_mistakes_are_all_named_and_old_configuration_stays() {
    let up = named("up");
    let configured = Configured::new(&other("up", &up));
    configured.write(&format!(
        "{}timeouts = {{ idle = \"soon\" }}\nmodel = \"x\"\n[[routes]]\nupstream = \"nowhere\"\n",
        other("up", &up)
    ));
    for _ in 0..2 {
        let ReloadOutcome::Refused(mistakes) = configured.proxy.reload() else { panic!("it has mistakes") };
        for mistake in ["timeouts.idle", "unknown key", "nowhere"] {
            assert!(mistakes.contains(mistake), "{mistake}: {mistakes}");
        }
    }
    assert_eq!(configured.ask().status(), 200);
    let proxy = &configured.proxy;
    assert_eq!(proxy.metric("streamgauge_config_reloads_total{result=\"refused\"}"), 2.0);
    assert_eq!(proxy.metric("streamgauge_config_last_reload_successful"), 0.0);
    configured.change(&format!("{}models = {{ m = \"n\" }}\n", other("up", &up)));
    assert_eq!(proxy.metric("streamgauge_config_reloads_total{result=\"taken\"}"), 1.0);
    assert_eq!(proxy.metric("streamgauge_config_last_reload_successful"), 1.0);
}

#[test]
fn unchanged_configuration_begins_no_generation() {
    let up = named("up");
    let configured = Configured::new(&other("up", &up));
    let proxy = &configured.proxy;
    assert_eq!(proxy.reload(), ReloadOutcome::Unchanged);
    configured.write("[upstreams.up]\n");
    assert!(matches!(proxy.reload(), ReloadOutcome::Refused(_)));
    assert_eq!(proxy.metric("streamgauge_config_last_reload_successful"), 0.0);
    configured.write(&other("up", &up));
    assert_eq!(proxy.reload(), ReloadOutcome::Unchanged, "the file of the start is back");
    assert_eq!(proxy.metric("streamgauge_config_last_reload_successful"), 1.0);
    assert_eq!(proxy.metric("streamgauge_config_reloads_total{result=\"taken\"}"), 0.0);
    let status: Value = serde_json::from_slice(proxy.page("/config/status").body()).unwrap();
    assert_eq!((&status["generation"], &status["refused"]), (&1.into(), &Value::Null));
}

#[test]
fn key_of_an_upstream_in_a_file_is_read_again() {
    let (heard, keys) = mpsc::channel();
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            heard.send(request.header("authorization").unwrap_or_default().to_owned()).unwrap();
            connection.send(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
        }
    });
    let tables = other("up", &up).replace("{ value = \"sk-up\" }", "{ file = \"key\" }");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("streamgauge.toml");
    let key = folder.path().join("key");
    fs::write(&path, text(&tables)).unwrap();
    fs::write(&key, "sk-old-key\n").unwrap();
    let proxy = proxy().run_from(&path);
    ask(&mut proxy.client(), None);
    assert_eq!(keys.recv().unwrap(), "Bearer sk-old-key");
    fs::write(&key, "sk-new-key\n").unwrap();
    assert_eq!(settle(&proxy), TAKEN);
    ask(&mut proxy.client(), None);
    assert_eq!(keys.recv().unwrap(), "Bearer sk-new-key");
    fs::remove_file(&key).unwrap();
    assert!(matches!(settle(&proxy), ReloadOutcome::Refused(reason) if reason.contains("there is no file")));
    ask(&mut proxy.client(), None);
    assert_eq!(keys.recv().unwrap(), "Bearer sk-new-key", "the earlier one stays");
}

/// Compares the files twice, since a change must be found twice.
pub fn settle(proxy: &Proxy) -> ReloadOutcome {
    assert_eq!(proxy.look(), ReloadOutcome::Unchanged);
    proxy.look()
}

#[test]
fn key_of_a_client_in_a_file_is_refused_once_it_is_removed() {
    let up = named("up");
    let folder = tempfile::tempdir().unwrap();
    let key = |name: &str| folder.path().join(name);
    fs::write(key("a"), "sg-key-of-the-past").unwrap();
    let path = folder.path().join("streamgauge.toml");
    fs::write(&path, text(&format!("{}[clients.a]\nkey = {{ file = \"a\" }}\n", other("up", &up)))).unwrap();
    let proxy = proxy().run_from(&path);
    let mut client = proxy.client();
    assert_eq!(ask(&mut client, Some("sg-key-of-the-past")).status(), 200);
    replace(&key("a"), "sg-key-of-today-1");
    assert_eq!(settle(&proxy), TAKEN);
    assert_eq!(ask(&mut client, Some("sg-key-of-the-past")).status(), 401);
    assert_eq!(ask(&mut client, Some("sg-key-of-today-1")).status(), 200);
}

/// Replaces a file by a rename.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}
