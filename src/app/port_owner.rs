//! Finds the program that listens on a port, as far as this user may see it (proc(5):
//! `/proc/net/tcp`, `/proc/[pid]/fd`).

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// This process.
    This,
    Process {
        id: u32,
        name: String,
    },
    /// A process whose files this user may not see, by its user's number.
    User(u32),
}

/// A listening socket.
#[derive(Debug, PartialEq, Eq)]
struct Listening {
    address: SocketAddr,
    user: u32,
    inode: u64,
}

/// The owner of the socket that prevents `wanted` from being bound. `None`: unknown.
pub(super) fn owner(wanted: SocketAddr) -> Option<Owner> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let mut sockets = tables.iter().flat_map(|table| table.lines().filter_map(listening));
    let Listening { user, inode, .. } = sockets.find(|socket| conflicts(socket.address, wanted))?;
    let link = format!("socket:[{inode}]");
    let mut processes = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let files = fs::read_dir(entry.path().join("fd")).ok()?;
        let mut links = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        links.any(|found| found.as_os_str() == link.as_str()).then_some(id)
    });
    Some(match processes.next() {
        Some(id) if id == process::id() => Owner::This,
        Some(id) => {
            let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
            Owner::Process { id, name: name.trim().to_owned() }
        }
        None => Owner::User(user),
    })
}

/// Parses a line of the table. `None` if it is not a listening socket.
fn listening(line: &str) -> Option<Listening> {
    const LISTEN: &str = "0A";
    let mut fields = line.split_ascii_whitespace();
    let address = fields.nth(1)?;
    let state = fields.nth(1)?;
    let user = fields.nth(3)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    let (ip, port) = address.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    (state == LISTEN).then_some(Listening { address: SocketAddr::new(ip_address(ip)?, port), user, inode })
}

/// An address in words of 32 bits, each in the machine's byte order.
fn ip_address(hex: &str) -> Option<IpAddr> {
    let words = (0..hex.len() / 8)
        .map(|word| u32::from_str_radix(hex.get(word * 8..word * 8 + 8)?, 16).ok().map(u32::to_ne_bytes));
    let bytes = words.collect::<Option<Vec<_>>>()?.concat();
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|bytes| Ipv4Addr::from(bytes).into()),
        _ => <[u8; 16]>::try_from(bytes).ok().map(|bytes| Ipv6Addr::from(bytes).into()),
    }
}

fn conflicts(one: SocketAddr, other: SocketAddr) -> bool {
    let (ip, wanted) = (one.ip().to_canonical(), other.ip().to_canonical());
    one.port() == other.port() && (ip == wanted || ip.is_unspecified() || wanted.is_unspecified())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn own_listener_is_found_by_its_address_and_by_the_wildcard() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let wildcard = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
        assert_eq!([owner(address), owner(wildcard)], [Some(Owner::This), Some(Owner::This)]);
    }

    #[test]
    fn line_of_a_connection_is_no_listening_socket() {
        let line = |state| {
            format!(
                "   1: 0100007F:1F90 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  1000        0 4242 1 x"
            )
        };
        let found = listening(&line("0A")).unwrap();
        assert_eq!((found.address.port(), found.user, found.inode), (8080, 1000, 4242));
        assert_eq!(listening(&line("01")), None);
        assert_eq!(listening("  sl  local_address rem_address   st tx_queue rx_queue tr"), None);
    }
}
