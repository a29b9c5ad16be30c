//! Encodes content codings as servers do, with flushes where a test needs them.

use std::io::Write;
use std::mem::take;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

/// Every supported coding, by its name in `Content-Encoding`; `deflate` in both of its forms.
pub const CODINGS: [&str; 5] = ["gzip", "deflate", "bare deflate", "br", "zstd"];

/// The header's value for a coding.
pub fn header_value(coding: &str) -> &str {
    coding.strip_prefix("bare ").unwrap_or(coding)
}

/// Encodes `pieces`, flushed after each. The end of the coding comes last.
pub fn encode(coding: &str, pieces: &[&[u8]]) -> Vec<Vec<u8>> {
    fn all<W: Write>(
        mut encoder: W,
        pieces: &[&[u8]],
        taken: impl Fn(&mut W) -> Vec<u8>,
        finish: impl FnOnce(W) -> Vec<u8>,
    ) -> Vec<Vec<u8>> {
        let mut encoded = Vec::new();
        for piece in pieces {
            encoder.write_all(piece).unwrap();
            encoder.flush().unwrap();
            encoded.push(taken(&mut encoder));
        }
        encoded.push(finish(encoder));
        encoded
    }
    let level = Compression::best();
    match coding {
        "gzip" => {
            let encoder = GzEncoder::new(Vec::new(), level);
            all(encoder, pieces, |e| take(e.get_mut()), |e| e.finish().unwrap())
        }
        "deflate" => {
            let encoder = ZlibEncoder::new(Vec::new(), level);
            all(encoder, pieces, |e| take(e.get_mut()), |e| e.finish().unwrap())
        }
        "bare deflate" => {
            let encoder = DeflateEncoder::new(Vec::new(), level);
            all(encoder, pieces, |e| take(e.get_mut()), |e| e.finish().unwrap())
        }
        "br" => {
            let encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
            all(encoder, pieces, |e| take(e.get_mut()), |e| e.into_inner())
        }
        "zstd" => {
            let encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
            all(encoder, pieces, |e| take(e.get_mut()), |e| e.finish().unwrap())
        }
        other => panic!("{other} is no coding"),
    }
}

/// Encodes a whole text.
pub fn whole(coding: &str, text: &[u8]) -> Vec<u8> {
    encode(coding, &[text]).concat()
}
