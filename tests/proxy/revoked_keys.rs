//! Keys that are revoked with `--now`: what runs with them ends, at each stage.

use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use crate::harness::{CHAT_REQUEST, Client, EVENTS_HEAD, Program, Proxy, Upstream, chunk, proxy, upstream};
use crate::key_commands::id;

/// The time within which a revoked key ends its requests.
const SOON: Duration = Duration::from_secs(2);

const TOKEN: &str = "0123456789abcdef-marker";

const GRANTED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A close frame with the code 1008 and its reason.
const CLOSED: &[u8] = b"\x88\x15\x03\xf0the key was revoked";

/// A proxy with its configuration and its keys in a directory of its own.
struct Keyed {
    program: Program,
    proxy: Proxy,
    /// The connections that the proxy has left, as the upstream sees it.
    left: Receiver<()>,
    _up: Upstream,
}

impl Keyed {
    /// Each request gets `response`, and then nothing more.
    fn new(response: Vec<u8>) -> Self {
        Self::limited(response, "")
    }

    /// The same, with further keys of the client.
    fn limited(response: Vec<u8>, lines: &str) -> Self {
        let (leave, left) = mpsc::channel();
        let up = upstream(move |connection| {
            if connection.request().is_some() {
                connection.send(&response);
                connection.wait_for_close();
                leave.send(()).unwrap();
            }
        });
        let program = Program::unconfigured();
        let admin = format!("listen = \"127.0.0.1:0\"\ntoken = {{ value = {TOKEN:?} }}");
        let built = proxy().admin_lines(&admin).upstream(&up).tables(&format!("[clients.search]\n{lines}"));
        program.configure(&built.text());
        let proxy = proxy().run_from(&program.path("streamgauge.toml"));
        Self { program, proxy, left, _up: up }
    }

    fn streaming() -> Self {
        Self::new([EVENTS_HEAD.into(), chunk(b"data: {\"choices\":[]}\n\n")].concat())
    }

