//! Limits of all clients together, which are before the first table.

use std::path::Path;

use crate::harness::proxy::Builder;
use crate::harness::{Client, Proxy, Response, Upstream, proxy, sized};

use super::limit_kinds::{COMPLETION, body, ok};

const CLIENTS: &str = "[clients.search]\nkey = { value = \"sg-search-0123456789\" }\n\
                       [clients.other]\nkey = { value = \"sg-other-01234567890\" }\n";

/// A proxy with these limits, in a file: they are before the first table.
fn run(builder: Builder, limits: &str, file: &Path) -> Proxy {
    std::fs::write(file, format!("limits = [{limits}]\n{}", builder.text())).unwrap();
    builder.run_from(file)
}

fn ask_as(proxy: &Proxy, key: &str, path: &str, model: &str) -> Response {
    let (mut client, body): (Client, _) = (proxy.client(), body(model));
    client
        .send(format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\n{key}content-length: {}\r\n\r\n{body}",
            body.len()
        ))
        .response()
}

fn ask(proxy: &Proxy, key: &str) -> Response {
    ask_as(proxy, &format!("authorization: Bearer {key}\r\n"), "/v1/chat/completions", "m")
}

/// The amount that the limit of this number has counted, of `most`.
fn counted(proxy: &Proxy, number: usize, most: f64) -> f64 {
    let labels = format!("{{whose=\"all\",limit=\"limits[{number}]\"}}");
    (proxy.metric(&format!("streamgauge_limit_used_ratio{labels}")) * most * 1e6).round() / 1e6
}

#[test]
fn limit_of_all_counts_every_client_and_is_read_from_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, file) = (folder.path().join("usage.db"), folder.path().join("streamgauge.toml"));
    let up = ok();
    let builder = || proxy().upstream(&up).tables(CLIENTS).admin().ledger(&ledger);
    let limits = "{ requests = 3, per = \"month\" }, { tokens = 1000, per = \"month\" }";
    let first = run(builder(), limits, &file);
    assert_eq!(ask(&first, "sg-search-0123456789").status(), 200);
    assert_eq!(ask(&first, "sg-other-01234567890").status(), 200);
    assert_eq!(ask(&first, "sg-unknown-1234567890").status(), 401);
    (0..3).for_each(|_| drop(first.record()));
    assert_eq!((counted(&first, 0, 3.0), counted(&first, 1, 1000.0)), (2.0, 200.0));
    first.stop();
    let second = run(builder(), limits, &file);
    assert_eq!((counted(&second, 0, 3.0), counted(&second, 1, 1000.0)), (2.0, 200.0));
    assert_eq!(ask(&second, "sg-other-01234567890").status(), 200);
    let refused = ask(&second, "sg-search-0123456789");
    assert_eq!((refused.status(), &refused.error()["code"]), (429, &"insufficient_quota".into()));
    let message = "The total of all clients has used or reserved 3 of 3 requests, and this request may need 1 (limits[0]).";
    assert!(refused.text().contains(message), "{}", refused.text());
}

#[test]
fn limit_of_all_counts_requests_without_a_client() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, file) = (folder.path().join("usage.db"), folder.path().join("streamgauge.toml"));
    let up = ok();
    let builder = || proxy().upstream(&up).admin().ledger(&ledger);
    let limits = "{ requests = 2, per = \"day\", model = \"gpt*\" }, { tokens = \"1M\", per = \"hour\" }";
    let first = run(builder(), limits, &file);
    let chat = |proxy: &Proxy, model| ask_as(proxy, "", "/v1/chat/completions", model);
    assert_eq!(["gpt-5", "o3", "gpt-5"].map(|model| chat(&first, model).status()), [200; 3]);
    let refused = chat(&first, "gpt-5");
    assert!(refused.text().contains("2 of 2 requests"), "{}", refused.text());
    assert_eq!(chat(&first, "o3").status(), 200);
    // An endpoint whose tokens are not counted stays open, as there is no client to forbid it to.
    assert_eq!(ask_as(&first, "", "/v1/batches", "o3").status(), 200);
    first.stop();
    let second = run(builder(), limits, &file);
    assert_eq!(counted(&second, 0, 2.0), 2.0);
}

#[test]
fn limit_of_all_for_an_upstream_applies_to_a_groups_attempts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("streamgauge.toml");
    let ups = [(); 2].map(|()| Upstream::responding(sized("200 OK", "application/json", COMPLETION)));
    let group = "[[routes]]\nupstream = \"chat\"\n[groups.chat]\ntiers = [[\"a\"], [\"b\"]]\n";
    let builder = proxy().other("a", ups[0].address).other("b", ups[1].address).tables(group).admin();
    let proxy = run(builder, "{ requests = 1, per = \"hour\", upstream = \"a\" }", &file);
    let served = [(); 3].map(|()| {
        let response = ask_as(&proxy, "", "/v1/chat/completions", "m");
        response.header("x-streamgauge-upstream").unwrap().to_owned()
    });
    assert_eq!(served, ["a", "b", "b"]);
    (0..3).for_each(|_| drop(proxy.record()));
    assert_eq!(counted(&proxy, 0, 1.0), 1.0);
}

#[test]
fn reload_adds_and_removes_limits_of_all() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("streamgauge.toml");
    let up = ok();
    let builder = || proxy().upstream(&up).admin();
    let proxy = run(builder(), "", &file);
    let chat = || ask_as(&proxy, "", "/v1/chat/completions", "m").status();
    let limited = |limits: &str| {
        std::fs::write(&file, format!("limits = [{limits}]\n{}", builder().text())).unwrap();
        proxy.reload();
    };
    assert_eq!([chat(), chat()], [200; 2]);
    limited("{ requests = 1, per = \"hour\" }");
    assert_eq!([chat(), chat()], [200, 429]);
    limited("{ requests = 1, per = \"hour\", burst = 2 }");
    assert_eq!(chat(), 429, "its count goes on");
    limited("");
    assert_eq!(chat(), 200);
}
