//! Certificates that are replaced while streams run.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use streamgauge::tls::ClientCertificates::Required;
use streamgauge::tls::{ClientSettings, HTTP_1_1, HTTP_2, Source};
use tokio::task::JoinHandle;

use crate::harness::certificates::Authority;
use crate::harness::proxy::Proxy;
use crate::harness::tls::{Folder, connect, serial, server_config};
use crate::harness::{Client, PATIENCE};
use crate::witness::{REST, Witness, two_workers};

const STREAMS: usize = 200;

/// The time within which a new connection must have the new certificates.
const LIMIT: Duration = Duration::from_secs(5);

/// The authority is replaced too, each time.
const GENERATIONS: u8 = 3;

/// The files of a directory of certificates in one generation, by name. The authority before is
/// still trusted, as in any rotation whose peers do not change at the same instant.
fn files(authorities: &[Authority], number: u8) -> Vec<(&'static str, String)> {
    let (index, ours) = (usize::from(number) - 1, &authorities[usize::from(number) - 1]);
    let server = ours.issue_numbered(number, "proxy", &["127.0.0.1"]);
    let client = ours.issue_numbered(number, "the-proxy", &[]);
    let trusted = authorities[index.saturating_sub(1)..=index].iter().map(Authority::pem).collect();
    vec![
        ("ca.crt", trusted),
        ("server.crt", server.certificate),
        ("server.key", server.key),
        ("client.crt", client.certificate),
        ("client.key", client.key),
    ]
}

/// A secret mounted by Kubernetes: the names lead through `..data` into a directory of their
/// generation, and `..data` is replaced.
fn mount(folder: &Folder, generation: u8, files: &[(&str, String)]) {
    let here = format!("..{generation}");
    fs::create_dir(folder.path(&here)).unwrap();
    for (name, text) in files {
        fs::write(folder.path(&here).join(name), text).unwrap();
    }
    let link = |to: &str, name: &str| {
        symlink(to, folder.path("new")).unwrap();
        fs::rename(folder.path("new"), folder.path(name)).unwrap();
    };
    link(&here, "..data");
    for (name, _) in files {
        if !folder.path(name).is_symlink() {
            link(&format!("..data/{name}"), name);
        }
    }
}

/// The way of certbot and similar programs: one file after the other, each by a rename.
fn rename(folder: &Folder, files: &[(&str, String)]) {
    for (name, text) in files {
        fs::write(folder.path("new"), text).unwrap();
        fs::rename(folder.path("new"), folder.path(name)).unwrap();
    }
}

/// A kept connection to the proxy, and the serial number of its certificate.
async fn client(settings: &ClientSettings, proxy: &Proxy) -> (SendRequest<Empty<Bytes>>, String) {
    let stream = connect(settings, proxy.address, &[HTTP_1_1]).await.unwrap();
    let shown = serial(&stream.get_ref().1.peer_certificates().unwrap()[0]);
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    (sender, shown)
}

async fn get(sender: &mut SendRequest<Empty<Bytes>>, path: &str) -> http::Response<hyper::body::Incoming> {
    let request = Request::get(path).header("host", "localhost").body(Empty::new()).unwrap();
    let response =
        tokio::time::timeout(PATIENCE, sender.send_request(request)).await.expect("a response in time");
    let response = response.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    response
}

/// The client of this request at the upstream.
async fn who(sender: &mut SendRequest<Empty<Bytes>>) -> String {
    let body = get(sender, "/v1/models").await.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// A running stream, and at its end all of its bytes.
async fn stream(settings: &ClientSettings, proxy: &Proxy) -> JoinHandle<Result<Bytes, hyper::Error>> {
    let (mut sender, _) = client(settings, proxy).await;
    let mut body = get(&mut sender, "/v1/slow").await.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "the-proxy 01\n");
    tokio::spawn(async move {
        let rest = body.collect().await?.to_bytes();
        drop(sender);
        Ok(rest)
    })
}

/// Every number in its turn, and the end.
fn assert_whole(body: &[u8]) {
    let body = std::str::from_utf8(body).unwrap();
    let ticks = body.lines().count() - 1;
    let mut expected = String::new();
    (1..=ticks).for_each(|tick| writeln!(expected, "{tick}").unwrap());
    assert_eq!(body, expected + REST);
    assert!(ticks >= 5, "only {ticks} events in a stream: it did not run");
}

