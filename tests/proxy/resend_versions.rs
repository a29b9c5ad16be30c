//! A request is sent again once, whichever HTTP versions its connections speak.

use std::sync::{Arc, Mutex, mpsc};

use h2::{Reason, server};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;

use crate::harness::listen::{Listening, listen};
use crate::harness::tls::{Folder, server_config};
use crate::harness::{CHAT_BODY, CHAT_REQUEST, PATIENCE, Proxy, Response, proxy, sized};

const PATH: &str = "/v1/chat/completions";

/// The fate of a request at the upstream.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Responded,
    /// The connection was closed inside the request.
    Closed,
    /// The stream was refused.
    Refused,
}

/// Reads the head of a request over HTTP/1.1; returns the length of its body.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<usize> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    Some(length.unwrap().parse().unwrap())
}

/// An upstream that refuses each stream of HTTP/2 once it may, responds to small requests over
/// HTTP/1.1 and closes inside large ones.
struct Both {
    up: Listening,
    seen: mpsc::Receiver<Seen>,
    /// The requests whose head has arrived.
    heads: mpsc::Receiver<()>,
    /// The bodies of requests over HTTP/1.1 that got a response.
    bodies: mpsc::Receiver<Vec<u8>>,
    go: Arc<Notify>,
    folder: Folder,
}

impl Both {
    fn new(alpn: &[&[u8]]) -> Self {
        let folder = Folder::new();
        let ((tell, seen), (arrive, heads), (keep, bodies)) =
            (mpsc::channel(), mpsc::channel(), mpsc::channel());
        let (tellers, go) = (Mutex::new((tell, arrive, keep)), Arc::new(Notify::new()));
        let may_go = Arc::clone(&go);
        let config = Self::config(&folder, alpn);
        let up = listen(Some(config), move |accepted| {
            let (tell, arrive, keep) = tellers.lock().unwrap().clone();
            let (go, mut stream) = (Arc::clone(&may_go), accepted.stream);
            async move {
                if accepted.is_http2 {
                    let mut connection = server::handshake(stream).await.unwrap();
                    while let Some(Ok((_, mut respond))) = connection.accept().await {
                        arrive.send(()).unwrap();
                        go.notified().await;
                        respond.send_reset(Reason::REFUSED_STREAM);
                        tell.send(Seen::Refused).unwrap();
                    }
                    return;
                }
                while let Some(length) = read_head(&mut stream).await {
                    arrive.send(()).unwrap();
                    if length > CHAT_REQUEST.len() {
                        tell.send(Seen::Closed).unwrap();
                        return;
                    }
                    let mut body = vec![0; length];
                    stream.read_exact(&mut body).await.unwrap();
                    keep.send(body).unwrap();
                    tell.send(Seen::Responded).unwrap();
                    let response = sized("200 OK", "application/json", CHAT_BODY.as_bytes());
                    stream.write_all(&response).await.unwrap();
                }
            }
        });
        Self { up, seen, heads, bodies, go, folder }
    }

    fn config(folder: &Folder, alpn: &[&[u8]]) -> Arc<ServerConfig> {
        let pair = folder.ca.issue_numbered(7, "upstream", &["127.0.0.1"]);
        let mut config = (*server_config(&pair, None, alpn)).clone();
        // A ticket in the socket makes the pool drop a connection that has just been opened, and
        // another one would take its place.
        config.send_tls13_tickets = 0;
        Arc::new(config)
    }

    fn change(&self, alpn: &[&[u8]]) {
        self.up.change_tls(Self::config(&self.folder, alpn));
    }

    fn proxy(&self) -> Proxy {
        proxy()
            .server("max_request_bytes = 50000000")
            .https(self.up.address, &self.folder.ca_line("ca"))
            .run()
    }
}

/// A body that is larger than the sockets' buffers.
fn large() -> String {
    format!("{{\"model\":\"m\",\"x\":\"{}\"}}", "x".repeat(24 << 20))
}

fn assert_unreachable(response: &Response) {
    assert_eq!((response.status(), &response.error()["code"]), (502, &"upstream_unreachable".into()));
    // Nothing was executed.
    assert_eq!(response.header("x-should-retry"), None);
}

#[test]
fn refused_stream_after_a_stale_http1_connection_is_final() {
    let both = Both::new(&[b"http/1.1"]);
    let proxy = both.proxy();
    let mut client = proxy.client();
    assert_eq!(client.post(PATH, CHAT_REQUEST).response().status(), 200);
    both.change(&[b"h2"]);
    both.go.notify_one();
    assert_unreachable(&client.post(PATH, &large()).response());
    assert_eq!(both.seen.try_iter().collect::<Vec<_>>(), [Seen::Responded, Seen::Closed, Seen::Refused]);
}

#[test]
fn http1_connection_that_closes_after_a_refused_stream_is_final() {
    let both = Both::new(&[b"h2"]);
    let proxy = both.proxy();
    let mut client = proxy.client();
    std::thread::scope(|scope| {
        // The upstream does not read the body before it refuses.
        let response = scope.spawn(move || client.post(PATH, &large()).response());
        both.heads.recv_timeout(PATIENCE).expect("a stream arrives");
        both.change(&[b"http/1.1"]);
        both.go.notify_one();
        assert_unreachable(&response.join().unwrap());
    });
    assert_eq!(both.seen.try_iter().collect::<Vec<_>>(), [Seen::Refused, Seen::Closed]);
}

#[test]
fn upload_after_a_refused_stream_keeps_its_framing() {
    let both = Both::new(&[b"h2"]);
    let proxy = both.proxy();
    let mut client = proxy.client();
    // No byte of the body has arrived when the upstream refuses the stream.
    client.send(
        "POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/octet-stream\r\n\
         content-length: 11\r\n\r\n",
    );
    both.heads.recv_timeout(PATIENCE).expect("a stream arrives");
    both.change(&[b"http/1.1"]);
    both.go.notify_one();
    both.heads.recv_timeout(PATIENCE).expect("the request arrives over HTTP/1.1");
    client.send("hello world");
    assert_eq!(client.response().status(), 200);
    assert_eq!(both.bodies.recv_timeout(PATIENCE).unwrap(), b"hello world");
}
