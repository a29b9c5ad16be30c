//! The admin port, for browsers, programs and probes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Mutex, mpsc};
use std::time::Instant;

use serde_json::Value;
use streamgauge::app::{Addresses, App, Running};
use streamgauge::config;
use streamgauge::llm::price::Prices;
use streamgauge::sinks::ledger::output::json;
use streamgauge::sinks::ledger::{Bounds, By, Selection, report};

use crate::harness::{
    CHAT_REQUEST, CHAT_STREAM, Client, Connection, DATA, EVENTS_HEAD, Frames, LAST_CHUNK, PATIENCE, Upstream,
    chunk, sized, upstream,
};

const TOKEN: &str = "0123456789abcdef-marker";

struct Proxy {
    running: Running,
    admin: SocketAddr,
    folder: tempfile::TempDir,
}

/// A proxy with a ledger; `admin` are lines of the `[admin]` table.
fn proxy(upstream: &Upstream, admin: &str) -> Proxy {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n[admin]\nlisten = \"127.0.0.1:0\"\n{admin}\n[ledger]\n\
         path = {:?}\n[upstreams.up]\nprovider = \"other\"\nurl = \"http://{}/v1\"\ndefault_model = \"m\"\n\
         api_key = {{ value = \"sk-marker\" }}\n",
        folder.path().join("a.db"),
        upstream.address
    );
    let settings = config::from_text(&text).unwrap_or_else(|mistakes| panic!("{mistakes}")).settings;
    let running = App::bind(&settings, Vec::new()).unwrap().spawn().unwrap();
    let admin = running.addresses().admin_port().unwrap();
    Proxy { running, admin, folder }
}

impl Proxy {
    fn ledger(&self) -> PathBuf {
        self.folder.path().join("a.db")
    }

    /// Head and body of a response; `head` follows the request line.
    fn ask(&self, line: &str, head: &str, body: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length =
            if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        write!(stream, "{line} HTTP/1.1\r\n{head}{length}connection: close\r\n\r\n{body}").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    fn get(&self, path: &str) -> (String, String) {
        self.ask(&format!("GET {path}"), &format!("host: {}\r\n", self.admin), "")
    }

    fn json(&self, path: &str) -> Value {
        let (head, body) = self.get(path);
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}\n{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Sends a chat completion through, and returns the id of its record after it is in the ledger.
    fn chat(&self) -> String {
        let mut client = Client::connect(self.running.addresses().proxy.inet().unwrap());
        let response = client.post("/v1/chat/completions", CHAT_REQUEST).response();
        let id = response.header("x-streamgauge-id").unwrap().to_owned();
        let begun = Instant::now();
        while !self.get(&format!("/usage/{id}")).0.starts_with("HTTP/1.1 200") {
            assert!(begun.elapsed() < PATIENCE, "the record is never there");
        }
        id
    }
}

fn status(response: &(String, String)) -> u16 {
    response.0.split(' ').nth(1).unwrap().parse().unwrap()
}

fn header<'a>(response: &'a (String, String), name: &str) -> &'a str {
    crate::harness::header(&response.0, name).unwrap_or_default()
}

fn chat_upstream() -> Upstream {
    Upstream::responding(sized("200 OK", "text/event-stream", CHAT_STREAM.as_bytes()))
}

#[test]
fn foreign_host_gets_health_only() {
    let proxy = proxy(&chat_upstream(), "hosts = [\"gauge.internal\"]");
    for path in ["/", "/usage", "/metrics", "/config", "/login", "/live", "/records", "/nothing"] {
        let response = proxy.ask(&format!("GET {path}"), "host: evil.example:9090\r\n", "");
        assert_eq!(status(&response), 421, "{path}");
        assert!(response.1.contains("admin.hosts"), "{path}: {}", response.1);
    }
    for (path, host) in [
        ("/healthz", "evil.example"),
        ("/readyz", "10.1.2.3"),
        ("/", "gauge.internal:80"),
        ("/", "localhost"),
    ] {
        let response = proxy.ask(&format!("GET {path}"), &format!("host: {host}\r\n"), "");
        assert_eq!(status(&response), 200, "{path} as {host}");
    }
}

