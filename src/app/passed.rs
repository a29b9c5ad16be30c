//! Listening sockets that another process has opened for this one: the supervisor
//! (sd_listen_fds(3)), or the process whose place this one takes.
//!
//! The kernel keeps their queue of new connections while no process has them, so that a restart
//! refuses no client.

use std::env;
use std::io;
use std::os::fd::OwnedFd;

use listenfd::ListenFd;
use socket2::Socket;

use super::restart;
use crate::config::Settings;
use crate::support::ListenAddress;

/// The sockets for each server.
#[derive(Debug, Default)]
pub struct PassedSockets {
    pub(super) proxy: Passed,
    pub(super) admin: Passed,
}

/// The sockets for one server. Empty: the process opens its own.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// The configured address for which the process before this one opened them. `None`: a supervisor
    /// opened them, and their address replaces the configured one.
    pub(super) configured: Option<ListenAddress>,
    pub(super) sockets: Vec<Socket>,
}

/// The names of sockets, `FileDescriptorName=` of a systemd unit.
const PROXY: &str = "proxy";
const ADMIN: &str = "admin";

impl PassedSockets {
    /// Takes the sockets of systemd (`LISTEN_FDS`, `LISTEN_FDNAMES`). A single socket without a name
    /// is for clients. Must be called while the process has one thread, since it changes the
    /// environment.
    ///
    /// # Errors
    /// Fails with the socket that cannot be used, and what to write in the unit.
    pub fn from_supervisor() -> Result<Self, String> {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut passed = ListenFd::from_env();
        let mut sockets = Self::default();
        for at in 0..passed.len() {
            let name = names.split(':').nth(at).unwrap_or_default();
            let of = sockets.named(name, passed.len()).ok_or_else(|| {
                format!(
                    "LISTEN_FDNAMES: the socket {name:?} has no use here: write FileDescriptorName={PROXY} (for clients) or \
                     FileDescriptorName={ADMIN} in its socket unit, one unit for each"
                )
            })?;
            let tcp = passed.take_tcp_listener(at).map(|socket| socket.map(OwnedFd::from));
            let taken =
                tcp.or_else(|_| passed.take_unix_listener(at).map(|socket| socket.map(OwnedFd::from)));
            let taken = taken.map_err(|error| error.to_string());
            let socket = taken.and_then(|socket| usable(socket.ok_or("it was taken already")?.into()));
            of.sockets.push(socket.map_err(|reason| format!("LISTEN_FDS: the socket {name:?}: {reason}"))?);
        }
        Ok(sockets)
    }

    /// Drops sockets of an earlier process whose address is no longer the configured one.
    pub(super) fn keep_configured(&mut self, settings: &Settings) {
        self.proxy.keep_configured(Some(&settings.server.listen));
        self.admin.keep_configured(settings.admin.listen.as_ref());
    }

    fn named(&mut self, name: &str, count: usize) -> Option<&mut Passed> {
        match name {
            PROXY => Some(&mut self.proxy),
            ADMIN => Some(&mut self.admin),
            _ if count == 1 => Some(&mut self.proxy),
            _ => None,
        }
    }

    /// Replaces the addresses in the settings by those of the sockets, since the process listens
    /// there.
    ///
    /// # Errors
    /// Fails if other machines could use such an address without authentication, which the settings
    /// do not allow.
    pub(super) fn apply(&self, settings: &mut Settings) -> Result<(), String> {
        let addresses = self.addresses();
        addresses.apply(settings);
        match restart::open_address(settings) {
            Some((key, address)) if addresses != PassedAddresses::default() => Err(format!(
                "{key}: the socket that was passed listens on {address}, where any client of other machines could use it: \
                 set {key} to {address}, and add what `streamgauge check` then asks for"
            )),
            _ => Ok(()),
        }
    }

    /// The addresses that replace those of the configuration.
    pub(super) fn addresses(&self) -> PassedAddresses {
        PassedAddresses { proxy: self.proxy.address(), admin: self.admin.address() }
    }
}

impl Passed {
    /// Copies sockets.
    ///
    /// # Errors
    /// Fails if the process has no descriptor left.
    pub(super) fn copy<'a>(
        configured: Option<ListenAddress>,
        sockets: impl IntoIterator<Item = &'a Socket>,
    ) -> io::Result<Self> {
        let sockets = sockets.into_iter().map(Socket::try_clone).collect::<io::Result<_>>()?;
        Ok(Self { configured, sockets })
    }

    fn keep_configured(&mut self, wanted: Option<&ListenAddress>) {
        if self.configured.is_some() && self.configured.as_ref() != wanted {
            self.sockets.clear();
        }
    }

    /// The address that replaces the configured one: the one that most machines can reach.
    fn address(&self) -> Option<ListenAddress> {
        if self.configured.is_some() {
            return None;
        }
        let addresses: Vec<_> = self.sockets.iter().filter_map(address).collect();
        addresses.iter().find(|address| !address.is_local()).or(addresses.first()).cloned()
    }
}

