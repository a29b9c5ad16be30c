//! Promise 6 for the keys of clients: in any place of a request a key names its client, and leaves
//! no trace.

use std::sync::mpsc;

use crate::harness::{Client, Program, Proxy, Request, proxy, upstream};

const KEY: &str = "sg-secret-of-team";

/// Headers and targets with the key in them, or with some form of it.
const HEADERS: [&str; 8] = [
    "Authorization: Bearer sg-secret-of-team",
    "api-key: sg-secret-of-team",
    "x-api-key: sg-secret-of-team",
    "x-goog-api-key: sg-secret-of-team",
    "Ocp-Apim-Subscription-Key: sg-secret-of-team",
    "X-Goog-Api-Key: other\r\nx-goog-api-key: sg-secret-of-team",
    "Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.sg-secret-of-team",
    "Sec-WebSocket-Protocol: OpenAI-Insecure-API-Key.sg-secret-of-team, realtime",
];

const TARGETS: [(&str, &str); 9] = [
    ("/v1/models?api-key=sg-secret-of-team", "/v1/models"),
    ("/v1/models?limit=2&api-key=sg-secret-of-team&after=%20x", "/v1/models?limit=2&after=%20x"),
    (
        "/v1/models/gemini-2.5-flash:generateContent?key=sg-secret-of-team&alt=sse",
        "/v1/models/gemini-2.5-flash:generateContent?alt=sse",
    ),
    ("/v1/models?subscription-key=sg-secret-of-team", "/v1/models"),
    ("/v1/models?access_token=sg-secret-of-team", "/v1/models"),
    ("/v1/models?API%2DKey=%73g-secret-of-team", "/v1/models"),
    ("/v1/models?key=other&key=sg-secret-of-team", "/v1/models"),
    ("/v1/models?a=1;key=sg-secret-of-team;b=2", "/v1/models?a=1;b=2"),
    ("/v1/models?api%252dkey=sg-secret-of-team", "/v1/models"),
];

fn watched(tables: &str) -> (Proxy, mpsc::Receiver<Request>) {
    let (sender, requests) = mpsc::channel();
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            sender.send(request).unwrap();
            connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
        }
    });
    (proxy().upstream(&up).tables(tables).run(), requests)
}

fn get(target: &str, header: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n{header}\r\nx-last: 1\r\n\r\n")
}

fn clients() -> String {
    format!("[clients.team]\nkey = {{ value = {KEY:?} }}")
}

/// Sends with and without clients, for each place of a key.
fn sent(target: &str, left: &str, header: &str) {
    for tables in [String::new(), clients()] {
        let (proxy, requests) = watched(&tables);
        let response = proxy.client().send(get(target, header)).response();
        assert_eq!(response.status(), 200, "{target} {header}: {}", response.text());
        let request = requests.recv().unwrap();
        assert_eq!(request.line(), format!("GET {left} HTTP/1.1"), "{target}");
        let head = request.head.to_lowercase();
        assert!(!head.contains("secret"), "{target} {header}: {head}");
        assert!(head.contains("bearer sk-upstream") && head.contains("x-last: 1"), "{head}");
        let record = proxy.record();
        assert!(!record.to_string().contains("secret"), "{record}");
        assert_eq!(
            record["client"],
            if tables.is_empty() { "anonymous" } else { "team" },
            "{target} {header}"
        );
    }
}

#[test]
fn keys_in_headers_name_the_client_and_end_here() {
    for header in HEADERS {
        sent("/v1/models", "/v1/models", header);
    }
}

#[test]
fn keys_in_queries_name_the_client_and_end_here() {
    for (target, left) in TARGETS {
        sent(target, left, "x-first: 1");
    }
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn wrong_keys_are_refused_without_being_repeated() {
    let (proxy, _requests) = watched(&clients());
    let headers = HEADERS.map(|header| ("/v1/models", header));
    let targets = TARGETS.map(|(target, _)| (target, "x-first: 1"));
    for (target, header) in headers.into_iter().chain(targets) {
        let request = get(target, header).replace("secret-of", "wrongish-of");
        let response = proxy.client().send(request).response();
        assert_eq!(response.status(), 401, "{target} {header}");
        assert_eq!(response.error()["code"], "invalid_api_key", "{target} {header}");
        assert!(
            !response.text().contains("wrongish") && !response.head.contains("wrongish"),
            "{}",
            response.text()
        );
        assert!(!proxy.record().to_string().contains("wrongish"));
    }
}

#[test]
fn errors_on_paths_name_no_key_of_the_query() {
    let (proxy, _requests) = watched("[[routes]]\npath = \"/only\"\nupstream = \"up\"");
    for target in [
        "/other?key=sg-secret-of-team",
        "/only/other?key=sg-secret-of-team",
        "/only/v1/../x?key=sg-secret-of-team",
    ] {
        let response = proxy.client().send(get(target, "x-first: 1")).response();
        assert!(matches!(response.status(), 400 | 404), "{target}");
        assert!(
            !response.text().contains("secret") && !proxy.record().to_string().contains("secret"),
            "{target}"
        );
    }
}

#[test]
fn keys_of_websockets_end_here() {
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==";
    sent("/v1/realtime?model=m&api-key=sg-secret-of-team", "/v1/realtime?model=m", upgrade);
    let protocol =
        format!("{upgrade}\r\nSec-WebSocket-Protocol: realtime, openai-insecure-api-key.sg-secret-of-team");
    sent("/v1/realtime?key=other&model=m", "/v1/realtime?model=m", &protocol);
}

#[test]
fn keys_are_in_no_line_of_the_log_at_any_level() {
    let program = Program::unconfigured();
    program.configure(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"\"\n[log]\nformat = \"json\"\nlevel = \"trace\"\n\
         [ledger]\npath = \"\"\n[upstreams.up]\nprovider = \"other\"\nurl = \"http://127.0.0.1:9/v1\"\napi_key = \"none\"\n\
         default_model = \"m\"\n{}",
        clients()
    ));
    let serving = program.serve();
    for (target, header) in TARGETS
        .map(|(target, _)| (target, "x-first: 1"))
        .into_iter()
        .chain(HEADERS.map(|header| ("/v1/models", header)))
    {
        for request in
            [get(target, header), get(target, header).replace("x-last", "bad header with sg-secret")]
        {
            let mut client = Client::connect(serving.address);
            client.send(request).finish();
            client.rest();
        }
    }
    serving.signal("-TERM");
    let log = serving.end();
    assert!(log.len() > TARGETS.len(), "{log:#?}");
    let told: Vec<_> = log.iter().filter(|line| line.contains("secret")).collect();
    assert!(told.is_empty(), "{told:#?}");
}
