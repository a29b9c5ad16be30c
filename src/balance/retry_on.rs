//! The failures after which another member is asked.

/// A failure, as `retry.on` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RetryWord {
    /// No connection, TLS session or tunnel: nothing was sent.
    Connect,
    TooManyRequests,
    InternalError,
    BadGateway,
    Unavailable,
    Overloaded,
    /// An error instead of the first event of a 200 stream, or no event at all.
    FirstEvent,
    /// The connection ended after the request was sent.
    Closed,
    /// `timeouts.first_byte` was over.
    FirstByte,
    RequestTimeout,
    GatewayTimeout,
}

use RetryWord::{
    BadGateway, Closed, Connect, FirstByte, FirstEvent, GatewayTimeout, InternalError, Overloaded,
    RequestTimeout, TooManyRequests, Unavailable,
};

/// The words for one failure each.
const SINGLE: [(&str, RetryWord); 11] = [
    ("connect", Connect),
    ("429", TooManyRequests),
    ("500", InternalError),
    ("502", BadGateway),
    ("503", Unavailable),
    ("529", Overloaded),
    ("first_event", FirstEvent),
    ("closed", Closed),
    ("first_byte", FirstByte),
    ("408", RequestTimeout),
    ("504", GatewayTimeout),
];

/// A set of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryOn(u16);

impl RetryOn {
    pub const NONE: Self = Self(0);
    /// Failures that are not billed, according to services; 500 and 502 are included by choice.
    pub const RETRYABLE: Self =
        Self::of(&[Connect, TooManyRequests, InternalError, BadGateway, Unavailable, Overloaded, FirstEvent]);
    /// Failures after which a response may have been generated, and billed, nevertheless.
    pub const DOUBTFUL: Self = Self::of(&[Closed, FirstByte, RequestTimeout, GatewayTimeout]);

    /// All words of the configuration.
    pub const WORDS: [&str; 13] = {
        let mut words = ["retryable"; 13];
        words[1] = "doubtful";
        let mut at = 0;
        while at < SINGLE.len() {
            words[at + 2] = SINGLE[at].0;
            at += 1;
        }
        words
    };

    const fn of(words: &[RetryWord]) -> Self {
        let (mut set, mut at) = (0, 0);
        while at < words.len() {
            set |= 1 << words[at] as u8;
            at += 1;
        }
        Self(set)
    }

    /// The set that these words name.
    ///
    /// # Errors
    /// Returns the first word that is not in [`RetryOn::WORDS`] as an error.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        words.into_iter().try_fold(Self::NONE, |set, word| {
            let named = match word {
                "retryable" => Self::RETRYABLE,
                "doubtful" => Self::DOUBTFUL,
                _ => {
                    let (_, found) = SINGLE.iter().find(|(name, _)| *name == word).ok_or(word)?;
                    Self::of(&[*found])
                }
            };
            Ok(Self(set.0 | named.0))
        })
    }

    pub fn contains(self, word: RetryWord) -> bool {
        self.0 & (1 << word as u8) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_disjoint_and_hold_every_single_word() {
        assert_eq!(RetryOn::RETRYABLE.0 & RetryOn::DOUBTFUL.0, 0);
        let all = RetryOn::parse(RetryOn::WORDS).unwrap();
        assert_eq!(all.0, RetryOn::RETRYABLE.0 | RetryOn::DOUBTFUL.0);
        assert!(SINGLE.iter().all(|&(_, word)| all.contains(word)));
    }

    #[test]
    fn words_are_parsed_and_an_unknown_one_is_named() {
        let set = RetryOn::parse(["connect", "503"]).unwrap();
        assert!(set.contains(Connect) && set.contains(Unavailable) && !set.contains(BadGateway));
        assert_eq!(RetryOn::parse(["connect", "unbilled"]), Err("unbilled"));
        assert_eq!(RetryOn::parse([]), Ok(RetryOn::NONE));
    }
}
