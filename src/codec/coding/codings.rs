//! The content codings of a response.

use std::fmt;

use crate::codec::head::{Headers, KnownName};

/// The largest number of codings of one response that are decoded. No service is known to use more
/// than one.
pub const MAX_CODINGS: usize = 3;

/// A coding that can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// `gzip` or `x-gzip`: RFC 1952.
    Gzip,
    /// `deflate`: RFC 1950, and RFC 1951 alone, as some servers send it.
    Deflate,
    /// `br`: RFC 7932.
    Brotli,
    /// `zstd`: RFC 8878, with the window of RFC 9659.
    Zstd,
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        })
    }
}

/// The value of `Content-Encoding`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Codings {
    /// None, or `identity`: the bytes are the content.
    Identity,
    /// These codings, in the order in which they were applied.
    Known(Vec<Coding>),
    /// An unknown coding, or more than [`MAX_CODINGS`].
    Unknown,
}

impl Codings {
    /// Reads all lines of the header.
    pub fn of(headers: &Headers) -> Self {
        if !headers.has(KnownName::ContentEncoding) {
            return Self::Identity;
        }
        let mut known = Vec::new();
        for value in headers.values(KnownName::ContentEncoding) {
            for name in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
                known.push(match () {
                    () if name.is_empty() || is("identity") => continue,
                    () if is("gzip") || is("x-gzip") => Coding::Gzip,
                    () if is("deflate") => Coding::Deflate,
                    () if is("br") => Coding::Brotli,
                    () if is("zstd") => Coding::Zstd,
                    () => return Self::Unknown,
                });
            }
        }
        match known.len() {
            0 => Self::Identity,
            1..=MAX_CODINGS => Self::Known(known),
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&'static str]) -> Codings {
        let mut headers = Headers::default();
        values.iter().for_each(|value| headers.append(b"content-encoding", value.as_bytes()));
        Codings::of(&headers)
    }

    #[test]
    fn names_are_known_in_any_case_and_identity_is_none() {
        use Coding::{Brotli, Deflate, Gzip, Zstd};
        for (value, coding) in
            [("gzip", Gzip), ("X-GZip", Gzip), ("deflate", Deflate), ("BR", Brotli), ("zstd", Zstd)]
        {
            assert_eq!(of(&[value]), Codings::Known(vec![coding]), "{value}");
        }
        for values in [&[][..], &[""], &["identity"], &["Identity, ,"], &["identity", "identity"]] {
            assert_eq!(of(values), Codings::Identity, "{values:?}");
        }
    }

    #[test]
    fn several_stand_in_the_order_in_which_they_were_applied() {
        let both = Codings::Known(vec![Coding::Gzip, Coding::Brotli]);
        assert_eq!(of(&["gzip, identity,\tbr"]), both);
        assert_eq!(of(&["gzip", "br"]), both);
    }

    #[test]
    fn unknown_coding_makes_the_list_unknown() {
        for values in [&["compress"][..], &["gzip, dcb"], &["gzip;q=1"], &["gzip, gzip, gzip, gzip"]] {
            assert_eq!(of(values), Codings::Unknown, "{values:?}");
        }
    }
}