#[test]
fn missing_token_opens_health_and_the_form_only() {
    let proxy = proxy(&chat_upstream(), &format!("token = {{ value = {TOKEN:?} }}"));
    let host = format!("host: {}\r\n", proxy.admin);
    for path in [
        "/",
        "/usage",
        "/usage/01890000-0000-7000-8000-000000000000",
        "/metrics",
        "/config",
        "/live",
        "/records",
        "/x",
    ] {
        let response = proxy.get(path);
        assert_eq!(
            (status(&response), header(&response, "www-authenticate")),
            (401, "Bearer realm=\"streamgauge admin\""),
            "{path}"
        );
        let with = |authorization: &str| {
            let head = format!("{host}authorization: {authorization}\r\n");
            status(&proxy.ask(&format!("HEAD {path}"), &head, ""))
        };
        assert_eq!(with("Bearer 0123456789abcdef-wrong"), 401, "{path}");
        if path != "/live" {
            assert_ne!(with(&format!("Bearer {TOKEN}")), 401, "{path}");
        }
    }
    assert_eq!(status(&proxy.get("/healthz")), 200);
    assert_eq!(status(&proxy.get("/readyz")), 200);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn login_gives_a_session_cookie_and_logout_ends_it() {
    let proxy = proxy(&chat_upstream(), &format!("token = {{ value = {TOKEN:?} }}"));
    let host = format!("host: {}\r\n", proxy.admin);
    let page = proxy.ask("GET /?range=7d", &format!("{host}accept: text/html\r\n"), "");
    assert_eq!(status(&page), 401);
    assert!(page.1.contains("name=\"next\" value=\"/?range=7d\""), "{}", page.1);
    let form = |token: &str, more: &str| {
        let head = format!("{host}{more}content-type: application/x-www-form-urlencoded\r\n");
        proxy.ask("POST /login", &head, &format!("token={token}&next=%2F%3Frange%3D7d"))
    };
    let wrong = form("0123456789abcdef-wrong", "");
    assert_eq!((status(&wrong), header(&wrong, "set-cookie")), (403, ""));
    assert!(wrong.1.contains("role=\"alert\""), "{}", wrong.1);
    let elsewhere = form(TOKEN, "origin: http://evil.example\r\nsec-fetch-site: cross-site\r\n");
    assert_eq!((status(&elsewhere), header(&elsewhere, "set-cookie")), (403, ""));

    let response = form(TOKEN, "sec-fetch-site: same-origin\r\n");
    assert_eq!((status(&response), header(&response, "location")), (303, "./?range=7d"));
    let cookie = header(&response, "set-cookie");
    assert!(cookie.contains("; HttpOnly; SameSite=Strict") && !cookie.contains("marker"), "{cookie}");
    let cookie = format!("{host}cookie: {}\r\n", cookie.split(';').next().unwrap());
    assert_eq!(status(&proxy.ask("GET /", &cookie, "")), 200);
    assert_eq!(status(&proxy.ask("GET /usage", &cookie, "")), 200);
    let out = proxy.ask("POST /logout", &cookie, "");
    assert_eq!((status(&out), header(&out, "location")), (303, "./login"));
    assert!(header(&out, "set-cookie").contains("Max-Age=0"));
    assert_eq!(
        status(&proxy.ask("GET /usage", &cookie, "")),
        401,
        "a copy of the cookie opens nothing any longer"
    );
    for page in ["/?range=7d", "/login", "/config"] {
        assert!(!proxy.ask(&format!("GET {page}"), &cookie, "").1.contains("marker"), "{page}");
    }
}

#[test]
fn request_without_one_valid_host_gets_400() {
    let proxy = proxy(&chat_upstream(), "");
    for host in
        ["", "host:\r\n", "host: localhost\r\nhost: localhost\r\n", "host: a b\r\n", "host: u@localhost\r\n"]
    {
        for path in ["/", "/usage", "/login", "/metrics"] {
            let response = proxy.ask(&format!("GET {path}"), host, "");
            assert_eq!(status(&response), 400, "{path} {host:?}");
            assert!(response.1.contains("invalid_host"), "{}", response.1);
        }
    }
}

#[test]
fn usage_and_records_equal_the_ledger() {
    let proxy = proxy(&chat_upstream(), "");
    let id = proxy.chat();
    let record = proxy.json(&format!("/usage/{id}"));
    assert_eq!((&record["id"], &record["outcome"]), (&id.as_str().into(), &"complete".into()));
    assert_eq!((&record["input_tokens"], &record["output_tokens"]), (&9.into(), &2.into()));
    assert_eq!(proxy.json("/records?since=1h")["records"][0], record);

    let selection = Selection::since("2020-01-01T00:00:00Z".parse().unwrap());
    let prices = Prices::default();
    let report =
        report(&proxy.ledger(), &selection, &[By::Day, By::Model], &prices, &Bounds::default()).unwrap();
    let until = "2100-01-01T00:00:00Z".parse().unwrap();
    let expected: Value =
        serde_json::from_str(&json::write(&report, selection.since, until).unwrap()).unwrap();
    let path = "/usage?since=2020-01-01&until=2100-01-01&by=day,model";
    assert_eq!(proxy.json(path), expected);
    let csv = proxy.get(&format!("{path}&format=csv"));
    assert_eq!(header(&csv, "content-type"), "text/csv; charset=utf-8; header=present");
    assert_eq!((csv.1.lines().count(), csv.1.starts_with("day,model,requests,")), (2, true), "{}", csv.1);
    assert_eq!(proxy.json("/usage?user=nobody")["total"]["requests"], 0);

    for (path, expected) in [
        ("/usage/01890000-0000-7000-8000-000000000000", 404),
        ("/usage/x", 400),
        ("/usage/%ff", 400),
        ("/usage/a%2Fb", 400),
        ("/assets/%ff", 404),
        ("/%ff", 404),
        ("/usage?by=moon", 400),
        ("/records?limit=0", 400),
        ("/?range=2y", 400),
        ("/nothing", 404),
    ] {
        let response = proxy.get(path);
        assert_eq!(status(&response), expected, "{path}");
        assert_eq!(header(&response, "x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header(&response, "cache-control"), "no-store", "{path}");
        if path != "/?range=2y" {
            let error: Value = serde_json::from_str(&response.1).unwrap();
            assert_eq!(error["error"]["type"], "streamgauge_error", "{path}");
        }
    }
}

#[test]
fn methods_heads_and_caches_follow_http() {
    let proxy = proxy(&chat_upstream(), "");
    let host = format!("host: {}\r\n", proxy.admin);
    let page = proxy.get("/?range=1h");
    assert_eq!((status(&page), header(&page, "cache-control")), (200, "no-store"));
    let policy = header(&page, "content-security-policy");
    assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
    for path in ["/usage", "/records", "/config", "/healthz", "/metrics"] {
        let (get, head) = (proxy.get(path), proxy.ask(&format!("HEAD {path}"), &host, ""));
        assert_eq!((status(&get), status(&head), head.1.as_str()), (200, 200, ""), "{path}");
        assert_eq!(header(&get, "content-type"), header(&head, "content-type"), "{path}");
        assert_eq!(header(&get, "cache-control"), "no-store", "{path}");
        let post = proxy.ask(&format!("POST {path}"), &host, "x");
        assert_eq!((status(&post), header(&post, "allow")), (405, "GET, HEAD"), "{path}");
    }
    assert_eq!(header(&proxy.get("/logout"), "allow"), "POST");
    let start = page.1.find("./assets/script-").unwrap() + 1;
    let script = &page.1[start..start + page.1[start..].find('"').unwrap()];
    let script = proxy.get(script);
    assert_eq!(header(&script, "cache-control"), "public, max-age=31536000, immutable");
    assert!(proxy.get("/config").1.contains("[upstreams.up]"));
    assert!(!proxy.get("/config").1.contains("marker"));
}

#[test]
fn pages_link_relatively() {
    let proxy = proxy(&chat_upstream(), "");
    for path in ["/", "/?range=7d&model=m", "/?range=2y", "/login"] {
        let page = proxy.get(path).1;
        assert!(page.contains("href=\"./"), "{path}: {page}");
        for link in ["href=\"/", "src=\"/", "action=\"/", "href=\"http", "action=\"http"] {
            assert!(!page.contains(link), "{path} has {link}: {page}");
        }
    }
}

#[test]
fn pages_are_served_over_http2() {
    let proxy = proxy(&chat_upstream(), "");
    let mut connection = Connection::to(proxy.admin);
    let mut frames = Frames::ask(&mut connection, &[]);
    for stream in [1, 3] {
        frames.post(stream, "/usage", "{}");
        let error: Value = serde_json::from_slice(&frames.wait_on(DATA, stream).unwrap().payload).unwrap();
        assert_eq!(error["error"]["code"], "method_not_allowed");
    }
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn live_reports_a_running_stream_and_then_its_record() {
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let up = upstream(move |connection| {
        connection.request();
        connection.send(EVENTS_HEAD);
        let (first, rest) = CHAT_STREAM.split_at(CHAT_STREAM.match_indices("\n\n").nth(1).unwrap().0 + 2);
        connection.send(chunk(first.as_bytes()));
        wait.lock().unwrap().recv().unwrap();
        connection.send(chunk(rest.as_bytes()));
        connection.send(LAST_CHUNK);
    });
    let proxy = proxy(&up, "");
    let mut live = TcpStream::connect(proxy.admin).unwrap();
    live.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(live, "GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut live = BufReader::new(live);
    let mut until = |what: &str| {
        let mut line = String::new();
        while !line.contains(what) {
            line.clear();
            assert!(live.read_line(&mut line).unwrap() > 0, "the events end before {what}");
        }
        line
    };
    until("text/event-stream");
    until("No stream is running");
    let mut client = Client::connect(proxy.running.addresses().proxy.inet().unwrap());
    let id = client.post("/v1/chat/completions", CHAT_REQUEST).head();
    let id = crate::harness::header(&id, "x-streamgauge-id").unwrap().to_owned();
    let shown = until("<data value=\"2\" title=\"2\">2</data>");
    assert!(shown.contains(&format!("data-stream=\"{id}\"")) && shown.contains("gpt-asked"), "{shown}");
    assert!(proxy.get("/").1.contains(&format!("data-stream=\"{id}\"")), "also on a page without a script");
    go_on.send(()).unwrap();
    until("No stream is running");
    until("event: records");
}

#[test]
fn drain_frees_both_ports_and_serves_kept_admin_connections() {
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let up = upstream(move |connection| {
        connection.request();
        connection.send(EVENTS_HEAD);
        wait.lock().unwrap().recv().unwrap();
        connection.send(chunk(CHAT_STREAM.as_bytes()));
        connection.send(LAST_CHUNK);
    });
    let proxy = proxy(&up, "");
    let ready = proxy.get("/readyz");
    assert_eq!((status(&ready), ready.1.as_str()), (200, "ready\nworkers 2 of 2\nledger ok\n"));
    let mut client = Client::connect(proxy.running.addresses().proxy.inet().unwrap());
    client.post("/v1/chat/completions", CHAT_REQUEST).head();
    let Addresses { proxy: port, admin } = proxy.running.addresses();
    let (port, admin) = (port.inet().unwrap(), admin.and_then(|at| at.inet()).unwrap());
    let mut watch = Client::connect(admin);
    let mut ask = |path: &str| watch.send(format!("GET {path} HTTP/1.1\r\nhost: {admin}\r\n\r\n")).response();
    assert_eq!(ask("/readyz").status(), 200);
    proxy.running.stop().drain();
    // A following process gets both ports while the stream still runs.
    let followers = [port, admin]
        .map(|address| crate::harness::until(PATIENCE, "a free port", || TcpListener::bind(address).ok()));
    // The worker without a connection has ended already, or will.
    let draining = ask("/readyz");
    assert!(draining.status() == 503 && draining.text().starts_with("draining\n"), "{}", draining.text());
    assert_eq!(ask("/healthz").status(), 200);
    go_on.send(()).unwrap();
    proxy.running.finish().unwrap();
    drop(followers);
}
