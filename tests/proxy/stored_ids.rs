//! Stored state is asked of the upstream whose account has it, and of no other.

use std::fs;
use std::sync::mpsc;

use serde_json::{Value, json};
use streamgauge::simulator::{self, RunningSimulator, SimulatorSettings};

use crate::harness::encoders::{CODINGS, encode, header_value};
use crate::harness::proxy::Builder;
use crate::harness::{Client, PATIENCE, Proxy, Response, Upstream, chunk, proxy, sized, until, upstream};

const PATH: &str = "/v1/responses";
const JSON: &str = "application/json";

/// Simulators with an account each, and the configuration of their upstreams `one` and `two`.
pub struct Accounts {
    _running: [RunningSimulator; 2],
    addresses: [std::net::SocketAddr; 2],
}

pub fn accounts() -> Accounts {
    let bind = |name| {
        let settings = SimulatorSettings { listen: ([127, 0, 0, 1], 0).into(), workers: 1, api_key: None };
        let bound = simulator::bind(&settings).unwrap().with_account(name);
        (bound.address(), bound.spawn())
    };
    let [(first, one), (second, two)] = ["one", "two"].map(bind);
    Accounts { _running: [one, two], addresses: [first, second] }
}

impl Accounts {
    pub fn upstreams(&self) -> Builder {
        proxy().other("one", self.addresses[0]).other("two", self.addresses[1])
    }

    /// A group in which chance decides.
    pub fn group(&self) -> Builder {
        let lines = "tiers = [[\"one\", \"two\"]]\nbalance = \"weight\"\nsticky = []";
        self.upstreams().tables(&format!("[groups.chat]\n{lines}\n[[routes]]\nupstream = \"chat\""))
    }

    /// A group that asks `one` first.
    pub fn tiers(&self) -> Builder {
        let lines = "tiers = [[\"one\"], [\"two\"]]";
        self.upstreams().tables(&format!("[groups.chat]\n{lines}\n[[routes]]\nupstream = \"chat\""))
    }
}

pub fn body(model: &str, previous: Option<&str>) -> Value {
    let mut body = json!({"model": model, "input": "Go on."});
    if let Some(previous) = previous {
        body["previous_response_id"] = previous.into();
    }
    body
}

pub fn post(proxy: &Proxy, body: &Value) -> Response {
    proxy.client().post(PATH, &body.to_string()).response()
}

pub fn get(proxy: &Proxy, path: &str) -> Response {
    proxy.client().get(path).response()
}

/// The response's JSON, which must be a success.
fn json_of(response: &Response) -> Value {
    assert_eq!(response.status(), 200, "{}", response.text());
    serde_json::from_slice(response.body()).unwrap()
}

pub fn id_of(response: &Response) -> String {
    json_of(response)["id"].as_str().unwrap().to_owned()
}

/// The member that served, at the first attempt.
pub fn served_at_once(response: &Response) -> &str {
    assert_eq!(response.status(), 200, "{}", response.text());
    assert_eq!(response.header("x-streamgauge-attempts"), Some("1"));
    response.header("x-streamgauge-upstream").unwrap()
}

