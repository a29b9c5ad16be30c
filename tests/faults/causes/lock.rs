//! A lock on the ledger's file.

use rusqlite::Connection;

use super::Cause;
use crate::scene::Scene;

#[derive(Default)]
pub struct SqliteLocked(Option<Connection>);

impl Cause for SqliteLocked {
    fn strike(&mut self, scene: &mut Scene) {
        let connection = Connection::open(scene.path("usage.db")).unwrap();
        connection.busy_timeout(crate::harness::PATIENCE).unwrap();
        connection.execute_batch("BEGIN EXCLUSIVE").unwrap();
        self.0 = Some(connection);
    }

    fn lift(&mut self, _: &mut Scene) {
        self.0 = None;
    }
}
