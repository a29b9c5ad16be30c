//! Tokens of clouds: requested ahead of requests, put on them, and refused by authorities in every
//! way that they have.

mod clouds;

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::proxy::Builder;
use crate::harness::{
    CHAT_BODY, CHAT_REQUEST, Client, PATIENCE, Proxy, Request, Upstream, proxy, sized, until, upstream,
};

const PATH: &str = "/v1/chat/completions";
const JSON: &str = "application/json";

/// A service, and the requests that it gets.
struct Service {
    up: Upstream,
    requests: Receiver<Request>,
}

impl Service {
    /// A service with these responses in their order; the last one repeats.
    fn new(responses: Vec<Vec<u8>>) -> Self {
        let (seen, requests) = mpsc::channel();
        let left = Mutex::new(responses);
        let up = upstream(move |connection| {
            while let Some(request) = connection.request() {
                let _ = seen.send(request);
                let mut left = left.lock().unwrap();
                let next = if left.len() > 1 { left.remove(0) } else { left[0].clone() };
                drop(left);
                connection.send(next);
            }
        });
        Self { up, requests }
    }

    fn good() -> Self {
        Self::new(vec![sized("200 OK", JSON, CHAT_BODY.as_bytes())])
    }

    fn next(&self) -> Request {
        self.requests.recv_timeout(PATIENCE).unwrap()
    }
}

fn ok(body: &Value) -> Vec<u8> {
    sized("200 OK", JSON, body.to_string().as_bytes())
}

fn token(text: &str) -> Vec<u8> {
    ok(&json!({"token_type": "Bearer", "expires_in": 3600, "access_token": text}))
}

/// The fields of a form.
fn form(request: &Request) -> BTreeMap<String, String> {
    form_urlencoded::parse(&request.body).into_owned().collect()
}

/// A proxy before Azure with tokens of this authority.
fn entra(authority: &Service, service: &Service) -> Builder {
    let (authority, address) = (authority.up.address, service.up.address);
    proxy().tables(&format!(
        "[upstreams.azure]\nurl = \"http://{address}\"\ndefault_model = \"m\"\ntimeouts.connect = \"700ms\"\n\
         [upstreams.azure.entra]\ntenant = \"t-1\"\nclient = \"c-1\"\nauthority = \"http://{authority}\"\n\
         secret = {{ value = \"entra-secret-marker\" }}"
    ))
}

fn bearer(request: &Request) -> &str {
    request.header("authorization").unwrap().strip_prefix("Bearer ").unwrap()
}

fn metrics(proxy: &Proxy) -> String {
    Client::connect(proxy.admin()).get("/metrics").response().text().to_owned()
}