/// The address of a socket. `None` for a Unix socket without a path.
pub(super) fn address(socket: &Socket) -> Option<ListenAddress> {
    let address = socket.local_addr().ok()?;
    let path = || address.as_pathname().map(|path| ListenAddress::Unix(path.to_owned()));
    address.as_socket().map(ListenAddress::Inet).or_else(path)
}

/// The addresses of passed sockets, which a reload cannot change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PassedAddresses {
    pub(super) proxy: Option<ListenAddress>,
    pub(super) admin: Option<ListenAddress>,
}

impl PassedAddresses {
    /// Replaces the configured addresses.
    pub(super) fn apply(&self, settings: &mut Settings) {
        if let Some(address) = &self.proxy {
            settings.server.listen = address.clone();
        }
        if let Some(address) = &self.admin {
            settings.admin.listen = Some(address.clone());
        }
    }
}

/// Makes a socket fit for the accept loop.
///
/// # Errors
/// Fails if it does not listen, or cannot be set up.
fn usable(socket: Socket) -> Result<Socket, String> {
    let set_up = || -> io::Result<bool> {
        socket.set_nonblocking(true)?;
        if !socket.local_addr()?.is_unix() {
            // Accepted connections inherit it.
            socket.set_tcp_nodelay(true)?;
        }
        socket.is_listener()
    };
    match set_up() {
        Ok(true) => Ok(socket),
        Ok(false) => {
            Err("it does not listen: write Accept=no and ListenStream= in its socket unit".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::config;

    fn settings(server: &str) -> Settings {
        let text = format!("[server]\n{server}\n[upstreams.openai]\napi_key = {{ value = \"sk\" }}\n");
        config::from_text(&text).unwrap_or_else(|mistakes| panic!("{mistakes}")).settings
    }

    fn passed(address: &str) -> PassedSockets {
        let socket = Socket::from(TcpListener::bind(address).unwrap());
        let proxy = Passed { configured: None, sockets: vec![usable(socket).unwrap()] };
        PassedSockets { proxy, ..PassedSockets::default() }
    }

    #[test]
    fn addresses_of_sockets_replace_the_configured_ones() {
        let sockets = passed("127.0.0.1:0");
        let mut applied = settings("listen = \"127.0.0.1:1\"");
        sockets.apply(&mut applied).unwrap();
        assert_eq!(Some(applied.server.listen), address(&sockets.proxy.sockets[0]));
        assert_eq!(applied.admin.listen, settings("").admin.listen);
    }

    #[test]
    fn open_socket_needs_authentication_or_permission() {
        let sockets = passed("0.0.0.0:0");
        let error = sockets.apply(&mut settings("")).unwrap_err();
        assert!(
            error.starts_with("server.listen: the socket that was passed listens on 0.0.0.0:"),
            "{error}"
        );
        sockets.apply(&mut settings("allow_anonymous = true")).unwrap();
        sockets.apply(&mut settings("[clients.a]\nkey = { value = \"sg-a-0123456789abcdef\" }")).unwrap();
    }

    #[test]
    fn names_decide_unless_there_is_one_socket_alone() {
        let mut sockets = PassedSockets::default();
        assert!(sockets.named("streamgauge.socket", 1).is_some());
        assert!(sockets.named("streamgauge.socket", 2).is_none());
        sockets.named("admin", 1).unwrap().sockets.push(TcpListener::bind("127.0.0.1:0").unwrap().into());
        assert_eq!((sockets.proxy.sockets.len(), sockets.admin.sockets.len()), (0, 1));
    }

    #[test]
    fn sockets_of_an_address_that_has_changed_are_dropped() {
        let [one, other] =
            ["127.0.0.1:1", "127.0.0.1:2"].map(|text| ListenAddress::Inet(text.parse().unwrap()));
        let kept = |configured: Option<&ListenAddress>, server: &str| {
            let socket = Socket::from(TcpListener::bind("127.0.0.1:0").unwrap());
            let proxy = Passed::copy(configured.cloned(), &[socket]).unwrap();
            let mut sockets = PassedSockets { proxy, ..PassedSockets::default() };
            let mut settings = settings(server);
            sockets.keep_configured(&settings);
            sockets.apply(&mut settings).unwrap();
            (sockets.proxy.sockets.len(), settings.server.listen == one)
        };
        let listen = "listen = \"127.0.0.1:1\"";
        assert_eq!(kept(Some(&one), listen), (1, true));
        assert_eq!(kept(Some(&other), listen), (0, true));
        assert_eq!(kept(None, listen), (1, false), "those of a supervisor replace the address");
    }

    #[test]
    fn connection_in_place_of_a_listening_socket_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(usable(stream.into()).unwrap_err().contains("Accept=no"));
    }
}
