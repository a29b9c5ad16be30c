//! Limits of a group's members, and of models that a group's members have by default.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;

use crate::harness::{CHAT_BODY, Proxy, Response, Upstream, proxy, sized};

const KEY: &str = "sg-search-0123456789";

/// A proxy whose group tries `a`, whose default model is `m-a`, and then `b` with `m-b`.
fn grouped(folder: &Path, limit: &str, address: SocketAddr) -> Proxy {
    let upstream = |name: &str| {
        format!(
            "[upstreams.{name}]\nprovider = \"other\"\nurl = \"http://{address}/v1\"\napi_key = \"none\"\n\
             default_model = \"m-{name}\"\n"
        )
    };
    let tables = format!(
        "{}{}[groups.chat]\ntiers = [[\"a\"], [\"b\"]]\n[[routes]]\nupstream = \"chat\"\n\
         [clients.search]\nkey = {{ value = \"{KEY}\" }}\nlimits = [{limit}]\n",
        upstream("a"),
        upstream("b")
    );
    proxy().admin().ledger(&folder.join("a.db")).tables(&tables).run()
}

/// A request that names no model.
fn ask(proxy: &Proxy) -> (Response, Value) {
    let body = "{\"messages\":[]}";
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\napi-key: {KEY}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let response = proxy.client().send(request).response();
    (response, proxy.record())
}

fn up() -> Upstream {
    Upstream::responding(sized("200 OK", "application/json", CHAT_BODY.as_bytes()))
}

#[test]
fn member_limit_that_only_warns_leaves_a_note() {
    let (folder, up) = (tempfile::tempdir().unwrap(), up());
    let limit = "{ requests = 1, per = \"hour\", upstream = \"a\", at_limit = \"warn\" }";
    let proxy = grouped(folder.path(), limit, up.address);
    for has_note in [false, true] {
        let (response, record) = ask(&proxy);
        assert_eq!((response.status(), &record["upstream"]), (200, &"a".into()), "{record}");
        let error = record["error"].as_str().unwrap_or_default();
        assert_eq!(error.contains("at_limit = \"warn\" had no room"), has_note, "{record}");
    }
}

#[test]
fn request_without_a_model_counts_the_same_after_a_restart() {
    const USED: &str = "streamgauge_limit_used_ratio{whose=\"clients.search\",limit=\"limits[0]\"}";
    let (folder, up) = (tempfile::tempdir().unwrap(), up());
    for limit in ["m-a", "m-b"] {
        // The member that serves is `a`; any default that the request may get counts.
        let limit = format!("{{ requests = 4, per = \"month\", model = \"{limit}\" }}");
        let proxy = grouped(folder.path(), &limit, up.address);
        let before = proxy.metric(USED);
        assert_eq!(ask(&proxy).0.status(), 200);
        let used = proxy.metric(USED);
        assert_eq!(used, before + 0.25, "{limit}");
        proxy.stop();
        let proxy = grouped(folder.path(), &limit, up.address);
        assert_eq!(proxy.metric(USED), used, "{limit}");
    }
}
