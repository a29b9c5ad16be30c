//! Token counts, and how they accumulate.

/// Token counts as the upstream reported them. A count that was not reported is `None`, never 0.
/// Counts are never computed or corrected: some upstreams' totals include more than their parts,
/// and more tokens may be cached than were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// `prompt_tokens` or `input_tokens`. Anthropic's excludes cached tokens.
    pub input_tokens: Option<u64>,
    /// `completion_tokens` or `output_tokens`.
    pub output_tokens: Option<u64>,
    pub total_tokens: Option<u64>,
    pub cached_input_tokens: Option<u64>,
    pub cache_write_input_tokens: Option<u64>,
    /// The part of them that is kept for an hour, which Anthropic bills at a higher rate.
    pub cache_write_1h_input_tokens: Option<u64>,
    /// Reasoning tokens. Some upstreams count them as output, some do not.
    pub reasoning_tokens: Option<u64>,
    pub input_audio_tokens: Option<u64>,
    pub output_audio_tokens: Option<u64>,
    /// Seconds of audio, if usage is by duration.
    pub billed_seconds: Option<f64>,
}

impl Usage {
    /// Returns true if there is no count.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        let Usage {
            input_tokens,
            output_tokens,
            total_tokens,
            cached_input_tokens,
            cache_write_input_tokens,
            cache_write_1h_input_tokens,
            reasoning_tokens,
            input_audio_tokens,
            output_audio_tokens,
            billed_seconds,
        } = self;
        input_tokens.is_none()
            && output_tokens.is_none()
            && total_tokens.is_none()
            && cached_input_tokens.is_none()
            && cache_write_input_tokens.is_none()
            && cache_write_1h_input_tokens.is_none()
            && reasoning_tokens.is_none()
            && input_audio_tokens.is_none()
            && output_audio_tokens.is_none()
            && billed_seconds.is_none()
    }

    /// The sum. A count that only one of them has is taken as it is.
    pub(super) fn plus(self, other: Usage) -> Usage {
        let sum = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.saturating_add(other)),
            (one, other) => one.or(other),
        };
        let seconds = match (self.billed_seconds, other.billed_seconds) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        };
        Usage {
            input_tokens: sum(self.input_tokens, other.input_tokens),
            output_tokens: sum(self.output_tokens, other.output_tokens),
            total_tokens: sum(self.total_tokens, other.total_tokens),
            cached_input_tokens: sum(self.cached_input_tokens, other.cached_input_tokens),
            cache_write_input_tokens: sum(self.cache_write_input_tokens, other.cache_write_input_tokens),
            cache_write_1h_input_tokens: sum(
                self.cache_write_1h_input_tokens,
                other.cache_write_1h_input_tokens,
            ),
            reasoning_tokens: sum(self.reasoning_tokens, other.reasoning_tokens),
            input_audio_tokens: sum(self.input_audio_tokens, other.input_audio_tokens),
            output_audio_tokens: sum(self.output_audio_tokens, other.output_audio_tokens),
            billed_seconds: seconds,
        }
    }

    /// `later`, completed by the counts that only `self` has.
    pub(super) fn updated(self, later: Usage) -> Usage {
        Usage {
            input_tokens: later.input_tokens.or(self.input_tokens),
            output_tokens: later.output_tokens.or(self.output_tokens),
            total_tokens: later.total_tokens.or(self.total_tokens),
            cached_input_tokens: later.cached_input_tokens.or(self.cached_input_tokens),
            cache_write_input_tokens: later.cache_write_input_tokens.or(self.cache_write_input_tokens),
            cache_write_1h_input_tokens: later
                .cache_write_1h_input_tokens
                .or(self.cache_write_1h_input_tokens),
            reasoning_tokens: later.reasoning_tokens.or(self.reasoning_tokens),
            input_audio_tokens: later.input_audio_tokens.or(self.input_audio_tokens),
            output_audio_tokens: later.output_audio_tokens.or(self.output_audio_tokens),
            billed_seconds: later.billed_seconds.or(self.billed_seconds),
        }
    }
}
