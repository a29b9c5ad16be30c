//! Keeps the requests of one conversation at one member.

mod body;
mod fleet_pins;
mod hash;
mod key;
mod pins;
mod rendezvous;

pub use body::StickyBody;
pub use fleet_pins::{FleetPins, MOST_ASKED, PinAsk, SharedPin};
pub(super) use key::name_tag;
pub use key::{Fingerprint, PromptHash, StickyBy, StickyKey, StickyParts, any_sticky_key, sticky_key};
pub use pins::{Account, Pin, Pins};
pub(super) use rendezvous::{Rank, member_seed, rank_before};

/// The effect of a conversation's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StickyResult {
    /// The member that would serve it if all members were available.
    Kept,
    /// Another member: that one is out, full or loaded.
    Moved,
    /// The request has no key.
    None,
}

impl StickyResult {
    /// The effect of `key` if it leads to its home, or elsewhere.
    pub(super) fn of(key: Option<StickyKey>, is_home: bool) -> Self {
        match key {
            Some(_) if is_home => Self::Kept,
            Some(_) => Self::Moved,
            None => Self::None,
        }
    }

    /// The value of the label `result`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Moved => "moved",
            Self::None => "none",
        }
    }
}
