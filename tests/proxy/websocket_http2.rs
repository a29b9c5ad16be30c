//! WebSockets through an upstream with HTTP/2: each has an HTTP/1.1 connection of its own.

use std::sync::{Mutex, mpsc};

use crate::harness::{
    CHAT_REQUEST, CHAT_STREAM, Client, Connection, FINAL, Frames, PATIENCE, Proxy, Upstream, header, proxy,
    tls_choosing, upstream,
};

const GRANTED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// An unmasked close frame with 1000, and the client's.
const CLOSE: &[u8] = &[0x88, 2, 0x03, 0xe8];
const MASKED_CLOSE: &[u8] = &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];

/// Serves HTTP/2 on its first connection and grants a session on each later one, whose heads it
/// passes on.
fn both() -> (Upstream, mpsc::Receiver<String>) {
    let (tell, heads) = mpsc::channel();
    let tell = Mutex::new(tell);
    let up = upstream(move |connection| {
        if connection.number == 0 {
            return serve(connection);
        }
        tell.lock().unwrap().send(connection.head().unwrap()).unwrap();
        connection.send([GRANTED.as_bytes(), CLOSE].concat());
        assert_eq!(connection.read(MASKED_CLOSE.len()), MASKED_CLOSE);
    });
    (up, heads)
}

fn serve(connection: &mut Connection) {
    let mut frames = Frames::begin(connection, &[]);
    while let Some(stream) = frames.request() {
        frames.head(stream, "text/event-stream");
        frames.data(stream, CHAT_STREAM.as_bytes(), FINAL);
    }
}

fn session(client: &mut Client) -> String {
    client.send(
        "GET /v1/realtime?model=m HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    client.head()
}

fn assert_sessions_have_their_own_connections(proxy: &Proxy, up: &Upstream, heads: &mpsc::Receiver<String>) {
    for sessions in 1..=2 {
        let streamed = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
        assert_eq!(streamed.text(), CHAT_STREAM);
        let mut client = proxy.client();
        let granted = session(&mut client);
        assert!(granted.starts_with("HTTP/1.1 101 "), "{granted}");
        assert_eq!(client.read(CLOSE.len()), CLOSE);
        client.send(MASKED_CLOSE);
        let head = heads.recv_timeout(PATIENCE).unwrap();
        assert!(head.starts_with("GET /v1/realtime?model=m HTTP/1.1\r\n"), "{head}");
        assert_eq!(header(&head, "upgrade"), Some("websocket"));
        assert_eq!(up.accepted(), 1 + sessions, "HTTP/2 goes on on the one connection");
    }
}

#[test]
fn session_has_an_http1_connection_where_http2_needs_no_asking() {
    let (up, heads) = both();
    let proxy = proxy().http2(up.address).run();
    assert_sessions_have_their_own_connections(&proxy, &up, &heads);
}

#[test]
fn session_offers_http1_alone_in_the_tls_handshake() {
    let (up, heads) = both();
    let front = tls_choosing(&["h2", "http/1.1"], up.address);
    let proxy = over_tls(&front.pem, front.address.port());
    assert_sessions_have_their_own_connections(&proxy, &up, &heads);
}

#[test]
fn service_that_has_http2_alone_is_named() {
    let (up, _heads) = both();
    let front = tls_choosing(&["h2"], up.address);
    let proxy = over_tls(&front.pem, front.address.port());
    let mut client = proxy.client();
    let head = session(&mut client);
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    let body = String::from_utf8(client.body_and_end(&head).0).unwrap();
    assert!(body.contains("a WebSocket needs HTTP/1.1"), "{body}");
}

fn over_tls(ca: &str, port: u16) -> Proxy {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), ca).unwrap();
    proxy()
        .tables(&format!(
            "[upstreams.up]\nprovider = \"other\"\nurl = \"https://localhost:{port}/v1\"\napi_key = \"none\"\n\
             default_model = \"m\"\nhttp = \"2\"\n[upstreams.up.tls]\nca = {{ file = {:?} }}",
            file.path()
        ))
        .run()
}
