//! Reads a header of the PROXY protocol from the start of any connection.

use crate::codec::proxy_header::{MAX_PROXY_HEADER, parse};

/// Every split gives the same result: a part of a header needs more bytes, bytes behind it change
/// nothing, and what is refused stays refused. No header is longer than the limit.
pub fn proxy_header(data: &[u8]) {
    let whole = parse(data);
    if let Ok(Some((_, length))) = whole {
        assert!(length <= MAX_PROXY_HEADER.min(data.len()));
    }
    // Long inputs differ in their bytes behind the addresses, which have no meaning.
    let mut is_refused = false;
    for end in (0..data.len()).filter(|end| *end < 300 || end % 64 == 0) {
        let part = parse(&data[..end]);
        match (part, whole) {
            (Ok(Some(_)), whole) => assert_eq!(part, whole, "{end}"),
            (Ok(None), Ok(Some((_, length)))) => assert!(end < length, "{end}"),
            (Err(_), whole) => assert!(whole.is_err(), "{end}"),
            (Ok(None), _) => assert!(!is_refused, "{end}"),
        }
        is_refused |= part.is_err();
    }
    assert!(data.len() < MAX_PROXY_HEADER || whole != Ok(None), "more than the limit is needed");
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_seeds_and_every_cut_of_them_pass() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/proxy_header");
        for entry in std::fs::read_dir(seeds).expect("the seeds are in the repository") {
            let seed = std::fs::read(entry.unwrap().path()).unwrap();
            for end in 0..=seed.len() {
                super::proxy_header(&seed[..end]);
            }
        }
    }
}