#[test]
fn conversation_goes_on_at_the_account_that_stores_it() {
    let accounts = accounts();
    let proxy = accounts.group().admin().run();
    for _ in 0..4 {
        let first = post(&proxy, &body("m", None));
        let (mut id, member) = (id_of(&first), served_at_once(&first).to_owned());
        for _ in 0..6 {
            let next = post(&proxy, &body("m", Some(&id)));
            assert_eq!(served_at_once(&next), member);
            id = id_of(&next);
        }
        for path in ["", "/input_items"] {
            let found = get(&proxy, &format!("{PATH}/{id}{path}"));
            assert_eq!(served_at_once(&found), member, "{path}");
        }
        let delete = format!("DELETE {PATH}/{id} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        assert_eq!(served_at_once(&proxy.client().send(&delete).response()), member);
        let gone = proxy.client().send(&delete).response();
        assert_eq!((gone.status(), gone.header("x-streamgauge-upstream")), (404, Some(&*member)));
    }
    let kept = "streamgauge_sticky_total{group=\"chat\",result=\"kept\"} 40";
    until(PATIENCE, kept, || proxy.page("/metrics").text().lines().any(|line| line == kept).then_some(()));
}

#[test]
fn known_id_decides_before_routes_do() {
    let accounts = accounts();
    let routes =
        "[[routes]]\nmodel = \"a*\"\nupstream = \"one\"\n[[routes]]\nmodel = \"b*\"\nupstream = \"two\"";
    let proxy = accounts.upstreams().tables(routes).run();
    let id = id_of(&post(&proxy, &body("a-1", None)));
    assert_eq!(
        post(&proxy, &body("b-1", Some(&id))).status(),
        200,
        "the other route's account does not have it"
    );
    assert_eq!(proxy.record()["upstream"], "one");
    assert_eq!(proxy.record()["upstream"], "one");
    // No route matches a request without a model.
    assert_eq!(id_of(&get(&proxy, &format!("{PATH}/{id}"))), id);
    assert_eq!(get(&proxy, &format!("{PATH}/resp_unknown")).error()["code"], "no_route");
    // A route's prefix is removed.
    let routes = "[[routes]]\npath = \"/team\"\nupstream = \"one\"\n[[routes]]\nupstream = \"two\"";
    let proxy = accounts.upstreams().tables(routes).run();
    let id = id_of(&proxy.client().post("/team/v1/responses", &body("m", None).to_string()).response());
    assert_eq!(id_of(&get(&proxy, &format!("/v1/responses/{id}"))), id);
    assert_eq!(id_of(&get(&proxy, &format!("/team/v1/responses/{id}"))), id);
}

#[test]
fn files_and_items_are_found_where_they_are() {
    let accounts = accounts();
    let proxy = accounts.group().run();
    for _ in 0..3 {
        let form = "--x\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nuser_data\r\n\
                    --x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\nabc\r\n--x--\r\n";
        let upload = format!(
            "POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=x\r\ncontent-length: {}\r\n\r\n{form}",
            form.len()
        );
        let upload = proxy.client().send(upload).response();
        let (file, member) = (id_of(&upload), served_at_once(&upload).to_owned());
        for _ in 0..4 {
            let content = get(&proxy, &format!("/v1/files/{file}/content"));
            assert_eq!((served_at_once(&content), content.text()), (&*member, "abc"));
            let part = json!({"type": "input_file", "file_id": file});
            let named = json!({"model": "m", "input": [{"role": "user", "content": [part]}]});
            assert_eq!(served_at_once(&post(&proxy, &named)), member);
        }

        let reasoning = json!({"model": "m", "input": "Think.", "include": ["reasoning.encrypted_content"]});
        let response = post(&proxy, &reasoning);
        let (member, mut item) =
            (served_at_once(&response).to_owned(), json_of(&response)["output"][0].clone());
        let references = [item.clone(), json!({"type": "item_reference", "id": item["id"]}), {
            // Some clients remove the ids.
            item.as_object_mut().unwrap().remove("id");
            item
        }];
        for item in references.iter().cycle().take(9) {
            assert_eq!(
                served_at_once(&post(&proxy, &json!({"model": "m", "input": [item]}))),
                member,
                "{item}"
            );
        }
    }
}

/// A member that sends this response to every `POST`, and 404 to any other request.
fn storing(response: Vec<u8>) -> Upstream {
    upstream(move |connection| {
        while let Some(request) = connection.request() {
            let missing = || sized("404 Not Found", JSON, b"{\"error\":{\"message\":\"not found\"}}");
            connection.send(if request.line().starts_with("POST") { response.clone() } else { missing() });
        }
    })
}

#[test]
fn ids_of_encoded_bodies_and_streams_are_seen() {
    let whole = br#"{"id":"resp_00000001","output":[]}"#;
    let stream: [&[u8]; 3] = [
        b"event: response.created\ndata: {\"response\":{\"id\":\"resp_0",
        b"0000001\"}}\n\n",
        b"data: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_00000001\"}}\n\n",
    ];
    for coding in CODINGS.into_iter().chain([""]) {
        for is_stream in [false, true] {
            let pieces: &[&[u8]] = if is_stream { &stream } else { &[whole] };
            let encoded = if coding.is_empty() { vec![pieces.concat()] } else { encode(coding, pieces) };
            let media_type = if is_stream { "text/event-stream" } else { JSON };
            let field = match coding {
                "" => String::new(),
                coding => format!("content-encoding: {}\r\n", header_value(coding)),
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\n{field}transfer-encoding: chunked\r\n\r\n"
            );
            let chunks = encoded.iter().filter(|piece| !piece.is_empty()).flat_map(|piece| chunk(piece));
            let response: Vec<u8> =
                head.into_bytes().into_iter().chain(chunks).chain(*b"0\r\n\r\n").collect();
            let (one, two) = (storing(response), storing(Vec::new()));
            let routes = "[[routes]]\nmodel = \"m\"\nupstream = \"one\"\n[[routes]]\nupstream = \"two\"";
            let proxy = proxy().other("one", one.address).other("two", two.address).tables(routes).run();
            post(&proxy, &json!({"model": "m", "input": "a", "stream": is_stream}));
            assert_eq!(proxy.record()["upstream"], "one");
            get(&proxy, &format!("{PATH}/resp_00000001"));
            assert_eq!(proxy.record()["upstream"], "one", "{coding} {is_stream}");
            get(&proxy, &format!("{PATH}/resp_00000002"));
            assert_eq!(proxy.record()["upstream"], "two");
        }
    }
}

#[test]
fn id_of_another_client_is_not_found() {
    let accounts = accounts();
    id_is_bound_to_its_client(&accounts.group().tables(TWO_CLIENTS).run());
    // One upstream has all state.
    id_is_bound_to_its_client(&proxy().other("one", accounts.addresses[0]).tables(TWO_CLIENTS).run());
}

fn id_is_bound_to_its_client(proxy: &Proxy) {
    let send = |client: &str, line: &str, body: &str| {
        let head = format!(
            "{line} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sk-{client}-0123456789\r\ncontent-type: {JSON}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        proxy.client().send(head).response()
    };
    let create = format!("POST {PATH}");
    let id = id_of(&send("alice", &create, &body("m", None).to_string()));
    proxy.record();
    let named = body("m", Some(&id)).to_string();
    let show = format!("GET {PATH}/{id}");
    for (line, body) in [(&create, &*named), (&show, ""), (&format!("DELETE {PATH}/{id}"), "")] {
        let refused = send("bob", line, body);
        assert_eq!((refused.status(), &refused.error()["code"]), (404, &json!("id_not_found")), "{line}");
        let record = proxy.record();
        assert_eq!((&record["client"], &record["outcome"]), (&json!("bob"), &json!("rejected")));
    }
    // An id beside the client's own is no way around it.
    let own = id_of(&send("bob", &create, &body("m", None).to_string()));
    let both =
        json!({"model": "m", "previous_response_id": own, "input": [{"type": "item_reference", "id": id}]});
    assert_eq!(send("bob", &create, &both.to_string()).status(), 404);
    assert_eq!((send("alice", &show, "").status(), send("alice", &create, &named).status()), (200, 200));
}

/// Clients `alice` and `bob`.
pub const TWO_CLIENTS: &str = "[clients.alice]\nkey = { value = \"sk-alice-0123456789\" }\n\
                           [clients.bob]\nkey = { value = \"sk-bob-0123456789\" }";

/// A request of a client with these header lines.
pub fn of_client(client: &str, line: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{line} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sk-{client}-0123456789\r\n{headers}\
         content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

#[test]
fn no_form_of_a_body_hides_the_id_of_another_client() {
    let accounts = accounts();
    let proxy = accounts.group().tables(TWO_CLIENTS).run();
    let send = |client: &str, path: &str, headers: &str, body: &[u8]| {
        proxy.client().send(of_client(client, &format!("POST {path}"), headers, body)).response()
    };
    let json = "content-type: application/json\r\n";
    let id = id_of(&send("alice", PATH, json, body("m", None).to_string().as_bytes()));
    let named = body("m", Some(&id)).to_string().into_bytes();
    let after = |before: &[u8]| [before, &named[..]].concat();
    let utf16: Vec<u8> =
        String::from_utf8(named.clone()).unwrap().encode_utf16().flat_map(u16::to_le_bytes).collect();
    let coded = |coding: &str| format!("{json}content-encoding: {coding}\r\n");
    let gzip = encode("gzip", &[&named]).concat();
    let deep = format!("{{\"x\":{}{},\"previous_response_id\":\"{id}\"}}", "[".repeat(200), "]".repeat(200));
    let cases: [(String, Vec<u8>, &str); 13] = [
        (json.to_owned(), after(b"\xef\xbb\xbf"), "id_not_found"),
        (json.to_owned(), after(b"\0\xef\xbb\xbf\n"), "id_not_found"),
        ("content-type: text/plain\r\n".to_owned(), named.clone(), "id_not_found"),
        ("content-type: application/x-www-form-urlencoded\r\n".to_owned(), named.clone(), "id_not_found"),
        (String::new(), named.clone(), "id_not_found"),
        (coded("gzip"), gzip.clone(), "id_not_found"),
        (format!("{}content-encoding: identity\r\n", coded("gzip")), gzip.clone(), "id_not_found"),
        (coded("gzip"), named.clone(), "body_undecodable"),
        (coded("gzip"), gzip[..gzip.len() - 4].to_vec(), "body_undecodable"),
        (coded("x-unknown"), named.clone(), "unsupported_encoding"),
        (json.to_owned(), utf16, "body_not_utf8"),
        (json.to_owned(), deep.into_bytes(), "body_not_json"),
        (json.to_owned(), [b"{\"x\":NaN,", &named[1..]].concat(), "body_not_json"),
    ];
    // One that names its model, one that does not, one without state of its own, and a new one.
    for path in [PATH, "/v1/conversations", "/v1/responses/input_tokens", "/v1/new_things"] {
        for (headers, body, code) in &cases {
            let refused = send("bob", path, headers, body);
            assert_eq!(refused.error()["code"], *code, "{path} {headers:?} {}", body.escape_ascii());
        }
    }
    for (headers, body) in [(json.to_owned(), after(b"\xef\xbb\xbf")), (coded("gzip"), gzip)] {
        let next = send("alice", PATH, &headers, &body);
        assert_ne!(next.header("x-streamgauge-upstream"), None, "it is passed on: {}", next.text());
    }
}

#[test]
fn body_of_an_endpoint_with_state_is_read_whatever_its_type() {
    let accounts = accounts();
    let proxy = accounts.tiers().run();
    let id = |name: &str| {
        let mut account = Client::connect(accounts.addresses[usize::from(name == "two")]);
        id_of(&account.post(PATH, &body("m", None).to_string()).response())
    };
    let known = id("two");
    get(&proxy, &format!("{PATH}/{known}"));
    let text = format!("\u{feff}{}", json!({"items": [{"type": "item_reference", "id": known}]}));
    let head = format!(
        "POST /v1/conversations HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    );
    let response = proxy.client().send(head).response();
    assert_eq!(response.header("x-streamgauge-upstream"), Some("two"), "{}", response.text());
}

#[test]
fn unknown_id_is_asked_of_one_member_after_the_other() {
    let accounts = accounts();
    let proxy = accounts.tiers().run();
    // Made before the proxy knew it, as before a restart.
    let mut two = Client::connect(accounts.addresses[1]);
    let include = json!({"model": "m", "input": "Think.", "include": ["reasoning.encrypted_content"]});
    let made = json_of(&two.post(PATH, &include.to_string()).response());
    let id = made["id"].as_str().unwrap();
    let attempts = |response: &Response| {
        let header = |name| response.header(name).unwrap().to_owned();
        assert_eq!(response.status(), 200, "{}", response.text());
        (header("x-streamgauge-upstream"), header("x-streamgauge-attempts"))
    };
    let reasoning = json!({"model": "m", "input": [made["output"][0]]});
    let path = format!("{PATH}/{id}/input_items");
    let ask = |number: usize| match number {
        0 => post(&proxy, &body("m", Some(id))),
        1 => post(&proxy, &reasoning),
        _ => get(&proxy, &path),
    };
    for (number, first) in [(0, "2"), (1, "2"), (2, "1")] {
        assert_eq!(attempts(&ask(number)), ("two".to_owned(), first.to_owned()), "{number}");
        assert_eq!(attempts(&ask(number)), ("two".to_owned(), "1".to_owned()), "{number}: it is known now");
    }
    // The last refusal is relayed, whose words are the service's.
    let nowhere = post(&proxy, &body("m", Some("resp_00000000000000000000ffff")));
    let refusal: Value = serde_json::from_slice(nowhere.body()).unwrap();
    assert_eq!((nowhere.status(), &refusal["error"]["code"]), (400, &json!("previous_response_not_found")));
    assert_eq!(nowhere.header("x-streamgauge-attempts"), Some("2"));
    let nowhere = get(&proxy, &format!("{PATH}/resp_00000000000000000000ffff"));
    assert_eq!((nowhere.status(), nowhere.header("x-streamgauge-attempts")), (404, Some("2")));
}

#[test]
fn path_id_that_no_record_has_is_found_by_asking() {
    let accounts = accounts();
    let proxy = accounts.tiers().run();
    let mut two = Client::connect(accounts.addresses[1]);
    // More than the retry budget allows at once: such refusals are no failures.
    for _ in 0..12 {
        let id = id_of(&two.post(PATH, &body("m", None).to_string()).response());
        let found = get(&proxy, &format!("{PATH}/{id}"));
        assert_eq!((found.status(), found.header("x-streamgauge-attempts")), (200, Some("2")));
        let next = post(&proxy, &body("m", Some(&id)));
        assert_eq!(served_at_once(&next), "two", "the response has shown it");
    }
}

#[test]
fn id_in_a_path_is_remembered_when_its_response_has_none() {
    let accounts = accounts();
    let proxy = accounts.tiers().run();
    let form = "--x\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nuser_data\r\n\
                --x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\nabc\r\n--x--\r\n";
    let upload = format!(
        "POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=x\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    );
    let file = id_of(&Client::connect(accounts.addresses[1]).send(upload).response());
    for attempts in ["2", "1"] {
        let content = get(&proxy, &format!("/v1/files/{file}/content"));
        assert_eq!((content.text(), content.header("x-streamgauge-attempts")), ("abc", Some(attempts)));
    }
}

#[test]
fn conversation_object_stays_at_the_account_that_made_it() {
    let accounts = accounts();
    let proxy = accounts.group().run();
    for _ in 0..4 {
        let made = proxy.client().post("/v1/conversations", "{}").response();
        let (id, member) = (id_of(&made), served_at_once(&made).to_owned());
        assert!(id.starts_with("conv_"), "{id}");
        for turn in 0..4 {
            let named = json!({"model": "m", "input": "Go on.", "conversation": id});
            assert_eq!(served_at_once(&post(&proxy, &named)), member, "{turn}");
        }
        let items = get(&proxy, &format!("/v1/conversations/{id}/items"));
        assert_eq!(served_at_once(&items), member);
        assert_eq!(json_of(&items)["data"].as_array().unwrap().len(), 8);
        let update = format!("/v1/conversations/{id}");
        assert_eq!(served_at_once(&proxy.client().post(&update, "{\"metadata\":{}}").response()), member);
        let delete = format!("DELETE {update} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        assert_eq!(served_at_once(&proxy.client().send(&delete).response()), member);
    }
    // The other account does not have it.
    let mut one = Client::connect(accounts.addresses[0]);
    let id = id_of(&one.post("/v1/conversations", "{}").response());
    let mut two = Client::connect(accounts.addresses[1]);
    assert_eq!(two.post(&format!("/v1/conversations/{id}"), "{}").response().status(), 404);
    let named = json!({"model": "m", "input": "a", "conversation": {"id": id}});
    assert_eq!(two.post(PATH, &named.to_string()).response().status(), 404);
}

/// A member whose responses have the id `resp_00000001`, or are these for a body with this word.
fn faulty(word: &'static str, refusal: Vec<u8>) -> (Upstream, mpsc::Receiver<()>) {
    let (seen, requests) = mpsc::channel();
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            let _ = seen.send(());
            let is_refused = String::from_utf8_lossy(&request.body).contains(word);
            let good = || sized("200 OK", JSON, br#"{"id":"resp_00000001","output":[]}"#);
            connection.send(if is_refused { refusal.clone() } else { good() });
        }
    });
    (up, requests)
}

fn faulty_group(one: &Upstream, two: &Upstream) -> Proxy {
    let tables = "[groups.chat]\ntiers = [[\"one\"], [\"two\"]]\n[[routes]]\nupstream = \"chat\"";
    proxy().other("one", one.address).other("two", two.address).tables(tables).run()
}

#[test]
fn breaker_does_not_refuse_what_only_its_member_has() {
    let (one, _) = faulty("boom", sized("401 Unauthorized", JSON, b"{}"));
    let two = Upstream::responding(sized("200 OK", JSON, b"{\"id\":\"resp_00000002\"}"));
    let proxy = faulty_group(&one, &two);
    assert_eq!(served_at_once(&post(&proxy, &body("m", None))), "one");
    let refused = post(&proxy, &json!({"model": "m", "input": "boom"}));
    assert_eq!(refused.header("x-streamgauge-upstream"), Some("two"));
    assert_eq!(served_at_once(&post(&proxy, &body("m", None))), "two", "`one` is out");
    assert_eq!(served_at_once(&post(&proxy, &body("m", Some("resp_00000001")))), "one");
    // Its failure is the client's response: no other member can have the state.
    let failed =
        post(&proxy, &json!({"model": "m", "previous_response_id": "resp_00000001", "input": "boom"}));
    assert_eq!((failed.status(), failed.header("x-streamgauge-attempts")), (401, Some("1")));
}

#[test]
fn rate_limit_of_the_member_refuses_its_state_until_it_ends() {
    let limit = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 30\r\ncontent-length: 0\r\n\r\n";
    let (one, requests) = faulty("limit", limit.to_vec());
    let two = Upstream::responding(sized("200 OK", JSON, b"{\"id\":\"resp_00000002\"}"));
    let proxy = faulty_group(&one, &two);
    assert_eq!(served_at_once(&post(&proxy, &body("m", None))), "one");
    assert_eq!(post(&proxy, &json!({"model": "m", "input": "limit"})).status(), 200);
    for _ in 0..2 {
        requests.recv_timeout(PATIENCE).unwrap();
    }
    let refused = post(&proxy, &body("m", Some("resp_00000001")));
    assert_eq!((refused.status(), &refused.error()["code"]), (429, &json!("upstreams_rate_limited")));
    let after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=30).contains(&after), "{after}");
    assert!(requests.try_recv().is_err(), "the member is not asked");
    assert_eq!(served_at_once(&post(&proxy, &body("m", Some("resp_00000002")))), "two");
}

#[test]
fn ids_survive_a_reload() {
    let accounts = accounts();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("streamgauge.toml");
    let (before, after) = (accounts.group(), accounts.group());
    fs::write(&file, before.text()).unwrap();
    let proxy = before.run_from(&file);
    let ids: Vec<_> = (0..24).map(|_| id_of(&post(&proxy, &body("m", None)))).collect();
    fs::write(&file, after.text().replace("default-model", "another-default")).unwrap();
    proxy.reload();
    for id in &ids {
        served_at_once(&post(&proxy, &body("m", Some(id))));
    }
    // An upstream at another address is another service: its ids are unknown.
    let moved = after.text().replace("/v1\"", "/anthropic/v1\"");
    fs::write(&file, moved).unwrap();
    proxy.reload();
    let attempts: Vec<_> = ids
        .iter()
        .map(|id| post(&proxy, &body("m", Some(id))).header("x-streamgauge-attempts").unwrap().to_owned())
        .collect();
    assert!(attempts.iter().any(|attempts| attempts == "2"), "{attempts:?}");
}

#[test]
fn id_of_a_running_stream_is_known_to_all_workers() {
    let accounts = accounts();
    let proxy = accounts.group().server("workers = 8").run();
    let mut streaming = proxy.client();
    let body_text = json!({"model": "sim:events=3,pace=2s", "input": "Go.", "stream": true}).to_string();
    streaming.post(PATH, &body_text).head();
    let mut begun = String::new();
    while !begun.contains("response.in_progress") {
        begun += &String::from_utf8(streaming.chunk()).unwrap();
    }
    let id = begun.split("\"id\":\"").nth(1).unwrap().split('"').next().unwrap();
    for _ in 0..24 {
        served_at_once(&post(&proxy, &body("m", Some(id))));
    }
}

/// A session of a client.
pub fn session(proxy: &Proxy, client: &str) -> Client {
    let mut session = proxy.client();
    let head = session
        .send(format!(
            "GET {PATH} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sk-{client}-0123456789\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ))
        .head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    session
}

/// The message that asks for this response.
pub fn create(mut body: Value) -> Vec<u8> {
    body["type"] = "response.create".into();
    message(&body.to_string())
}

/// A client's text message of less than 64 KB, whose mask changes nothing.
fn message(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap().to_be_bytes();
    [&[0x81, 0xfe][..], &length, &[0; 4], text.as_bytes()].concat()
}

#[test]
fn session_shows_ids_and_passes_none_of_another_client() {
    let accounts = accounts();
    let clients = "[clients.alice]\nkey = { value = \"sk-alice-0123456789\" }\n[clients.bob]\nkey = { value = \"sk-bob-0123456789\" }";
    let proxy = accounts.group().tables(clients).run();
    let mut alice = session(&proxy, "alice");
    alice.send(create(body("m", None)));
    let mut text = String::new();
    while !text.contains("\"type\":\"response.completed\"") {
        text.push_str(&String::from_utf8_lossy(&alice.read(1)));
    }
    let id = text.split("\"response\":{\"id\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let named = body("m", Some(&id));
    let posted = |client: &str| {
        let named = named.to_string();
        let head = format!(
            "POST {PATH} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sk-{client}-0123456789\r\ncontent-type: {JSON}\r\ncontent-length: {}\r\n\r\n{named}",
            named.len()
        );
        proxy.client().send(head).response()
    };
    for _ in 0..8 {
        served_at_once(&posted("alice"));
    }
    assert_eq!(posted("bob").status(), 404);
    let mut bob = session(&proxy, "bob");
    bob.send(create(named.clone()));
    let rest = bob.rest();
    assert_eq!(rest.get(2..4), Some(&1008_u16.to_be_bytes()[..]), "{}", rest.escape_ascii());
}
