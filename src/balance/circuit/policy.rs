//! The conditions under which a breaker opens, the reasons, and the pauses.

use std::time::Duration;

/// The conditions under which a breaker opens, and its pauses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerPolicy {
    /// The number of failures in a row that open it. 0: none does.
    pub failures: u32,
    /// The share of good results, of at least `requests` in 30 s, below which it opens. 0: never.
    pub success_rate: f64,
    pub requests: u32,
    /// The first pause.
    pub pause: Duration,
    /// The longest pause. Each is twice as long as the one before if the breaker was not closed for
    /// 30 s in between.
    pub longest_pause: Duration,
    /// The time without a result after which another request may be the trial:
    /// `timeouts.first_byte`.
    pub trial: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            failures: 5,
            success_rate: 0.5,
            requests: 20,
            pause: Duration::from_secs(2),
            longest_pause: Duration::from_secs(60),
            trial: Duration::from_secs(60),
        }
    }
}

/// The reason why a member is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutReason {
    /// Too many failures in a row.
    #[default]
    Failures,
    /// Too few good results in 30 s.
    SuccessRate,
    /// 401, or 403 for several models or clients.
    Credentials,
    /// 403 for this model.
    Forbidden,
    /// The member does not have this model.
    UnknownModel,
    /// `insufficient_quota`.
    Quota,
}

impl OutReason {
    /// The value of the label `reason`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::SuccessRate => "success_rate",
            Self::Credentials => "credentials",
            Self::Forbidden => "forbidden",
            Self::UnknownModel => "unknown_model",
            Self::Quota => "quota",
        }
    }
}

/// The reason for which a circuit opens, and its pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    pub reason: OutReason,
    /// The first pause; each is twice as long as the one before, up to the longest.
    pub first: Duration,
    pub longest: Duration,
}

impl OutReason {
    /// Returns true if both are the breaker's own, or they are the same.
    pub(super) fn is_like(self, other: Self) -> bool {
        self == other || !(self.is_refusal() || other.is_refusal())
    }

    /// Returns true if the member works, and refuses the request.
    pub(in crate::balance) fn is_refusal(self) -> bool {
        !matches!(self, Self::Failures | Self::SuccessRate)
    }
}
