//! Compares content codings with themselves at another split: the same bytes give the same text and
//! the same verdict.
//!
//! Input: a byte that selects the codings, a byte that selects the split, and the encoded bytes.

use crate::codec::coding::{Coding, ContentDecoder, DecodeError, FREE_OUTPUT, MAX_RATIO};

const CODINGS: [&[Coding]; 6] = [
    &[Coding::Gzip],
    &[Coding::Deflate],
    &[Coding::Brotli],
    &[Coding::Zstd],
    &[Coding::Gzip, Coding::Brotli],
    &[Coding::Zstd, Coding::Zstd, Coding::Deflate],
];

/// Nothing is decoded beyond the bounds, and the split makes no difference.
pub fn coding(data: &[u8]) {
    let [which, step, encoded @ ..] = data else { return };
    let codings = CODINGS[usize::from(*which) % CODINGS.len()];
    let whole = decode(codings, encoded.chunks(encoded.len().max(1)));
    let cut = decode(codings, encoded.chunks(usize::from(*step).max(1)));
    if codings.contains(&Coding::Zstd) {
        // The library has a separate path for a complete frame, which checks a broken frame in
        // another order. Both paths give the same result for complete frames.
        assert!(whole.1 != Ok(true) || cut.1 != Ok(true) || whole.0 == cut.0, "{codings:?}: two texts");
        return;
    }
    assert!(
        whole.0.starts_with(&cut.0) || cut.0.starts_with(&whole.0),
        "{codings:?}: what comes of it depends on how it is cut"
    );
    // The allowed output depends on the input so far.
    if ![whole.1, cut.1].contains(&Err(DecodeError::TooLarge)) {
        assert_eq!(whole.1, cut.1, "{codings:?}: the verdict depends on how it is cut");
        assert!(whole.1.is_err() || whole.0 == cut.0, "{codings:?}: two texts");
    }
}

/// The output, and whether it is complete.
fn decode<'a>(
    codings: &[Coding],
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<u8>, Result<bool, DecodeError>) {
    let mut decoder = ContentDecoder::new(codings);
    let mut text = Vec::new();
    let mut read = 0;
    for piece in pieces {
        read += piece.len() as u64;
        let result = decoder.push(piece, &mut |piece| text.extend_from_slice(piece));
        assert!(text.len() as u64 <= FREE_OUTPUT + MAX_RATIO * read, "{codings:?}: {} bytes", text.len());
        if let Err(error) = result {
            assert_eq!(decoder.push(b"more", &mut |_| panic!("it has failed")), Err(error));
            return (text, Err(error));
        }
    }
    (text, Ok(decoder.is_complete()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    #[test]
    fn the_seeds_hold() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/coding");
        let mut count = 0;
        for seed in fs::read_dir(seeds).unwrap() {
            let seed = fs::read(seed.unwrap().path()).unwrap();
            super::coding(&seed);
            // Each seed also in every coding, and with an inverted byte.
            for which in 0..6 {
                let mut other = seed.clone();
                other[0] = which;
                super::coding(&other);
                for at in 2..other.len() {
                    other[at] ^= 0x55;
                    super::coding(&other);
                    other[at] ^= 0x55;
                }
            }
            count += 1;
        }
        assert!(count > 5, "the seeds are there");
    }
}
