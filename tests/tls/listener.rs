//! The clients' side: protocols, certificates, and records.

use std::convert::Infallible;
use std::io;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use streamgauge::tls::{ClientSettings, HTTP_1_1, HTTP_2};

use crate::harness::certificates::Authority;
use crate::harness::proxy::Proxy;
use crate::harness::tls::{Folder, connect};
use crate::harness::{Client, EVENTS_HEAD, chunk, upstream};
use crate::witness::{Witness, two_workers};

const PATH: &str = "/v1/models";

const CLIENTS: &str = "[clients.keyed]\nkey = { value = \"sg-key\" }\n";

fn proxy(folder: &Folder, lines: &str, more: &str) -> (Proxy, Witness) {
    let upstream = Witness::run(folder, &folder.ca.issue("up", &["127.0.0.1"]), None);
    let builder = two_workers().tls(&(folder.lines("server") + lines));
    (builder.https(upstream.address, &folder.ca_line("ca")).tables(more).run(), upstream)
}

fn http1(settings: &ClientSettings, proxy: &Proxy) -> io::Result<Client> {
    Client::over_tls(settings, proxy.address, &[HTTP_1_1])
}

#[tokio::test]
async fn clients_speak_http_1_1_with_and_without_alpn_and_http_2() {
    let folder = Folder::new();
    let (proxy, _upstream) = proxy(&folder, "", "");
    let settings = folder.client(None);
    for alpn in [&[HTTP_1_1][..], &[]] {
        let mut client = Client::over_tls(&settings, proxy.address, alpn).unwrap();
        assert_eq!(client.protocol(), alpn.first().copied());
        let response = client.last_get(PATH, "");
        assert!(response.starts_with("HTTP/1.1 200") && response.ends_with("nobody"), "{response}");
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
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "nobody");
        assert_eq!(proxy.record()["status"], 200);
    }
    drop(sender);
    connection.await.unwrap().unwrap();
}

#[test]
fn client_without_tls_gets_no_response_and_leaves_no_record() {
    let folder = Folder::new();
    let (proxy, _upstream) = proxy(&folder, "", "");
    let response = proxy.client().last_get(PATH, "");
    assert!(!response.contains("HTTP/1.1"), "{response:?}");
    let mut client = http1(&folder.client(None), &proxy).unwrap();
    assert!(client.last_get(PATH, "").starts_with("HTTP/1.1 200"));
    assert_eq!(proxy.record()["status"], 200, "the first record is that of the TLS client");
}

#[test]
fn required_certificate_names_the_client_and_replaces_a_key() {
    let folder = Folder::new();
    let (proxy, _upstream) = proxy(&folder, &folder.ca_line("client_ca"), CLIENTS);
    let search = folder.client(Some(&folder.ca.issue("team-search", &[])));
    for (headers, client) in [
        ("", "team-search"),
        ("authorization: Bearer sk-dummy\r\n", "team-search"),
        ("authorization: Bearer sg-key\r\n", "keyed"),
    ] {
        let response = http1(&search, &proxy).unwrap().last_get(PATH, headers);
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        assert_eq!(proxy.record()["client"], client, "{headers}");
    }
    let stranger = Authority::new("stranger").issue("mallory", &[]);
    for refused in [folder.client(None), folder.client(Some(&stranger))] {
        // TLS 1.3 notifies a client only after its own handshake is complete.
        if let Ok(mut client) = http1(&refused, &proxy) {
            assert_eq!(client.last_get(PATH, "authorization: Bearer sg-key\r\n"), "");
        }
    }
}

#[test]
fn client_without_an_optional_certificate_needs_a_key() {
    let folder = Folder::new();
    let lines = folder.ca_line("client_ca") + "client_certificates = \"optional\"\n";
    let (proxy, _upstream) = proxy(&folder, &lines, CLIENTS);
    let search = folder.ca.issue("", &["search.internal"]);
    for (pair, headers, status, client) in [
        (Some(&search), "", 200, "search.internal"),
        (None, "", 401, "anonymous"),
        (None, "authorization: Bearer sk-dummy\r\n", 401, "anonymous"),
        (None, "authorization: Bearer sg-key\r\n", 200, "keyed"),
    ] {
        let response = http1(&folder.client(pair), &proxy).unwrap().last_get(PATH, headers);
        assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{response}");
        let record = proxy.record();
        assert_eq!((&record["client"], &record["status"]), (&client.into(), &status.into()), "{headers}");
    }
}

#[test]
fn unfinished_handshake_is_cut_at_the_header_timeout() {
    let folder = Folder::new();
    let upstream = Witness::run(&folder, &folder.ca.issue("up", &["127.0.0.1"]), None);
    let lines = "header_timeout = \"100ms\"\nkeep_alive_timeout = \"1h\"";
    let builder = two_workers().server(lines).tls(&folder.lines("server"));
    let proxy = builder.https(upstream.address, &folder.ca_line("ca")).run();
    // The first bytes of a ClientHello, and nothing more; then nothing at all.
    for begun in [&[0x16, 3, 1, 2, 0, 1][..], &[]] {
        let mut client = proxy.client();
        assert_eq!(client.send(begun).rest_and_end().0, b"", "the proxy closes it");
    }
}

/// The end of TLS (`close_notify`) is a proper end for clients that read to the end of the
/// connection.
#[test]
fn cut_stream_has_no_proper_end_under_tls() {
    let folder = Folder::new();
    let upstream = upstream(|connection| {
        connection.request();
        connection.send([EVENTS_HEAD.as_bytes(), &chunk(b"data: 1\n\n")].concat());
    });
    let proxy = two_workers().tls(&folder.lines("server")).upstream(&upstream).run();
    for version in ["1.0", "1.1"] {
        let mut client = http1(&folder.client(None), &proxy).unwrap();
        let request = format!("GET /v1/models HTTP/{version}\r\nhost: localhost\r\n\r\n");
        let (response, ended) = client.send(request).rest_and_end();
        let response = String::from_utf8(response).unwrap();
        assert!(response.contains("data: 1\n\n") && response.contains("upstream_truncated"), "{response}");
        match version {
            "1.0" => assert!(ended.is_err(), "the connection ends properly: {response}"),
            _ => assert!(!response.ends_with("0\r\n\r\n"), "{response}"),
        }
        assert_eq!(proxy.record()["outcome"], "truncated");
    }
}