#[test]
fn kept_connection_of_a_replaced_authority_gets_401_and_ends() {
    let folder = Folder::new();
    let upstream = Witness::run(&folder, &folder.ca.issue("up", &["127.0.0.1"]), None);
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let authorities = folder.path("clients.crt");
    fs::write(&authorities, old.pem()).unwrap();
    let lines = format!("{}client_ca = {{ file = {authorities:?} }}\n", folder.lines("server"));
    let proxy = two_workers().tls(&lines).https(upstream.address, &folder.ca_line("ca")).run();
    let connect = |name: &str, authority: &Authority| {
        let settings = folder.client(Some(&authority.issue(name, &[])));
        Client::over_tls(&settings, proxy.address, &[HTTP_1_1]).unwrap()
    };
    let mut kept = connect("ada", &old);
    for trusted in [old.pem(), format!("{}{}", old.pem(), new.pem())] {
        fs::write(&authorities, trusted).unwrap();
        proxy.look();
        assert_eq!(kept.get("/v1/models").response().status(), 200);
        assert_eq!(proxy.record()["client"], "ada");
    }
    fs::write(&authorities, new.pem()).unwrap();
    proxy.look();
    let response = kept.get("/v1/models").response();
    assert_eq!((response.status(), response.header("connection")), (401, Some("close")));
    assert!(response.text().contains("certificate_not_trusted"), "{}", response.text());
    assert_eq!(connect("bob", &new).get("/v1/models").response().status(), 200);
}

/// Client certificate, authority and the listener's certificate are replaced twice under running
/// streams: none is lost, no request fails, and new connections have the new certificates, also to
/// clients that were there before.
async fn two_swaps(upstreams_protocols: &[&[u8]]) {
    let authorities: Vec<_> =
        (1..=GENERATIONS).map(|number| Authority::new(&format!("ours {number}"))).collect();
    let all: String = authorities.iter().map(Authority::pem).collect();
    let folder = Folder::new();
    mount(&folder, 1, &files(&authorities, 1));
    let up = |number: u8| {
        let pair = authorities[usize::from(number) - 1].issue("up", &["127.0.0.1"]);
        server_config(&pair, Some((all.clone(), Required)), upstreams_protocols)
    };
    let upstream = Witness::start(up(1));
    let tls = folder.ca_line("ca") + &folder.lines("client");
    let proxy = two_workers().tls(&folder.lines("server")).https(upstream.address, &tls).run();
    let settings =
        ClientSettings { ca: vec![Source::text("the test", &all).unwrap()], ..folder.client(None) };

    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(stream(&settings, &proxy).await);
    }
    let mut kept = Vec::new();
    for _ in 0..4 {
        let (mut sender, shown) = client(&settings, &proxy).await;
        assert_eq!((shown.as_str(), who(&mut sender).await.as_str()), ("01", "the-proxy 01"));
        kept.push(sender);
    }

    for number in 2..=GENERATIONS {
        let files = files(&authorities, number);
        if number == 2 {
            mount(&folder, number, &files)
        } else {
            rename(&folder, &files)
        }
        let swapped = Instant::now();
        loop {
            let mut seen = vec![client(&settings, &proxy).await.1];
            for sender in &mut kept {
                seen.push(who(sender).await);
            }
            let presented = format!("the-proxy {number:02}");
            if seen[0] == format!("{number:02}") && seen[1..].iter().all(|who| *who == presented) {
                break;
            }
            assert!(swapped.elapsed() < LIMIT, "swap {number} is not seen: {seen:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // From now on the upstream has a certificate that only the new authority has signed.
        upstream.change(up(number));
    }

    upstream.release();
    for (number, stream) in streams.into_iter().enumerate() {
        let body = stream.await.unwrap();
        assert_whole(&body.unwrap_or_else(|error| panic!("stream {number} was lost: {error}")));
    }
    drop(kept);
    let mut records: Vec<_> = (0..STREAMS).map(|_| proxy.record()).collect();
    records.retain(|record| record["outcome"] != "complete");
    assert!(records.is_empty(), "{records:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
async fn two_swaps_under_200_http1_streams_lose_none_and_take_effect() {
    two_swaps(&[HTTP_1_1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
async fn two_swaps_under_200_http2_streams_lose_none_and_take_effect() {
    two_swaps(&[HTTP_2]).await;
}
