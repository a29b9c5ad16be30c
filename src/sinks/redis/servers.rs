//! The server that has a key: the only one, the primary that sentinels name, or a node of a cluster.
//!
//! A cluster is followed rather than known: a node that does not have a key names the one that has
//! (`MOVED`), which is remembered for the key's slot.

use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use redis::{Cmd, ErrorKind, FromRedisValue as _, Value};
use rustls::ClientConfig;

use super::connection::{Connection, Login};
use super::trouble::Trouble;
use crate::config::{Redis, RedisAddress, Sentinel};

/// The longest way to the node that has a key: a failover adds one step.
const MAX_STEPS: usize = 4;

/// The largest number of nodes that are remembered.
const MAX_NODES: usize = 1_000;

/// The connections to all servers in use.
pub(super) struct Servers {
    login: Login,
    tls: Option<Arc<ClientConfig>>,
    /// The server that is asked about a key for the first time.
    first: RedisAddress,
    connections: HashMap<RedisAddress, Rc<Connection>>,
    /// The nodes of slots that others have. Bounded by [`SLOTS`].
    moved: HashMap<u16, RedisAddress>,
}

impl Servers {
    /// Connects to the first server that can be used.
    ///
    /// # Errors
    /// Fails with the last reason if there is none.
    pub(super) async fn connect(settings: &Redis) -> Result<Self, Trouble> {
        let tls = settings.tls.as_ref().map(|tls| tls.config(&[]).map(Arc::new));
        let tls = tls.transpose().map_err(Trouble::Tls)?;
        let (user, password) = (settings.user.clone(), settings.password.clone());
        let login = Login { user, password, database: settings.database };
        let mut servers = Self {
            login,
            tls,
            first: settings.nodes[0].clone(),
            connections: HashMap::new(),
            moved: HashMap::new(),
        };
        let mut failed = None;
        for node in &settings.nodes {
            let found = match &settings.sentinel {
                Some(sentinel) => servers.primary(node, sentinel).await,
                None => servers.connection(node).await.map(|_| node.clone()),
            };
            match found {
                Ok(address) => {
                    servers.first = address;
                    return Ok(servers);
                }
                Err(trouble) => failed = Some(trouble),
            }
        }
        Err(failed.unwrap_or(Trouble::Astray))
    }

    /// The primary that a sentinel names, to which it connects.
    async fn primary(&mut self, sentinel: &RedisAddress, of: &Sentinel) -> Result<RedisAddress, Trouble> {
        let login = Login { user: None, password: of.password.clone(), database: 0 };
        let connection = Connection::open(sentinel, &login, self.tls.as_ref()).await?;
        let mut ask = redis::cmd("SENTINEL");
        ask.arg("GET-MASTER-ADDR-BY-NAME").arg(&of.service);
        let named = connection.send(ask).await?;
        let named = Option::<(String, u16)>::from_redis_value(&named).ok().flatten();
        let (host, port) = named.ok_or_else(|| Trouble::NoPrimary(of.service.clone()))?;
        let address = RedisAddress::Tcp(host, port);
        let role = self.connection(&address).await?.send(redis::cmd("ROLE")).await?;
        // A sentinel may name the former primary for a moment.
        let is_primary = matches!(&role, Value::Array(parts) if parts.first().is_some_and(is_primary));
        if is_primary { Ok(address) } else { Err(Trouble::NotPrimary) }
    }

    /// The connection to a server, which is opened if there was none. One that is broken stays so:
    /// the server is away until all begins again.
    async fn connection(&mut self, address: &RedisAddress) -> Result<Rc<Connection>, Trouble> {
        if let Some(connection) = self.connections.get(address) {
            return match connection.is_open() {
                true => Ok(Rc::clone(connection)),
                false => Err(io::Error::from(io::ErrorKind::ConnectionReset).into()),
            };
        }
        let connection = Rc::new(Connection::open(address, &self.login, self.tls.as_ref()).await?);
        if self.connections.len() >= MAX_NODES {
            self.connections.clear();
        }
        self.connections.insert(address.clone(), Rc::clone(&connection));
        Ok(connection)
    }

    /// Sends a command about `key`. Returns a future of its own, so that several are sent at the
    /// same time.
    ///
    /// # Errors
    /// Fails if no connection to the key's server can be opened.
    pub(super) async fn send(
        &mut self,
        key: &str,
        command: Cmd,
    ) -> Result<impl Future<Output = Result<Value, Trouble>> + use<>, Trouble> {
        let slot = slot(key);
        let address = self.moved.get(&slot).unwrap_or(&self.first).clone();
        match self.connection(&address).await {
            Ok(connection) => Ok(connection.send(command)),
            Err(trouble) => {
                // Another node takes its place.
                self.moved.remove(&slot);
                Err(trouble)
            }
        }
    }

    /// Follows a node's response that another node has `key`: sends `command` there.
    ///
    /// # Errors
    /// Fails with `trouble` if it names no other node, or if that does not respond.
    pub(super) async fn follow(
        &mut self,
        key: &str,
        command: &Cmd,
        mut trouble: Trouble,
    ) -> Result<Value, Trouble> {
        for _ in 0..MAX_STEPS {
            let (address, is_asking) = redirection(&trouble).ok_or(trouble)?;
            let connection = self.connection(&address).await?;
            if is_asking {
                // The key is on its way to that node.
                connection.send(redis::cmd("ASKING")).await?;
            } else {
                self.moved.insert(slot(key), address);
            }
            trouble = match connection.send(command.clone()).await {
                Ok(value) => return Ok(value),
                Err(trouble) => trouble,
            };
        }
        Err(Trouble::Astray)
    }

    /// Sends a command to the first server.
    ///
    /// # Errors
    /// Fails if it does not respond or refuses.
    pub(super) async fn ask(&mut self, command: Cmd) -> Result<Value, Trouble> {
        let first = self.first.clone();
        self.connection(&first).await?.send(command).await
    }
}

/// Returns true if a part of the response to `ROLE` is that of a primary.
fn is_primary(role: &Value) -> bool {
    String::from_redis_value(role).is_ok_and(|role| role == "master")
}

/// The slots of a cluster, each of which is at one node.
const SLOTS: u16 = 16_384;

/// The slot of a key, by the part in braces, which all periods of a limit have in common (Redis cluster
/// specification, "Hash tags").
fn slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    let part = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    // CRC-16/XMODEM.
    let crc = part.bytes().fold(0, |crc: u16, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % SLOTS
}

/// The node to which a response points, and whether only this time.
fn redirection(trouble: &Trouble) -> Option<(RedisAddress, bool)> {
    let Trouble::Server(error) = trouble else { return None };
    let (node, _) = error.redirect_node()?;
    let (host, port) = node.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((RedisAddress::Tcp(host.to_owned(), port.parse().ok()?), error.kind() == ErrorKind::Ask))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // By `CLUSTER KEYSLOT`.
        for (key, expected) in [
            ("123456789", 12_739),
            ("foo", 12_182),
            ("{foo}:1764547200", 12_182),
            ("a{}b", 13_694),
            ("{{foo}}", 13_308),
            ("", 0),
        ] {
            assert_eq!(slot(key), expected, "{key}");
        }
    }

    #[test]
    fn periods_of_a_limit_have_one_slot_and_all_keys_few() {
        assert_eq!(slot("{streamgauge:a}"), slot("{streamgauge:a}:1764547200"));
        let slots: std::collections::HashSet<_> = (0..200_000)
            .map(|user| slot(&format!("{{streamgauge:clients.a:requests:user={user}}}")))
            .collect();
        assert_eq!(slots.len(), usize::from(SLOTS));
    }
}
