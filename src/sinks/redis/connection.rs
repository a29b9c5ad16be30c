//! A connection to one server.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::{Cmd, ProtocolVersion, RedisConnectionInfo, RedisResult, Value};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::trouble::Trouble;
use crate::config::RedisAddress;
use crate::support::secret::Secret;
use crate::upstream::resolver::Resolver;

/// The timeout of a connection: the lookup of its name, TCP, TLS and the password.
const CONNECT: Duration = Duration::from_secs(1);

/// The timeout of a command.
pub(super) const COMMAND: Duration = Duration::from_millis(50);

/// The commands with which a connection begins.
#[derive(Clone, Debug)]
pub(super) struct Login {
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) database: i64,
}

/// A connection. Dropping it closes it immediately.
#[derive(Debug)]
pub(super) struct Connection {
    commands: MultiplexedConnection,
    /// The task that drives the connection.
    task: JoinHandle<()>,
}

impl Connection {
    /// # Errors
    /// Fails if the server refuses the connection or the login, or does not respond in time.
    pub(super) async fn open(
        address: &RedisAddress,
        login: &Login,
        tls: Option<&Arc<ClientConfig>>,
    ) -> Result<Self, Trouble> {
        let opened = timeout(CONNECT, Self::connect(address, login, tls)).await;
        opened.unwrap_or(Err(Trouble::Silence(CONNECT)))
    }

    async fn connect(
        address: &RedisAddress,
        login: &Login,
        tls: Option<&Arc<ClientConfig>>,
    ) -> Result<Self, Trouble> {
        match (address, tls) {
            (RedisAddress::Unix(path), _) => Self::log_in(UnixStream::connect(path).await?, login).await,
            (RedisAddress::Tcp(host, port), None) => Self::log_in(tcp(host, *port).await?, login).await,
            (RedisAddress::Tcp(host, port), Some(tls)) => {
                let name = ServerName::try_from(host.clone()).map_err(std::io::Error::other)?;
                let stream = tcp(host, *port).await?;
                Self::log_in(TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?, login).await
            }
        }
    }

    async fn log_in<S>(stream: S, login: &Login) -> Result<Self, Trouble>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let Login { user, password, database } = login.clone();
        let password = password.map(|password| password.expose().to_owned());
        let info =
            RedisConnectionInfo { db: database, username: user, password, protocol: ProtocolVersion::RESP2 };
        let (commands, driver) = MultiplexedConnection::new(&info, stream).await?;
        Ok(Self { commands, task: spawn_local(driver) })
    }

    /// Returns true if the connection is not known to be broken.
    pub(super) fn is_open(&self) -> bool {
        !self.task.is_finished()
    }

    /// Sends a command, and waits for its response. Commands of clones are sent at the same time.
    ///
    /// # Errors
    /// Fails if the server refuses it, or does not respond in time.
    pub(super) fn send(&self, command: Cmd) -> impl Future<Output = Result<Value, Trouble>> + use<> {
        let mut commands = self.commands.clone();
        async move {
            let sent: Result<RedisResult<Value>, _> =
                timeout(COMMAND, commands.req_packed_command(&command)).await;
            let response = sent.map_err(|_| Trouble::Silence(COMMAND))?;
            response.and_then(Value::extract_error).map_err(Trouble::from)
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Connects to the first address that accepts.
async fn tcp(host: &str, port: u16) -> std::io::Result<TcpStream> {
    let addresses = Resolver::system().lookup(host, port).await?;
    let stream = TcpStream::connect(&addresses[..]).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
