//! The admin pages show the members of groups: which are left out, since when, until when and why.

use std::sync::mpsc;

use serde_json::{Value, json};
use streamgauge::config::reload::ReloadOutcome;

use crate::harness::{CHAT_BODY, Client, PATIENCE, Proxy, Upstream, proxy, sized, until, upstream};

const PATH: &str = "/v1/chat/completions";
const JSON: &str = "application/json";

fn refusing(status: &str, headers: &str, body: &str) -> Upstream {
    Upstream::responding(format!(
        "HTTP/1.1 {status}\r\ncontent-type: {JSON}\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    ))
}

fn ask(proxy: &Proxy, model: &str) -> u16 {
    let body = format!("{{\"model\":\"{model}\",\"messages\":[{{\"role\":\"user\",\"content\":\"Hi\"}}]}}");
    proxy.client().post(PATH, &body).response().status()
}

fn members(proxy: &Proxy) -> Value {
    let page = proxy.page("/members");
    assert_eq!((page.status(), page.header("content-type")), (200, Some(JSON)));
    serde_json::from_str(page.text()).unwrap()
}

#[test]
fn members_show_why_they_are_left_out() {
    let key = refusing("401 Unauthorized", "", "{\"error\":{\"code\":\"invalid_api_key\"}}");
    let lost = refusing("404 Not Found", "", "{\"error\":{\"code\":\"model_not_found\"}}");
    let limited = refusing("429 Too Many Requests", "retry-after: 100\r\n", "{}");
    let good = Upstream::responding(sized("200 OK", JSON, CHAT_BODY.as_bytes()));
    let proxy = proxy()
        .other("key", key.address)
        .other("lost", lost.address)
        .other("limited", limited.address)
        .other("good", good.address)
        .admin()
        .tables(
            "[groups.chat]\ntiers = [[\"key\"], [\"lost\"], [\"limited\"], [{ upstream = \"good\", model = \"<b>\", weight = 3 }]]\n\
             [[routes]]\nupstream = \"chat\"",
        )
        .run();
    let before = members(&proxy);
    let group = &before["groups"][0];
    assert_eq!((&group["name"], &group["waiting"]), (&"chat".into(), &0.into()));
    assert_eq!(
        group["members"][3],
        json!({"upstream": "good", "model": "<b>", "tier": 4, "weight": 3, "running": 0, "available": true, "out": null,
               "models": [], "unlisted": 0})
    );
    assert!(proxy.page("/").text().contains("all available"));

    assert_eq!(ask(&proxy, "m-1"), 200);
    let after = members(&proxy);
    let member = |number: usize| &after["groups"][0]["members"][number];
    let (key, lost, limited) = (member(0), member(1), member(2));
    assert_eq!((&key["available"], &key["out"]["reason"]), (&false.into(), &"credentials".into()));
    let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second();
    let pause = time(&key["out"]["until"]) - time(&key["out"]["since"]);
    assert!((59..=61).contains(&pause), "{key}");
    let model = &lost["models"][0];
    assert_eq!((&lost["available"], &lost["out"]), (&true.into(), &Value::Null));
    assert_eq!((&model["model"], &model["out"]["reason"]), (&"m-1".into(), &"unknown_model".into()));
    let rest = time(&limited["models"][0]["rate_limited_until"]) - jiff::Timestamp::now().as_second();
    assert!((97..=101).contains(&rest), "{limited}");
    assert_eq!(limited["models"][0]["available"], false);

    let page = proxy.page("/");
    for text in [
        "3</strong> out or limited",
        "because its credentials are refused since ",
        "because it does not have the model since ",
        "rate limited",
        "as &lt;b&gt;",
    ] {
        assert!(page.text().contains(text), "{text}: {}", page.text());
    }
}

/// Reads events until one has this text.
fn read_until(live: &mut Client, text: &str) {
    while !String::from_utf8(live.chunk()).unwrap().contains(text) {}
}

#[test]
fn events_follow_running_requests_and_reloads() {
    let (finish, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let slow = upstream(move |connection| {
        while connection.request().is_some() {
            let _ = wait.lock().unwrap().recv();
            connection.send(sized("200 OK", JSON, CHAT_BODY.as_bytes()));
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("streamgauge.toml");
    let builder = proxy()
        .other("slow", slow.address)
        .admin()
        .tables("[groups.chat]\ntiers = [[\"slow\"]]\n[[routes]]\nupstream = \"chat\"");
    let text = builder.text();
    std::fs::write(&path, &text).unwrap();
    let proxy = builder.run_from(&path);
    let running = |count: u32| {
        until(PATIENCE, "the number of running requests", || {
            (members(&proxy)["groups"][0]["members"][0]["running"] == count).then_some(())
        });
    };
    running(0);
    let mut client = proxy.client();
    client.post(PATH, "{\"model\":\"m\",\"messages\":[]}");
    running(1);
    let mut live = Client::connect(proxy.admin());
    live.send(format!("GET /live HTTP/1.1\r\nhost: {}\r\n\r\n", proxy.admin()));
    live.head();
    read_until(&mut live, "data-member=\"chat/slow\"");
    finish.send(()).unwrap();
    assert_eq!(client.response().status(), 200);
    running(0);

    let plain = "[[routes]]\nupstream = \"slow\"\n";
    std::fs::write(&path, format!("{}{plain}", text.split("[groups.chat]").next().unwrap())).unwrap();
    assert!(matches!(proxy.reload(), ReloadOutcome::Taken { .. }));
    assert_eq!(members(&proxy), json!({"groups": []}));
    assert!(proxy.page("/").text().contains("aria-label=\"Members of groups\" hidden"));
    // The table's event without a table.
    read_until(&mut live, "event: members\ndata: \n");
}
