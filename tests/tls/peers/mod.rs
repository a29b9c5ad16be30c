//! The peers of the matrix: three targets and three forward proxies, in this process and as
//! third-party programs.
//!
//! A target's response to every request reports the address of the connection, and the subject and
//! serial number of the client's certificate if it requested one. Each forward proxy connects from
//! an address of its own, so that the response also identifies the path.

mod in_process;
mod programs;

use std::net::SocketAddr;

use crate::harness::certificates::Pair;
use crate::harness::tls::Folder;

/// The source addresses of the forward proxies: the plain one, the one with TLS, and the one with
/// credentials. They belong to this machine like 127.0.0.1.
pub const OUT: [&str; 3] = ["127.0.0.2", "127.0.0.3", "127.0.0.4"];

/// The credentials of the third forward proxy.
pub const USER: &str = "me";
pub const PASSWORD: &str = "pw-marker";

/// The addresses of the peers, which listen until this is dropped.
pub struct Peers {
    /// `http`, `https`, and `https` with a required client certificate. The latter two offer HTTP/2
    /// and HTTP/1.1.
    pub targets: [SocketAddr; 3],
    /// The addresses in the order of [`OUT`].
    pub proxies: [SocketAddr; 3],
    _alive: Vec<Box<dyn Send>>,
}

/// The identities: the targets and the forward proxy have a certificate each, signed by an
/// authority each.
pub struct Identities {
    /// The directory with the target's certificate. Its authority is also that of its clients.
    pub folder: Folder,
    pub target: Pair,
    pub proxy: Pair,
}
