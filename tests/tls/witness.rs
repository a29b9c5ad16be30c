//! An upstream that reports the client's identity, and the proxy in front of it.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::unfold;
use http::Response;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use rustls::ServerConfig;
use streamgauge::tls::{ClientCertificates, HTTP_1_1};
use tokio::sync::watch;

use crate::harness::certificates::Pair;
use crate::harness::listen::Listening;
use crate::harness::proxy::{Builder, proxy};
use crate::harness::service::{ServiceBody, service};
use crate::harness::tls::{Folder, server_config};

/// Each of its responses is [`Peer::name_and_serial`](crate::harness::listen::Peer). A response to
/// a path with `slow` in it continues with a number each [`TICK`], from 1, until
/// [`Witness::release`] ends it with [`REST`].
pub struct Witness {
    pub address: SocketAddr,
    server: Listening,
    release: watch::Sender<bool>,
}

/// The end of slow responses.
pub const REST: &str = "and the rest";

/// The interval of slow responses.
const TICK: Duration = Duration::from_millis(200);

/// The value after the last number.
const ENDED: u32 = u32::MAX;

impl Witness {
    /// Starts it with the certificate, over HTTP/1.1; `asks` requests certificates that the
    /// directory's authority signed.
    pub fn run(folder: &Folder, pair: &Pair, asks: Option<ClientCertificates>) -> Self {
        let ca = asks.map(|asks| (fs::read_to_string(folder.path("ca.crt")).unwrap(), asks));
        Self::start(server_config(pair, ca, &[HTTP_1_1]))
    }

    pub fn start(config: Arc<ServerConfig>) -> Self {
        let (release, released) = watch::channel(false);
        let server = service().tls(config).run(move |request, peer| {
            let name = peer.name_and_serial();
            if request.uri.path().contains("slow") { slow(name, released.clone()) } else { whole(name) }
        });
        Self { address: server.address, server, release }
    }

    /// Uses another configuration for new connections.
    pub fn change(&self, config: Arc<ServerConfig>) {
        self.server.change_tls(config);
    }

    /// Lets slow responses end.
    pub fn release(&self) {
        self.release.send_replace(true);
    }
}

/// A response with that body.
pub fn whole(body: String) -> Response<ServiceBody> {
    Response::new(Full::new(body.into()).boxed_unsync())
}

fn slow(name: String, released: watch::Receiver<bool>) -> Response<ServiceBody> {
    let frames = unfold((0, released), move |(number, mut released)| {
        let name = name.clone();
        async move {
            if number == ENDED {
                return None;
            }
            if number == 0 {
                return Some((Ok(Frame::data(format!("{name}\n").into())), (1, released)));
            }
            // A closed sender means that the test is over.
            let ended = tokio::time::timeout(TICK, released.wait_for(|released| *released)).await.is_ok();
            let (text, next) =
                if ended { (REST.to_owned(), ENDED) } else { (format!("{number}\n"), number + 1) };
            Some((Ok(Frame::data(text.into())), (next, released)))
        }
    });
    Response::new(StreamBody::new(frames).boxed_unsync())
}

/// A proxy of two workers, which share their TLS configuration.
pub fn two_workers() -> Builder {
    proxy().server("workers = 2")
}
