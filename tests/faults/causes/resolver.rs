//! A name server that accepts queries and never responds, and requests for an upstream whose name
//! only it knows.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};

use super::{Cause, in_namespace};
use crate::harness::Client;
use crate::scene::{Launch, Scene};

/// A number above that of a runtime's threads for lookups. If each request looked the name up by
/// itself, all of them would be blocked.
const REQUESTS: usize = 600;

#[derive(Default)]
pub struct ResolverSilent {
    server: Option<UdpSocket>,
    clients: Vec<Client>,
}

impl Cause for ResolverSilent {
    fn prepare(&mut self, launch: &mut Launch) {
        // Each test has an address of its own: port 53 is the only one that resolv.conf can name.
        let [.., high, low] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, 53, high, low);
        self.server = Some(UdpSocket::bind((address, 53)).expect("port 53, which needs root"));
        let file = launch.folder.join("resolv.conf");
        fs::write(&file, format!("nameserver {address}\noptions timeout:5 attempts:2\n")).unwrap();
        launch.wrapper = in_namespace(&format!("mount --bind {} /etc/resolv.conf", file.display()));
        // Each request looks this name up.
        launch.host = "localhost";
        launch.tables += "[upstreams.up.pool]\nmax_idle = 0\n[upstreams.silent]\nprovider = \"other\"\nurl = \"http://silent.test/v1\"\napi_key = \"none\"\n\
                          default_model = \"m\"\n[upstreams.silent.timeouts]\nconnect = \"1s\"\n\
                          [[routes]]\nmodel = \"silent\"\nupstream = \"silent\"\n[[routes]]\nupstream = \"up\"\n";
    }

    fn strike(&mut self, scene: &mut Scene) {
        self.clients = (0..REQUESTS).map(|_| Client::connect(scene.proxy)).collect();
        for client in &mut self.clients {
            client.post("/v1/chat/completions", "{\"model\":\"silent\",\"messages\":[]}");
        }
    }

    fn settle(&mut self, scene: &mut Scene) {
        for mut client in self.clients.drain(..) {
            // A second signal cuts the requests that still wait.
            let Some(response) = client.next_response() else {
                scene.cut += 1;
                continue;
            };
            assert!([502, 504].contains(&response.status()), "{}", response.head);
            scene.served.push(response.header("x-streamgauge-id").unwrap().to_owned());
        }
    }
}
