//! Reads hops from any line.
//!
//! Input: a line of `X-Forwarded-For`, and after a line break one of `Forwarded`.

use std::net::{IpAddr, SocketAddr};

use crate::codec::forwarded::{self, Hop};
use crate::codec::head::Headers;
use crate::gate::TrustedProxies;
use crate::support::Networks;

/// A hop behind any text is read as that hop, unless the text has opened a quote; then it is unknown.
/// The client is never an address that only stands left of one that is not trusted.
pub fn forwarded(data: &[u8]) {
    let (list, elements) = data.split_at(data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len()));
    let elements = elements.get(1..).unwrap_or_default();
    let peer = SocketAddr::from(([10, 0, 0, 1], 80));
    let trusted = Networks::new(vec![Networks::parse("10.0.0.0/8").expect("a network")]);
    let trusted = TrustedProxies::new(trusted, true).expect("it has a network");
    // Each proxy adds what it has seen, whatever a client has sent before.
    let last = IpAddr::from([192, 0, 2, 200]);
    let list = [list, b", 192.0.2.200"].concat();
    assert_eq!(hops(&list, true).last(), Some(&Hop::Address(last)));
    let elements = [elements, b",for=192.0.2.200"].concat();
    let end = *hops(&elements, false).last().expect("it has an element");
    assert!(end == Hop::Address(last) || end == Hop::Unknown, "{end:?}");
    for (name, value) in [("x-forwarded-for", list), ("forwarded", elements)] {
        let mut headers = Headers::default();
        headers.append(name.as_bytes(), &value);
        let client = trusted.client(peer, &headers).ip();
        assert!(client == last || client == peer.ip(), "{client}");
    }
}

fn hops(line: &[u8], is_list: bool) -> Vec<Hop> {
    let mut hops = Vec::new();
    match is_list {
        true => forwarded::x_forwarded_for(line, |hop| hops.push(hop)),
        false => forwarded::forwarded(line, |hop| hops.push(hop)),
    }
    hops
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_seeds_and_every_cut_of_them_pass() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/forwarded");
        for entry in std::fs::read_dir(seeds).expect("the seeds are in the repository") {
            let seed = std::fs::read(entry.unwrap().path()).unwrap();
            for end in 0..=seed.len() {
                super::forwarded(&seed[..end]);
            }
        }
    }
}
