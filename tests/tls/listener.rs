//! The side of the clients: protocols, certificates, and what records say.

use std::convert::Infallible;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use streamgauge::tls::{HTTP_1_1, HTTP_2};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::certificates::Authority;
use crate::support::*;

const CLIENTS: &str = "[clients.keyed]\nkey = { value = \"sg-key\" }\n";

async fn proxy(folder: &Folder, lines: &str, more: &str) -> (Proxy, Upstream) {
    let upstream = Upstream::run(folder, &folder.ca.issue("up", &["127.0.0.1"]), None).await;
    let server = folder.lines("server") + lines;
    (Proxy::run(&server, upstream.address, &folder.ca_line("ca"), more), upstream)
}

#[tokio::test]
async fn clients_speak_http_1_1_with_and_without_alpn_and_http_2() {
    let folder = Folder::new();
    let (proxy, _upstream) = proxy(&folder, "", "").await;
    let settings = folder.client(None);
    for alpn in [&[HTTP_1_1][..], &[]] {
        let mut stream = connect(&settings, proxy.address, alpn).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), alpn.first().copied());
        let answer = get(&mut stream, "").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("nobody"), "{answer}");
        assert_eq!(proxy.record()["client"], "anonymous");
    }

    let stream = connect(&settings, proxy.address, &[HTTP_2]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(HTTP_2));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    for _ in 0..3 {
        let request = Request::get("https://127.0.0.1/v1/models");
        let request =
            request.body(Empty::<Bytes>::new().map_err(|never: Infallible| match never {})).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "nobody");
        assert_eq!(proxy.record()["status"], 200);
    }
    drop(sender);
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn client_without_tls_gets_no_response_and_leaves_no_record() {
    let folder = Folder::new();
    let (proxy, _upstream) = proxy(&folder, "", "").await;
    let answer = get(&mut TcpStream::connect(proxy.address).await.unwrap(), "").await;
    assert!(!answer.contains("HTTP/1.1"), "{answer:?}");
    let mut stream = connect(&folder.client(None), proxy.address, &[HTTP_1_1]).await.unwrap();
    assert!(get(&mut stream, "").await.starts_with("HTTP/1.1 200"));
    assert_eq!(proxy.record()["status"], 200, "the first record is that of the TLS client");
}

#[tokio::test]
async fn required_certificate_names_the_client_and_replaces_a_key() {
    let folder = Folder::new();
    let (proxy, _upstream) = proxy(&folder, &folder.ca_line("client_ca"), CLIENTS).await;
    let search = folder.client(Some(&folder.ca.issue("team-search", &[])));
    for (headers, client) in [
        ("", "team-search"),
        ("authorization: Bearer sk-dummy\r\n", "team-search"),
        ("authorization: Bearer sg-key\r\n", "keyed"),
    ] {
        let mut stream = connect(&search, proxy.address, &[HTTP_1_1]).await.unwrap();
        let answer = get(&mut stream, headers).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(proxy.record()["client"], client, "{headers}");
    }
    let stranger = Authority::new("stranger").issue("mallory", &[]);
    for refused in [folder.client(None), folder.client(Some(&stranger))] {
        // TLS 1.3 tells a client only after its own handshake is done.
        if let Ok(mut stream) = connect(&refused, proxy.address, &[HTTP_1_1]).await {
            assert_eq!(get(&mut stream, "authorization: Bearer sg-key\r\n").await, "");
        }
    }
}

#[tokio::test]
async fn where_a_certificate_is_optional_who_has_none_needs_a_key() {
    let folder = Folder::new();
    let lines = folder.ca_line("client_ca") + "client_certificates = \"optional\"\n";
    let (proxy, _upstream) = proxy(&folder, &lines, CLIENTS).await;
    let search = folder.ca.issue("", &["search.internal"]);
    for (pair, headers, status, client) in [
        (Some(&search), "", 200, "search.internal"),
        (None, "", 401, "anonymous"),
        (None, "authorization: Bearer sk-dummy\r\n", 401, "anonymous"),
        (None, "authorization: Bearer sg-key\r\n", 200, "keyed"),
    ] {
        let mut stream = connect(&folder.client(pair), proxy.address, &[HTTP_1_1]).await.unwrap();
        let answer = get(&mut stream, headers).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        let record = proxy.record();
        assert_eq!((&record["client"], &record["status"]), (&client.into(), &status.into()), "{headers}");
    }
}

#[tokio::test]
async fn unfinished_handshake_is_cut_at_the_header_timeout() {
    let folder = Folder::new();
    let upstream = Upstream::run(&folder, &folder.ca.issue("up", &["127.0.0.1"]), None).await;
    let lines = "header_timeout = \"100ms\"\nkeep_alive_timeout = \"1h\"";
    let proxy = Proxy::run_with(lines, &folder.lines("server"), upstream.address, &folder.ca_line("ca"), "");
    // The first bytes of a ClientHello, and nothing more; then nothing at all.
    for begun in [&[0x16, 3, 1, 2, 0, 1][..], &[]] {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(begun).await.unwrap();
        assert_eq!(read_until(&mut stream, "never").await, "", "the proxy closes it");
    }
}

/// The end of TLS (`close_notify`) is a proper end to clients that read to the end of the
/// connection.
#[tokio::test]
async fn cut_stream_has_no_proper_end_under_tls() {
    let folder = Folder::new();
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::of(&format!(
        "[server.tls]\n{}[upstreams.up]\nprovider = \"other\"\nurl = \"http://{}/v1\"\napi_key = \"none\"\n\
         default_model = \"m\"\n",
        folder.lines("server"),
        upstream.local_addr().unwrap()
    ));
    let breaks_off = async {
        loop {
            let (mut stream, _) = upstream.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            stream.write_all(format!("{head}9\r\ndata: 1\n\n\r\n").as_bytes()).await.unwrap();
        }
    };
    let clients = async {
        for version in ["1.0", "1.1"] {
            let mut stream = connect(&folder.client(None), proxy.address, &[HTTP_1_1]).await.unwrap();
            let request = format!("GET /v1/models HTTP/{version}\r\nhost: localhost\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let ended = stream.read_to_end(&mut answer).await;
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.contains("data: 1\n\n") && answer.contains("upstream_truncated"), "{answer}");
            match version {
                "1.0" => assert!(ended.is_err(), "the connection has its proper end: {answer}"),
                _ => assert!(!answer.ends_with("0\r\n\r\n"), "{answer}"),
            }
            assert_eq!(proxy.record()["outcome"], "truncated");
        }
    };
    tokio::select! {
        () = breaks_off => {}
        () = clients => {}
    }
}
