//! Webhooks that are told of limits and of upstreams that are out.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{
    CHAT_BODY, PATIENCE, Proxy, Request, Upstream, free_address, proxy, sized, until, upstream, upstream_on,
};

const KEY: &str = "alerts-0123456789";

/// A receiver that responds with these statuses in turn, the last one to all further requests.
fn receiver_on(listener: TcpListener, statuses: &[&'static str]) -> (Upstream, Receiver<Request>) {
    let (sender, requests) = mpsc::channel();
    let statuses = statuses.to_owned();
    let place = std::sync::atomic::AtomicUsize::new(0);
    let up = upstream_on(listener, move |connection| {
        while let Some(request) = connection.request() {
            let at = place.fetch_add(1, std::sync::atomic::Ordering::SeqCst).min(statuses.len() - 1);
            let _ = sender.send(request);
            connection.send(sized(statuses[at], "text/plain", b"ok"));
        }
    });
    (up, requests)
}

fn receiver(statuses: &[&'static str]) -> (Upstream, Receiver<Request>) {
    receiver_on(TcpListener::bind("127.0.0.1:0").unwrap(), statuses)
}

fn webhook(address: std::net::SocketAddr, more: &str) -> String {
    format!("[[alerts]]\nurl = {{ value = \"http://{address}/hook?sig=marker\" }}\n{more}\n")
}

/// Five requests a day.
const CLIENT: &str = "[clients.search]\nkey = { value = \"sg-search-0123456789\" }\nlimits = [{ requests = 5, per = \"day\" }]\n";

/// A proxy with a limit per day, and these webhooks.
fn limited(folder: &tempfile::TempDir, alerts: &str) -> Proxy {
    let up = Upstream::responding(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
    proxy().admin().ledger(&folder.path().join("a.db")).upstream(&up).tables(CLIENT).tables(alerts).run()
}

fn ask(proxy: &Proxy, count: usize) {
    for _ in 0..count {
        let body = "{\"model\":\"m\",\"messages\":[]}";
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\napi-key: sg-search-0123456789\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        proxy.client().send(request).response();
        proxy.record();
    }
}

fn next(requests: &Receiver<Request>) -> Request {
    requests.recv_timeout(PATIENCE).expect("a notice")
}

fn json(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

/// The signature by another program.
fn signature(request: &Request) -> String {
    let script = "import hmac, sys; print('v1=' + hmac.new(sys.argv[1].encode(), sys.stdin.buffer.read(), 'sha256').hexdigest())";
    let mut python = Command::new("python3")
        .args(["-c", script, KEY])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let signed =
        [request.header("x-streamgauge-timestamp").unwrap().as_bytes(), b".", &request.body].concat();
    python.stdin.take().unwrap().write_all(&signed).unwrap();
    String::from_utf8(python.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
}

#[test]
fn threshold_is_told_once_in_a_period_and_signed() {
    let folder = tempfile::tempdir().unwrap();
    let (up, requests) = receiver(&["200 OK"]);
    let template = r#"template = '{"text":"${message}","which":["${kind}","${subject}","${value}"]}'"#;
    let proxy =
        limited(&folder, &webhook(up.address, &format!("signing_key = {{ value = \"{KEY}\" }}\n{template}")));
    ask(&proxy, 4);
    let first = next(&requests);
    assert_eq!(first.line(), "POST /hook?sig=marker HTTP/1.1");
    assert_eq!(first.header("content-type"), Some("application/json"));
    assert_eq!(json(&first)["which"], serde_json::json!(["limit", "clients.search.limits[0]", "0.8"]));
    let text = json(&first)["text"].as_str().unwrap().to_owned();
    assert!(
        text.starts_with("streamgauge: client search has used 80 % of clients.search.limits[0], "),
        "{text}"
    );
    assert_eq!(first.header("x-streamgauge-signature"), Some(&*signature(&first)));
    ask(&proxy, 1);
    let second = next(&requests);
    assert_eq!(json(&second)["which"][2], "1");
    assert_eq!(second.header("x-streamgauge-signature"), Some(&*signature(&second)));
    // Two looks pass.
    ask(&proxy, 2);
    assert!(requests.recv_timeout(Duration::from_millis(2500)).is_err(), "a threshold is told twice");
    until(PATIENCE, "both notices are counted", || {
        (proxy.metric("streamgauge_alerts_sent_total") == 2.0).then_some(())
    });
    let page = proxy.page("/config");
    assert!(!page.text().contains("marker") && !page.text().contains(KEY), "{}", page.text());
}

#[test]
fn highest_of_several_thresholds_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = limited(&folder, "");
    ask(&proxy, 5);
    proxy.stop();
    // The use before a start is read from the ledger.
    let (up, requests) = receiver(&["200 OK"]);
    let _proxy = limited(&folder, &webhook(up.address, "limits = [0.5, 0.9, 2]"));
    let text = json(&next(&requests))["text"].as_str().unwrap().to_owned();
    assert!(text.contains("100 %"), "{text}");
    assert!(requests.recv_timeout(Duration::from_millis(1500)).is_err(), "0.5 is told too");
}

#[test]
fn notice_is_sent_again_after_failures_that_may_pass() {
    let folder = tempfile::tempdir().unwrap();
    let address = free_address();
    let proxy = limited(&folder, &webhook(address, "limits = [1]"));
    ask(&proxy, 5);
    until(PATIENCE, "a refused connection", || {
        (proxy.metric("streamgauge_alert_failures_total") >= 1.0).then_some(())
    });
    let (_up, requests) =
        receiver_on(TcpListener::bind(address).unwrap(), &["500 Internal Server Error", "200 OK"]);
    let bodies = [next(&requests).body, next(&requests).body];
    assert_eq!(bodies[0], bodies[1]);
    until(PATIENCE, "the notice is counted", || {
        (proxy.metric("streamgauge_alerts_sent_total") == 1.0).then_some(())
    });
    assert_eq!(proxy.metric("streamgauge_alerts_lost_total"), 0.0);
}

#[test]
fn refused_notice_is_not_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let (up, requests) = receiver(&["404 Not Found"]);
    let proxy = limited(&folder, &webhook(up.address, "limits = [1]"));
    ask(&proxy, 5);
    next(&requests);
    until(PATIENCE, "the loss is counted", || {
        (proxy.metric("streamgauge_alerts_lost_total") == 1.0).then_some(())
    });
    assert_eq!(proxy.metric("streamgauge_alert_failures_total"), 1.0);
}

#[test]
fn webhook_that_hangs_delays_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (sender, hung) = mpsc::channel();
    let hanging = upstream(move |connection| {
        if let Some(request) = connection.request() {
            let _ = sender.send(request);
            connection.wait_for_close();
        }
    });
    let (up, requests) = receiver(&["200 OK"]);
    let alerts = [webhook(hanging.address, "limits = [1]"), webhook(up.address, "limits = [1]")].concat();
    let proxy = limited(&folder, &alerts);
    ask(&proxy, 5);
    next(&hung);
    next(&requests);
    assert_eq!(proxy.metric("streamgauge_alert_failures_total"), 0.0, "it waited for the other");
    until(PATIENCE, "the attempt that hangs ends", || {
        (proxy.metric("streamgauge_alert_failures_total") >= 1.0).then_some(())
    });
}

#[test]
fn upstream_that_is_out_is_told_once() {
    let (up, requests) = receiver(&["200 OK"]);
    let refusing = Upstream::responding(sized("401 Unauthorized", "application/json", b"{}"));
    let good = Upstream::responding(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
    let group = "[groups.chat]\ntiers = [[\"bad\"], [\"good\"]]\n[[routes]]\nupstream = \"chat\"\n";
    let template = r#"template = '{"kind":"${kind}","which":"${subject}","why":"${value}"}'"#;
    let proxy = proxy()
        .admin()
        .other("bad", refusing.address)
        .other("good", good.address)
        .tables(group)
        .tables(&webhook(up.address, template))
        .run();
    let body = "{\"model\":\"m\",\"messages\":[]}";
    proxy.client().post("/v1/chat/completions", body).response();
    let notice = json(&next(&requests));
    assert_eq!(notice, serde_json::json!({"kind": "upstream", "which": "bad", "why": "credentials"}));
    proxy.client().post("/v1/chat/completions", body).response();
    assert!(requests.recv_timeout(Duration::from_millis(2500)).is_err(), "an outage is told twice");
}

#[test]
fn reload_changes_the_webhook() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("streamgauge.toml");
    let up = Upstream::responding(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
    let text = |alerts: &str| {
        let built = proxy().ledger(&folder.path().join("a.db")).upstream(&up).tables(CLIENT);
        built.tables(alerts).text()
    };
    fs::write(&path, text("")).unwrap();
    let proxy = proxy().run_from(&path);
    ask(&proxy, 5);
    let (first, requests) = receiver(&["200 OK"]);
    fs::write(&path, text(&webhook(first.address, ""))).unwrap();
    proxy.reload();
    assert!(json(&next(&requests))["text"].as_str().unwrap().contains("100 %"));
    // The same URL knows what it was told; another one does not.
    let other = webhook(first.address, r#"template = '{"other":"${message}"}'"#);
    fs::write(&path, text(&other)).unwrap();
    proxy.reload();
    assert!(requests.recv_timeout(Duration::from_millis(2500)).is_err(), "a threshold is told twice");
    let (second, later) = receiver(&["200 OK"]);
    fs::write(&path, text(&webhook(second.address, ""))).unwrap();
    proxy.reload();
    next(&later);
}

/// A price of one USD for each token.
const PRICES: &str = "[[prices]]\nmodel = \"*\"\ninput = 1000000\noutput = 1000000\ncurrency = \"USD\"\n";

#[test]
fn hour_that_costs_much_more_than_usual_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("a.db");
    let up = Upstream::responding(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
    let run = |alerts: &str| {
        proxy().admin().ledger(&ledger).upstream(&up).tables(CLIENT).tables(PRICES).tables(alerts).run()
    };
    let before = run("");
    ask(&before, 2);
    before.stop();
    let [(low, told), (high, silent)] = [receiver(&["200 OK"]), receiver(&["200 OK"])];
    let template = "limits = []\ntemplate = '{\"kind\":\"${kind}\",\"of\":\"${subject}\",\"cost\":\"${value}\",\"text\":\"${message}\"}'";
    let alerts = [
        webhook(low.address, &format!("spikes = 1\n{template}")),
        webhook(high.address, &format!("spikes = 1000000\n{template}")),
    ];
    let proxy = run(&alerts.concat());
    let notice = json(&next(&told));
    assert_eq!((&notice["kind"], &notice["of"]), (&"spike".into(), &"search".into()), "{notice}");
    assert!(notice["cost"].as_str().unwrap().ends_with(" USD"), "{notice}");
    assert!(notice["text"].as_str().unwrap().contains("client search has cost"), "{notice}");
    // Two looks pass.
    assert!(told.recv_timeout(Duration::from_millis(2500)).is_err(), "a spike is told twice");
    assert!(silent.try_recv().is_err());
    // With other hours like this one it is none.
    proxy.stop();
    let connection = rusqlite::Connection::open(&ledger).unwrap();
    connection.execute("UPDATE usage_records SET started_at = started_at - 7200000000000", []).unwrap();
    drop(connection);
    let proxy = run("");
    ask(&proxy, 2);
    proxy.stop();
    let _proxy = run(&alerts[0]);
    assert!(told.recv_timeout(Duration::from_millis(2500)).is_err(), "an hour as usual is told");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn ledger_that_writes_nothing_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let (up, requests) = receiver(&["200 OK"]);
    let template = "limits = []\ntemplate = '{\"what\":[\"${kind}\",\"${subject}\",\"${value}\"]}'";
    let proxy = limited(&folder, &webhook(up.address, template));
    let connection = rusqlite::Connection::open(folder.path().join("a.db")).unwrap();
    connection.execute_batch("BEGIN EXCLUSIVE").unwrap();
    ask(&proxy, 1);
    let notice = json(&next(&requests));
    assert_eq!(notice["what"], serde_json::json!(["ledger", "ledger", "stuck"]));
    assert!(requests.recv_timeout(Duration::from_millis(2500)).is_err(), "it is told twice");
    connection.execute_batch("COMMIT").unwrap();
}