    fn keys(&self, arguments: &[&str]) -> String {
        let output = self.program.command(&[&["keys"], arguments].concat()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        self.proxy.look();
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    fn create(&self) -> String {
        self.keys(&["create", "search"])
    }

    /// Asks for the list of models.
    fn list(&self, key: &str) -> Client {
        let mut client = self.proxy.client();
        client.send(format!("GET /v1/models HTTP/1.1\r\nhost: localhost\r\nx-api-key: {key}\r\n\r\n"));
        client
    }

    fn send(&self, key: &str) -> Client {
        let (mut client, length) = (self.proxy.client(), CHAT_REQUEST.len());
        client.send(format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-api-key: {key}\r\ncontent-length: {length}\r\n\r\n{CHAT_REQUEST}"
        ));
        client
    }

    fn wait_for_queue(&self, count: usize) {
        let line =
            format!("streamgauge_limit_waiting{{whose=\"clients.search\",limit=\"limits[0]\"}} {count}.0\n");
        let admin = self.proxy.admin();
        crate::harness::until(SOON, "the queue of the limit", || {
            let request =
                format!("GET /metrics HTTP/1.1\r\nhost: {admin}\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
            Client::connect(admin).send(request).response().text().contains(&line).then_some(())
        });
    }

    /// Revokes `cut` while the request that `send` sends with it waits for the place of one with
    /// `kept`. Returns that one.
    fn revoke_while_waiting(&self, kept: &str, cut: &str, send: fn(&Self, &str) -> Client) -> Client {
        let running = self.send(kept);
        crate::harness::until(SOON, "the first request", || (self._up.accepted() > 0).then_some(()));
        let mut waiting = send(self, cut);
        self.wait_for_queue(1);
        self.keys(&["revoke", &id(cut), "--now"]);
        let refused = waiting.response();
        assert_eq!((refused.status(), &refused.error()["code"]), (401, &"key_revoked".into()));
        assert_eq!(self.proxy.record()["outcome"], "cut");
        self.wait_for_queue(0);
        running
    }

    /// Checks the record of a request that was cut, and that the upstream was left.
    fn assert_cut(&self) {
        self.left.recv_timeout(SOON).expect("the upstream is left");
        let record = self.proxy.record();
        let error = record["error"].as_str().unwrap_or_default();
        assert!(record["outcome"] == "cut" && error.contains("key was revoked"), "{record}");
    }
}

#[test]
fn stream_of_the_key_ends_with_an_event_and_no_other_does() {
    let keyed = Keyed::streaming();
    let (cut, kept) = (keyed.create(), keyed.create());
    let mut running = keyed.send(&cut);
    let head = running.head();
    let mut other = keyed.send(&kept);
    let other_head = other.head();
    let said = keyed.keys(&["revoke", &id(&cut), "--now"]);
    assert_eq!(said, format!("revoked {} of search, and the requests with it that run end", id(&cut)));
    let body = running.cut_body(&head);
    assert!(body.contains("\"code\":\"key_revoked\""), "{body}");
    keyed.assert_cut();
    assert_eq!(keyed.send(&cut).response().status(), 401);
    assert_eq!(keyed.proxy.record()["outcome"], "rejected");
    assert!(keyed.left.try_recv().is_err(), "the other stream was ended too");

    // The key stays in the list until it is removed, or for a day.
    let listed = keyed.keys(&["list"]);
    assert!(listed.contains(&id(&cut)) && listed.contains("(revoked)"), "{listed}");
    keyed.keys(&["revoke", &id(&cut)]);
    assert!(!keyed.keys(&["list"]).contains(&id(&cut)));

    let admin = keyed.proxy.admin();
    let request = format!(
        "DELETE /keys/{}?now=true HTTP/1.1\r\nhost: {admin}\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n",
        id(&kept)
    );
    let revoked = Client::connect(admin).send(request).response();
    assert!(revoked.status() == 200 && revoked.text().contains("\"cut\": true"), "{}", revoked.text());
    assert!(other.cut_body(&other_head).contains("key_revoked"));
    keyed.assert_cut();
}

#[test]
fn request_without_a_response_is_refused() {
    let keyed = Keyed::new(Vec::new());
    let key = keyed.create();
    let mut waiting = keyed.send(&key);
    crate::harness::until(SOON, "the request at the upstream", || (keyed._up.accepted() > 0).then_some(()));
    keyed.keys(&["revoke", &id(&key), "--now"]);
    let refused = waiting.response();
    assert_eq!((refused.status(), &refused.error()["code"]), (401, &"key_revoked".into()));
    keyed.assert_cut();
}

#[test]
fn request_that_waits_for_a_limit_is_refused_and_never_sent() {
    let limits = "limits = [{ concurrent = 1, at_limit = \"wait\", wait = \"10m\" }]\n";
    let keyed = Keyed::limited(Vec::new(), limits);
    let (kept, cut) = (keyed.create(), keyed.create());
    let mut running = keyed.revoke_while_waiting(&kept, &cut, Keyed::send);
    // The place of the first one is free, and nothing takes it.
    keyed.keys(&["revoke", &id(&kept), "--now"]);
    assert_eq!(running.response().status(), 401);
    keyed.assert_cut();
    assert_eq!(keyed._up.accepted(), 1);
}

#[test]
fn list_of_models_that_waits_for_a_limit_is_refused() {
    let lines = "models = [\"gpt*\"]\nlimits = [{ concurrent = 1, at_limit = \"wait\", wait = \"10m\" }]\n";
    let keyed = Keyed::limited(Vec::new(), lines);
    let (kept, cut) = (keyed.create(), keyed.create());
    keyed.revoke_while_waiting(&kept, &cut, Keyed::list);
}

#[test]
fn request_whose_body_has_not_arrived_is_refused() {
    let keyed = Keyed::new(Vec::new());
    let key = keyed.create();
    let mut client = keyed.proxy.client();
    client.send(format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-api-key: {key}\r\n\
         content-type: application/json\r\nexpect: 100-continue\r\ncontent-length: 90\r\n\r\n"
    ));
    // Sent when the body is read.
    let interim = client.head();
    assert!(interim.starts_with("HTTP/1.1 100"), "{interim}");
    keyed.keys(&["revoke", &id(&key), "--now"]);
    let refused = client.response();
    assert_eq!((refused.status(), &refused.error()["code"]), (401, &"key_revoked".into()));
    assert_eq!(keyed.proxy.record()["outcome"], "cut");
    assert_eq!(keyed._up.accepted(), 0);
}

#[test]
fn socket_of_the_key_is_closed() {
    let keyed = Keyed::new(GRANTED.into());
    let key = keyed.create();
    let mut client = keyed.proxy.client();
    client.send(format!(
        "GET /v1/realtime?model=m HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nauthorization: Bearer {key}\r\n\r\n"
    ));
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    keyed.keys(&["revoke", &id(&key), "--now"]);
    assert_eq!(client.rest(), CLOSED);
    keyed.assert_cut();
}
