//! Peers that accept connections and never respond.

use super::Cause;
use crate::harness::{Connection, Upstream, upstream};
use crate::scene::Launch;

fn silent() -> Upstream {
    upstream(Connection::wait_for_close)
}

#[derive(Default)]
pub struct PostgresHung(Option<Upstream>);

impl Cause for PostgresHung {
    fn prepare(&mut self, launch: &mut Launch) {
        let peer = silent();
        launch.tables += &format!(
            "[ledger.postgres]\nurl = {{ value = \"postgres://user:password@{}/usage?sslmode=disable\" }}\n",
            peer.address
        );
        self.0 = Some(peer);
    }
}

#[derive(Default)]
pub struct CollectorHung(Option<Upstream>);

impl Cause for CollectorHung {
    fn prepare(&mut self, launch: &mut Launch) {
        let peer = silent();
        launch.tables +=
            &format!("[otlp]\nendpoint = \"http://{}\"\ntimeout = \"1s\"\ninterval = \"1s\"\n", peer.address);
        self.0 = Some(peer);
    }
}
