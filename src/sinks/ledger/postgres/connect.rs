//! Connections, and timeouts for everything done on them.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config};

use super::Failure;
use super::tls::Tls;
use crate::config::Postgres;
use crate::upstream::resolver::Resolver;

/// The timeout for connecting: names, TCP, TLS, the password, and the first look at the tables.
pub(super) const CONNECT: Duration = Duration::from_secs(10);

/// The timeout for a statement. A batch takes milliseconds; after this time the server or the
/// network is stuck.
pub(super) const STATEMENT: Duration = Duration::from_secs(30);

/// A connection. Dropping it closes it immediately.
pub(super) struct Connection {
    pub(super) client: Client,
    tls: Tls,
    /// The task that drives the connection.
    task: JoinHandle<()>,
}

impl Connection {
    /// Connects with the current contents of the certificates' files.
    pub(super) async fn open(settings: &Postgres) -> Result<Self, Failure> {
        let tls = Tls(Arc::new(settings.tls.config(&[]).map_err(Failure::Tls)?));
        within(CONNECT, async {
            let mut connected = Err(Failure::Gone);
            for server in by_address(&settings.server).await? {
                connected = server.connect(tls.clone()).await.map_err(Failure::from);
                if connected.is_ok() {
                    break;
                }
            }
            let (client, connection) = connected?;
            let task = tokio::spawn(async move {
                // Requests on the client fail when it ends.
                let _ = connection.await;
            });
            Ok(Self { client, tls, task })
        })
        .await
    }

    /// Cancels the server's work for this connection, through a second connection.
    pub(super) async fn cancel(&self) -> Result<(), tokio_postgres::Error> {
        self.client.cancel_token().cancel_query(self.tls.clone()).await
    }

    /// Waits until the connection is closed.
    pub(super) async fn gone(&mut self) {
        let _ = (&mut self.task).await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The server's configuration once for each address of its name, so that tokio-postgres, whose
/// lookups cannot be shared, makes none. A list of servers, a socket and a given address stay
/// unchanged.
async fn by_address(server: &Config) -> Result<Vec<Config>, Failure> {
    let ([Host::Tcp(name)], []) = (server.get_hosts(), server.get_hostaddrs()) else {
        return Ok(vec![server.clone()]);
    };
    let addresses = Resolver::system().lookup(name, 0).await.map_err(Failure::Lookup)?;
    Ok(at_each(server, &addresses))
}

/// The server at each address. Several addresses share the time equally, so that one that drops
/// SYNs leaves time for the next.
fn at_each(server: &Config, addresses: &[SocketAddr]) -> Vec<Config> {
    let parts = u32::try_from(addresses.len()).unwrap_or(u32::MAX).saturating_add(1);
    let part = CONNECT / parts;
    let part = server.get_connect_timeout().map_or(part, |own| part.min(*own));
    let at = |address: &SocketAddr| {
        let mut server = server.clone();
        server.hostaddr(address.ip());
        if addresses.len() > 1 {
            server.connect_timeout(part);
        }
        server
    };
    addresses.iter().map(at).collect()
}

/// Runs a future with a timeout.
pub(super) async fn within<T>(
    time: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    timeout(time, work).await.unwrap_or(Err(Failure::Silence(time)))
}

/// Runs a future on the current thread. Work that remains, such as a lookup that the system does
/// not end, blocks nothing.
pub(super) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = runtime()?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(done)
}

/// A runtime for the current thread alone. It must be shut down in the background, as in
/// [`block_on`].
pub(super) fn runtime() -> Result<Runtime, Failure> {
    Builder::new_current_thread().enable_all().build().map_err(Failure::System)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn several_addresses_share_the_time_for_a_connection() {
        let [one, other] = ["[fd00::1]:0", "10.0.0.1:0"].map(|address| address.parse().unwrap());
        for (url, addresses, expected) in [
            ("postgres://u@db.internal/x", &[one][..], None),
            ("postgres://u@db.internal/x", &[one, other], Some(CONNECT / 3)),
            ("postgres://u@db.internal/x?connect_timeout=1", &[one, other], Some(Duration::from_secs(1))),
        ] {
            let server: Config = url.parse().unwrap();
            let each = at_each(&server, addresses);
            let found: Vec<_> = each.iter().flat_map(|server| server.get_hostaddrs()).copied().collect();
            assert_eq!(found, addresses.iter().map(SocketAddr::ip).collect::<Vec<_>>());
            assert!(each.iter().all(|server| server.get_connect_timeout().copied() == expected), "{url}");
        }
    }

    #[test]
    fn endless_lookup_blocks_nothing() {
        let (end, ended) = mpsc::channel::<()>();
        let look_up = async { drop(tokio::task::spawn_blocking(move || ended.recv_timeout(CONNECT))) };
        block_on(look_up).unwrap();
        end.send(()).expect("it was waited for");
    }
}