#[test]
fn token_is_requested_once_and_sent_with_every_request() {
    let (authority, service) = (Service::new(vec![token("tok-1")]), Service::good());
    let proxy = entra(&authority, &service).admin().run();
    for _ in 0..3 {
        assert_eq!(proxy.client().post(PATH, CHAT_REQUEST).response().status(), 200);
        let request = service.next();
        assert_eq!(bearer(&request), "tok-1");
        assert_eq!(
            (request.header("api-key"), request.line()),
            (None, "POST /openai/v1/chat/completions HTTP/1.1")
        );
    }
    let request = authority.next();
    assert_eq!(request.line(), "POST /t-1/oauth2/v2.0/token HTTP/1.1");
    assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
    let expected = [
        ("client_id", "c-1"),
        ("client_secret", "entra-secret-marker"),
        ("grant_type", "client_credentials"),
        ("scope", "https://cognitiveservices.azure.com/.default"),
    ];
    assert_eq!(form(&request), expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    assert!(authority.requests.try_recv().is_err(), "one token serves all requests");
    let text = metrics(&proxy);
    assert!(text.contains("streamgauge_identity_renewals_total{result=\"renewed\"} 1"), "{text}");
    let line = text.lines().find(|line| line.starts_with("streamgauge_identity_expires_seconds{")).unwrap();
    let rest: f64 = line.split(' ').next_back().unwrap().parse().unwrap();
    assert!(rest > 3500.0 && rest <= 3600.0 && line.contains("upstream=\"azure\""), "{line}");
}

#[test]
fn two_upstreams_of_one_identity_share_its_token() {
    let (authority, service) = (Service::new(vec![token("tok-1")]), Service::good());
    let table = |name: &str, scope: &str| {
        format!(
            "[upstreams.{name}]\nprovider = \"azure\"\nurl = \"http://{}\"\n[upstreams.{name}.entra]\ntenant = \"t\"\nclient = \"c\"\n\
             authority = \"http://{}\"\nsecret = {{ value = \"s\" }}\nscope = \"{scope}/.default\"\n[[routes]]\npath = \"/{name}\"\nupstream = \"{name}\"\n",
            service.up.address, authority.up.address
        )
    };
    let tables = table("a", "https://x") + &table("b", "https://x") + &table("c", "https://y");
    let proxy = proxy().tables(&tables).run();
    for path in ["/a", "/b", "/c"] {
        let response = proxy.client().post(&format!("{path}{PATH}"), CHAT_REQUEST).response();
        assert_eq!(response.status(), 200);
    }
    let mut scopes = [form(&authority.next()), form(&authority.next())].map(|form| form["scope"].clone());
    scopes.sort();
    assert_eq!(scopes, ["https://x/.default", "https://y/.default"]);
    assert!(authority.requests.try_recv().is_err());
}

#[test]
fn request_waits_for_the_first_token() {
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let authority = upstream(move |connection| {
        if connection.request().is_some() {
            let _ = gate.lock().unwrap().recv_timeout(PATIENCE);
            connection.send(token("late"));
        }
    });
    let service = Service::good();
    let authority = Service { up: authority, requests: mpsc::channel().1 };
    let proxy = entra(&authority, &service).admin().run();
    let ready = || Client::connect(proxy.admin()).get("/readyz").response();
    let before = ready();
    assert_eq!(before.status(), 503, "{}", before.text());
    assert!(before.text().contains("identity of azure awaited"), "{}", before.text());
    let mut client = proxy.client();
    client.post(PATH, CHAT_REQUEST);
    release.send(()).unwrap();
    assert_eq!(client.response().status(), 200);
    assert_eq!(bearer(&service.next()), "late");
    until(PATIENCE, "the proxy is ready", || (ready().status() == 200).then_some(()));
}

#[test]
fn slow_authority_delays_no_request_beyond_the_limit() {
    let authority = upstream(|connection| while connection.request().is_some() {});
    let authority = Service { up: authority, requests: mpsc::channel().1 };
    let service = Service::good();
    let proxy = entra(&authority, &service).run();
    let begun = Instant::now();
    let response = proxy.client().post(PATH, CHAT_REQUEST).response();
    assert_eq!((response.status(), &response.error()["code"]), (503, &json!("identity_unavailable")));
    assert!((Duration::from_millis(600)..Duration::from_secs(5)).contains(&begun.elapsed()));
}

#[test]
fn request_without_a_token_is_refused_in_time() {
    let large = vec![b'x'; 1 << 20];
    for (name, response) in [
        ("429", b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 60\r\ncontent-length: 0\r\n\r\n".to_vec()),
        ("HTML", sized("200 OK", "text/html", b"<html>captive portal</html>")),
        ("1 MB", sized("200 OK", JSON, &large)),
        ("wrong type", ok(&json!({"token_type": "mac", "expires_in": 3600, "access_token": "t"}))),
        ("no life", ok(&json!({"token_type": "Bearer", "expires_in": 0, "access_token": "t"}))),
        ("no token", ok(&json!({"expires_in": 3600}))),
        (
            "refusal",
            sized(
                "401 Unauthorized",
                JSON,
                br#"{"error":"invalid_client","error_description":"entra-secret-marker is wrong"}"#,
            ),
        ),
        ("not HTTP", b"nonsense\r\n\r\n".to_vec()),
        (
            "redirect",
            b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".to_vec(),
        ),
    ] {
        let (authority, service) = (Service::new(vec![response]), Service::good());
        let proxy = entra(&authority, &service).admin().run();
        authority.next();
        let begun = Instant::now();
        let response = proxy.client().post(PATH, CHAT_REQUEST).response();
        let waited = begun.elapsed();
        assert_eq!(
            (response.status(), &response.error()["code"]),
            (503, &json!("identity_unavailable")),
            "{name}"
        );
        assert!(
            waited >= Duration::from_millis(600) && waited < Duration::from_secs(5),
            "{name}: {waited:?}"
        );
        assert!(!response.text().contains("marker"), "{name}: {}", response.text());
        let record = proxy.record();
        assert_eq!(record["outcome"], "upstream_error", "{name}: {record}");
        assert!(!record.to_string().contains("marker"), "{name}: {record}");
        assert!(service.requests.try_recv().is_err(), "nothing was sent");
        let ready = Client::connect(proxy.admin()).get("/readyz").response();
        assert_eq!(ready.status(), 200, "a failure does not stop the start: {}", ready.text());
        let text = metrics(&proxy);
        assert!(text.contains("streamgauge_identity_renewals_total{result=\"renewed\"} 0"), "{text}");
        assert!(text.contains("streamgauge_identity_expires_seconds{upstream=\"azure\"} 0"), "{text}");
    }
}

#[test]
fn request_is_served_once_the_authority_recovers() {
    let failed = sized("503 Service Unavailable", "text/html", b"<html>");
    let (authority, service) = (Service::new(vec![failed, token("tok-2")]), Service::good());
    let proxy = entra(&authority, &service).run();
    authority.next();
    until(PATIENCE, "a token", || {
        (proxy.client().post(PATH, CHAT_REQUEST).response().status() == 200).then_some(())
    });
    assert_eq!(bearer(&service.next()), "tok-2");
}

#[test]
fn another_member_serves_while_there_is_no_token() {
    let refused = sized("400 Bad Request", JSON, br#"{"error":"invalid_request"}"#);
    let (authority, service, other) = (Service::new(vec![refused]), Service::good(), Service::good());
    let tables = "[groups.chat]\ntiers = [[\"azure\"], [\"spare\"]]\n[[routes]]\nupstream = \"chat\"";
    let proxy = entra(&authority, &service).other("spare", other.up.address).tables(tables).run();
    let response = proxy.client().post(PATH, CHAT_REQUEST).response();
    assert_eq!((response.status(), response.header("x-streamgauge-upstream")), (200, Some("spare")));
    other.next();
    let record = proxy.record();
    assert_eq!(record["attempts"][0]["upstream"], "azure", "{record}");
    assert!(service.requests.try_recv().is_err());
}

#[test]
fn refusal_of_a_new_token_is_relayed() {
    let refused = sized("401 Unauthorized", JSON, br#"{"error":{"message":"no role"}}"#);
    let (authority, service) =
        (Service::new(vec![token("tok-1"), token("tok-2")]), Service::new(vec![refused]));
    let proxy = entra(&authority, &service).run();
    for _ in 0..2 {
        assert_eq!(proxy.client().post(PATH, CHAT_REQUEST).response().status(), 401);
        assert_eq!(bearer(&service.next()), "tok-1");
    }
    authority.next();
    assert!(authority.requests.try_recv().is_err(), "a new token is not renewed for a 401");
}

#[test]
fn token_that_an_upstream_repeats_is_masked_in_the_record() {
    let refused = sized("401 Unauthorized", JSON, br#"{"error":{"message":"no such token: tok-abcdefgh"}}"#);
    let (authority, service) = (Service::new(vec![token("tok-abcdefgh")]), Service::new(vec![refused]));
    let proxy = entra(&authority, &service).run();
    assert_eq!(proxy.client().post(PATH, CHAT_REQUEST).response().status(), 401);
    assert_eq!(proxy.record()["error"], "no such token: ***");
}

#[test]
fn token_at_anthropics_dialect_comes_with_a_version() {
    let (authority, service) = (Service::new(vec![token("tok-1")]), Service::good());
    let tables = format!(
        "[upstreams.anthropic]\nurl = \"http://{}/v1\"\n[upstreams.anthropic.entra]\ntenant = \"t\"\nclient = \"c\"\n\
         authority = \"http://{}\"\nsecret = {{ value = \"s\" }}\n",
        service.up.address, authority.up.address
    );
    let proxy = proxy().tables(&tables).run();
    let ask = |path: &str, version: &str| {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\n{version}content-length: {}\r\n\r\n{CHAT_REQUEST}",
            CHAT_REQUEST.len()
        );
        assert_eq!(proxy.client().send(request).response().status(), 200);
        let request = service.next();
        assert_eq!((bearer(&request), request.header("x-api-key")), ("tok-1", None));
        request.header("anthropic-version").map(str::to_owned)
    };
    assert_eq!(ask("/v1/messages", "").as_deref(), Some("2023-06-01"));
    assert_eq!(ask("/v1/messages", "anthropic-version: 2024-01-01\r\n").as_deref(), Some("2024-01-01"));
    assert_eq!(ask(PATH, ""), None);
}

#[test]
fn reload_keeps_a_token_and_uses_a_changed_identity() {
    let (authority, service) = (Service::new(vec![token("tok-1"), token("tok-2")]), Service::good());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("streamgauge.toml");
    let builder = entra(&authority, &service);
    let text = builder.text();
    std::fs::write(&path, &text).unwrap();
    let proxy = builder.run_from(&path);
    let ask = || {
        assert_eq!(proxy.client().post(PATH, CHAT_REQUEST).response().status(), 200);
        bearer(&service.next()).to_owned()
    };
    assert_eq!(ask(), "tok-1");
    std::fs::write(&path, text.replace("default_model = \"m\"", "default_model = \"n\"")).unwrap();
    proxy.reload();
    assert_eq!(ask(), "tok-1", "the identity has not changed");
    std::fs::write(&path, text.replace("entra-secret-marker", "entra-secret-2")).unwrap();
    proxy.reload();
    assert_eq!(ask(), "tok-2");
    authority.next();
    assert_eq!(form(&authority.next())["client_secret"], "entra-secret-2");
}

#[test]
fn hundred_requests_without_a_token_ask_for_it_once() {
    let (release, gate) = mpsc::channel::<()>();
    let (gate, asked) = (Mutex::new(gate), Arc::new(std::sync::atomic::AtomicUsize::new(0)));
    let count = Arc::clone(&asked);
    let authority = upstream(move |connection| {
        if connection.request().is_some() {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let _ = gate.lock().unwrap().recv_timeout(PATIENCE);
            connection.send(token("tok-1"));
        }
    });
    let service = Service::good();
    let authority = Service { up: authority, requests: mpsc::channel().1 };
    let tables = entra(&authority, &service).text().replace("700ms", "10s");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("streamgauge.toml");
    std::fs::write(&path, &tables).unwrap();
    let proxy = proxy().run_from(&path);
    let mut clients: Vec<_> = (0..100).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.post(PATH, CHAT_REQUEST);
    }
    release.send(()).unwrap();
    assert!(clients.iter_mut().all(|client| client.response().status() == 200));
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1);
}
