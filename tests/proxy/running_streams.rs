//! `/running` and `/limits` of the admin pages: streams while they run, and how full limits are.

use std::sync::{Mutex, mpsc};

use serde_json::Value;

use crate::harness::{Client, EVENTS_HEAD, PATIENCE, Proxy, chunk, proxy, until, upstream};

const EVENT: &str =
    "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"}}]}\n\n";

const TABLES: &str = "[clients.search]\nkey = { value = \"sg-search-0123456789\" }\nlimits = [{ requests = 4, per = \"day\" }, \
     { requests = 2, per = \"month\" }]\n";

fn json(proxy: &Proxy, path: &str) -> Value {
    let page = proxy.page(path);
    assert_eq!(page.status(), 200, "{path}: {}", page.text());
    serde_json::from_str(page.text()).unwrap()
}

fn ask(client: &mut Client, user: &str) {
    let body = format!("{{\"model\":\"m\",\"user\":\"{user}\",\"stream\":true,\"messages\":[]}}");
    client.send(format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sg-search-0123456789\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ));
    client.head();
    assert_eq!(client.chunks(EVENT.len()), EVENT.as_bytes());
}

#[test]
fn running_streams_and_limits_are_listed_as_json() {
    let (finish, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let up = upstream(move |connection| {
        connection.request();
        connection.send(EVENTS_HEAD);
        connection.send(chunk(EVENT.as_bytes()));
        let _ = wait.lock().unwrap().recv();
    });
    let folder = tempfile::tempdir().unwrap();
    let proxy = proxy().upstream(&up).tables(TABLES).admin().ledger(&folder.path().join("a.db")).run();
    assert_eq!(json(&proxy, "/running"), serde_json::json!({"running": 0, "streams": [], "unlisted": 0}));
    let (mut first, mut second) = (proxy.client(), proxy.client());
    ask(&mut first, "ada");
    ask(&mut second, "grace");
    let listed = until(PATIENCE, "both streams", || {
        let listed = json(&proxy, "/running");
        (listed["running"] == 2 && listed["streams"][1]["events"] == 1).then_some(listed)
    });
    let stream = &listed["streams"][0];
    for (member, value) in [("client", "search"), ("user", "ada"), ("model", "m"), ("upstream", "up")] {
        assert_eq!(stream[member], value, "{listed}");
    }
    assert!(stream["id"].is_string() && stream["output_tokens"].is_null(), "{listed}");
    let (token, duration) = (&stream["time_to_first_token_ms"], &stream["duration_ms"]);
    assert!(token.as_f64().unwrap() <= duration.as_f64().unwrap(), "{listed}");

    let some = json(&proxy, "/running?limit=1");
    assert_eq!((&some["running"], &some["unlisted"]), (&2.into(), &1.into()));
    let of_grace = json(&proxy, "/running?user=grace");
    assert_eq!((&of_grace["running"], &of_grace["streams"][0]["user"]), (&1.into(), &"grace".into()));

    // The fullest first.
    let limits = json(&proxy, "/limits");
    let month = &limits["limits"][0];
    assert_eq!((&month["whose"], &month["counts"]), (&"client search".into(), &"requests per month".into()));
    assert_eq!((&month["used"], &month["limit"], &month["used_ratio"]), (&2.into(), &2.into(), &1.0.into()));
    assert_eq!((&month["key"], &month["waiting"]), (&"clients.search.limits[1]".into(), &0.into()));
    assert!(month["period"]["until"].is_string(), "{limits}");
    assert_eq!(limits["limits"][1]["used_ratio"], 0.5);
    assert_eq!(json(&proxy, "/limits?limit=1")["unlisted"], 1);
    for path in ["/running?limit=0", "/running?since=1h", "/limits?limit=x", "/limits?client=search"] {
        assert_eq!(proxy.page(path).error()["code"], "bad_request", "{path}");
    }
    drop(finish);
}
