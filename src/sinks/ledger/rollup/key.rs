//! The fields in which all rows of an entry agree.

use crate::sinks::ledger::groups::{Estimated, SOURCES};

/// The texts of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sinks::ledger) enum Text {
    Client,
    User,
    Upstream,
    Provider,
    Model,
    /// The requested model, of rows without a model: prices are those of either.
    Requested,
    Endpoint,
    Outcome,
    Tier,
    Group,
    KeyId,
    Tags,
}

/// The number of texts.
pub(super) const TEXTS: usize = Text::Tags as usize + 1;

/// The numbers of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sinks::ledger) enum Number {
    /// The index of the usage source, and the flags of [`Key`].
    Flags,
    /// The status and 1. 0: none.
    Status,
    /// The class of the input's length.
    Length,
    /// The kinds of billable use that may have no price: bit 0 for cache writes of an hour, the
    /// others for the kinds of tools.
    Kinds,
}

/// The number of numbers.
pub(super) const NUMBERS: usize = Number::Kinds as usize + 1;

/// The mark of a missing text.
const NONE: u32 = u32::MAX;

/// The fields in which all rows of an entry agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::sinks::ledger) struct Key<'a> {
    pub(super) texts: [Option<&'a [u8]>; TEXTS],
    pub(super) numbers: [u64; NUMBERS],
}

impl<'a> Key<'a> {
    /// The bits of the usage source's index.
    const SOURCE: u64 = 7;
    /// An attempt whose response was thrown away, which is no request.
    pub(super) const ATTEMPT: u64 = 8;
    /// The request could have had tokens.
    pub(super) const COUNTABLE: u64 = 16;
    /// The rows have billable use.
    pub(super) const BILLABLE: u64 = 32;
    /// The rows have counts of input or output.
    pub(super) const TOKENS: u64 = 64;
    /// The rows have calls of tools that this version does not know.
    pub(super) const UNKNOWN_CALLS: u64 = 128;

    pub(in crate::sinks::ledger) fn text(&self, text: Text) -> Option<&'a [u8]> {
        self.texts[text as usize]
    }

    pub(in crate::sinks::ledger) fn number(&self, number: Number) -> u64 {
        self.numbers[number as usize]
    }

    fn has(&self, flag: u64) -> bool {
        self.number(Number::Flags) & flag != 0
    }

    /// The index of the usage source in [`SOURCES`].
    pub(in crate::sinks::ledger) fn source(&self) -> usize {
        usize::try_from(self.number(Number::Flags) & Self::SOURCE).unwrap_or_default().min(SOURCES.len() - 1)
    }

    pub(in crate::sinks::ledger) fn is_estimated(&self) -> bool {
        self.source() == Estimated::SOURCE
    }

    pub(in crate::sinks::ledger) fn is_attempt(&self) -> bool {
        self.has(Self::ATTEMPT)
    }

    pub(in crate::sinks::ledger) fn is_countable(&self) -> bool {
        self.has(Self::COUNTABLE)
    }

    /// Returns true if the rows have a cost. `has_prices`: there are prices, without which calls of
    /// tools are not looked at.
    pub(in crate::sinks::ledger) fn is_billable(&self, has_prices: bool) -> bool {
        self.has(if has_prices { Self::BILLABLE } else { Self::TOKENS })
    }

    pub(in crate::sinks::ledger) fn has_unknown_calls(&self) -> bool {
        self.has(Self::UNKNOWN_CALLS)
    }

    /// Returns true if the requests failed, as [`FAILED`](crate::sinks::ledger::groups::FAILED) says.
    pub(in crate::sinks::ledger) fn is_failed(&self) -> bool {
        !matches!(self.text(Text::Outcome), Some(b"complete" | b"client_disconnected"))
    }

    /// The status of the response.
    pub(in crate::sinks::ledger) fn status(&self) -> Option<u64> {
        self.number(Number::Status).checked_sub(1)
    }

    /// Writes the key as bytes; equal keys give equal bytes.
    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        bytes.clear();
        for number in self.numbers {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        for text in self.texts {
            let length = text.map_or(NONE, |text| u32::try_from(text.len()).unwrap_or(NONE - 1));
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(text.unwrap_or_default());
        }
    }

    /// Reads what [`Self::write`] wrote.
    pub(super) fn read(mut bytes: &'a [u8]) -> Self {
        let mut key = Self::default();
        for number in &mut key.numbers {
            let Some((first, rest)) = bytes.split_first_chunk() else { return key };
            (*number, bytes) = (u64::from_be_bytes(*first), rest);
        }
        for text in &mut key.texts {
            let Some((first, rest)) = bytes.split_first_chunk() else { return key };
            let length = u32::from_be_bytes(*first);
            let split = if length == NONE { None } else { rest.split_at_checked(length as usize) };
            bytes = split.map_or(rest, |(_, rest)| rest);
            *text = split.map(|(text, _)| text);
        }
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_read_as_written() {
        let mut key = Key::default();
        key.texts[Text::Client as usize] = Some(b"a");
        key.texts[Text::User as usize] = Some(b"");
        key.texts[Text::Tags as usize] = Some(&[0xff; 300]);
        key.numbers = [1, u64::MAX, 0, 7];
        let mut bytes = Vec::new();
        key.write(&mut bytes);
        assert_eq!(Key::read(&bytes), key);
        let mut other = Vec::new();
        Key::default().write(&mut other);
        assert_eq!(Key::read(&other), Key::default());
    }
}
