//! Reloads that change the sinks, or the end of the process.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use streamgauge::config::reload::ReloadOutcome;

use crate::harness::{
    CHAT_BODY, CHAT_REQUEST, Connection, EVENTS_HEAD, PATIENCE, Proxy, Upstream, proxy, sized, until,
    upstream,
};

const TAKEN: ReloadOutcome = ReloadOutcome::Taken { needs_restart: Vec::new(), late_workers: 0 };

/// Sends a request, and waits until the sinks of this moment have been given its record.
fn ask(proxy: &Proxy) {
    assert_eq!(proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response().status(), 200);
    proxy.record();
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

fn written(proxy: &Proxy) -> f64 {
    proxy.metric("streamgauge_sink_records_total{sink=\"jsonl\",result=\"written\"}")
}

#[test]
fn json_lines_go_to_the_file_that_a_reload_names() {
    let up = Upstream::responding(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("streamgauge.toml");
    let file = |name: &str| folder.path().join(name);
    let text = |jsonl: &str| {
        let jsonl = if jsonl.is_empty() { String::new() } else { file(jsonl).display().to_string() };
        let text = proxy().admin().upstream(&up).text();
        text.replace("path = \"\"\n", &format!("path = \"\"\njsonl = {jsonl:?}\n"))
    };
    fs::write(&path, text("")).unwrap();
    let proxy = proxy().run_from(&path);
    ask(&proxy);
    let change = |jsonl: &str| {
        fs::write(&path, text(jsonl)).unwrap();
        assert_eq!(proxy.reload(), TAKEN, "{jsonl}");
        ask(&proxy);
    };
    // The target is nothing, a file, another file, nothing, and a third file.
    change("a");
    until(PATIENCE, "a line", || (lines(&file("a")) == 1).then_some(()));
    until(PATIENCE, "the record", || (written(&proxy) == 1.0).then_some(()));
    change("b");
    until(PATIENCE, "a line", || (lines(&file("b")) == 1).then_some(()));
    change("");
    until(PATIENCE, "the record", || (written(&proxy) == 3.0).then_some(()));
    change("c");
    until(PATIENCE, "a line", || (lines(&file("c")) == 1).then_some(()));
    assert_eq!((lines(&file("a")), lines(&file("b"))), (1, 1));

    fs::write(&path, text("no/such/folder")).unwrap();
    assert!(matches!(proxy.reload(), ReloadOutcome::Refused(reason) if reason.contains("ledger.jsonl")));
    fs::write(&path, text("streamgauge.toml")).unwrap();
    assert!(matches!(proxy.reload(), ReloadOutcome::Refused(reason) if reason.contains("ledger.jsonl")));
    ask(&proxy);
    until(PATIENCE, "a line", || (lines(&file("c")) == 2).then_some(()));
}

#[test]
fn drain_timeout_is_that_of_the_latest_configuration() {
    let up = upstream(|connection: &mut Connection| {
        connection.request();
        connection.send(EVENTS_HEAD);
        connection.wait_for_close();
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("streamgauge.toml");
    let text = |timeout: &str| proxy().server(&format!("drain_timeout = \"{timeout}\"")).upstream(&up).text();
    fs::write(&path, text("1h")).unwrap();
    let proxy = proxy().run_from(&path);
    fs::write(&path, text("100ms")).unwrap();
    assert_eq!(proxy.reload(), TAKEN);
    let mut client = proxy.client();
    client.post("/v1/chat/completions", CHAT_REQUEST).head();
    let begun = Instant::now();
    let records = proxy.stop();
    assert_eq!(records[0]["outcome"], "cut");
    assert!(begun.elapsed() < Duration::from_secs(60));
}
