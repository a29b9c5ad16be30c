//! Certificates that are swapped while streams run.

use std::time::{Duration, Instant};

use streamgauge::tls::ClientCertificates::Required;
use streamgauge::tls::HTTP_1_1;
use tokio::io::AsyncWriteExt as _;

use crate::support::*;

const STREAMS: usize = 200;

/// How soon a new connection must have the new certificates.
const LIMIT: Duration = Duration::from_secs(5);

#[tokio::test]
async fn two_swaps_under_200_streams_lose_none_and_new_connections_show_the_new_serial_on_both_sides() {
    let folder = Folder::new();
    let server = folder.ca.issue("up", &["127.0.0.1"]);
    let upstream = Upstream::run(&folder, &server, Some(Required)).await;
    let tls = folder.ca_line("ca") + &folder.lines("client");
    let proxy = Proxy::run(&folder.lines("server"), upstream.address, &tls, "");
    let settings = folder.client(None);

    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let mut stream = connect(&settings, proxy.address, &[HTTP_1_1]).await.unwrap();
        stream.write_all(b"GET /v1/slow HTTP/1.1\r\nhost: p\r\nconnection: close\r\n\r\n").await.unwrap();
        stream.flush().await.unwrap();
        let begun = read_until(&mut stream, "the-proxy 01").await;
        assert!(begun.starts_with("HTTP/1.1 200"), "{begun}");
        streams.push(stream);
    }

    for number in [2, 3] {
        let names = ["127.0.0.1", "localhost"];
        folder.write("server", &folder.ca.issue_numbered(number, "proxy", &names));
        folder.write("client", &folder.ca.issue_numbered(number, "the-proxy", &[]));
        let swapped = Instant::now();
        let wanted = (format!("{number:02}"), format!("the-proxy {number:02}"));
        loop {
            let mut stream = connect(&settings, proxy.address, &[HTTP_1_1]).await.unwrap();
            let shown = serial(&stream.get_ref().1.peer_certificates().unwrap()[0]);
            // A slow answer keeps its connection, so that each of these needs a new one to the upstream.
            stream.write_all(b"GET /v1/slow HTTP/1.1\r\nhost: p\r\nconnection: close\r\n\r\n").await.unwrap();
            stream.flush().await.unwrap();
            read_until(&mut stream, "the-proxy ").await;
            let presented = format!("the-proxy {}", read_until(&mut stream, "\r\n").await.trim_end());
            if (shown, presented) == wanted {
                break;
            }
            assert!(swapped.elapsed() < LIMIT, "swap {number} is not seen");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    upstream.release();
    for (number, stream) in streams.iter_mut().enumerate() {
        let rest = read_until(stream, "0\r\n\r\n").await;
        assert!(rest.contains(REST) && rest.ends_with("0\r\n\r\n"), "stream {number} was lost: {rest:?}");
    }
}
