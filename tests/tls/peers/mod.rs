//! The other ends of the matrix: three targets and three outbound proxies, once in this process and
//! once as programs of others.
//!
//! A target answers every request with what it saw: the address that the connection came from, and
//! the subject and serial number of the client's certificate, where it asked for one. Each proxy
//! goes out from an address of its own, so that the response also says which way was taken.

mod in_process;
mod programs;

use std::net::SocketAddr;

use crate::harness::certificates::Pair;
use crate::harness::tls::Folder;

/// The addresses that the proxies go out from: the plain one's, that of the one that speaks TLS,
/// and of the one that wants credentials. They are this machine's like 127.0.0.1.
pub const OUT: [&str; 3] = ["127.0.0.2", "127.0.0.3", "127.0.0.4"];

/// What the third proxy wants.
pub const USER: &str = "me";
pub const PASSWORD: &str = "pw-marker";

/// Where everything listens; it does until this is dropped.
pub struct Peers {
    /// `http`, `https`, and `https` that requires a certificate of the client. The latter two offer
    /// HTTP/2 and HTTP/1.1.
    pub targets: [SocketAddr; 3],
    /// In the order of [`OUT`].
    pub proxies: [SocketAddr; 3],
    _alive: Vec<Box<dyn Send>>,
}

/// Who they are: the targets and the proxy have a certificate each, and an authority each that has
/// signed it.
pub struct Identities {
    /// The target's certificate is in here, its authority is also that of its clients.
    pub folder: Folder,
    pub target: Pair,
    pub proxy: Pair,
}
