//! The use of a response, as its client gets it: in headers, or in a comment of a stream.

use std::fmt::Write as _;

use crate::codec::head::Headers;
use crate::llm::price::{Amount, Prices};
use crate::llm::usage::{Tally, Usage};
use crate::record::{UsageRecord, cost, cost_so_far};

/// The cost and the tokens of a response. Unknown values are `None`, never 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    /// In the currency of its price.
    cost: Option<Amount>,
    usage: Usage,
}

impl Told {
    /// The use in the record.
    pub(super) fn recorded(row: &UsageRecord, prices: &Prices) -> Self {
        Self { cost: cost(row, prices).map(|(_, amount)| amount), usage: row.usage }
    }

    /// The use that the record will have, of whose response `tally` is known.
    pub fn so_far(row: &UsageRecord, tally: &Tally, prices: &Prices) -> Self {
        let cost = cost_so_far(row, tally, prices).map(|(_, amount)| amount);
        Self { cost, usage: tally.usage.unwrap_or_default() }
    }

    /// The headers of a response with this use.
    pub fn headers(&self) -> Headers {
        let mut headers = Headers::default();
        if let Some(amount) = self.cost {
            headers.append_own("x-streamgauge-cost", amount.to_string().as_bytes());
        }
        for (name, _, tokens) in self.tokens() {
            headers.append_own(name, tokens.to_string().as_bytes());
        }
        headers
    }

    /// The comment in a stream with this use. `None`: nothing is known.
    pub fn comment(&self) -> Option<String> {
        let mut members = String::new();
        if let Some(amount) = self.cost {
            let _ = write!(members, ",\"cost\":\"{amount}\"");
        }
        for (_, name, tokens) in self.tokens() {
            let _ = write!(members, ",\"{name}\":{tokens}");
        }
        Some(format!(": streamgauge {{{}}}\n\n", members.strip_prefix(',')?))
    }

    /// The known counts, with the names of their headers and of the record's fields.
    fn tokens(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let Usage { input_tokens, output_tokens, cached_input_tokens, .. } = self.usage;
        [
            ("x-streamgauge-input-tokens", "input_tokens", input_tokens),
            ("x-streamgauge-output-tokens", "output_tokens", output_tokens),
            ("x-streamgauge-cached-input-tokens", "cached_input_tokens", cached_input_tokens),
        ]
        .into_iter()
        .filter_map(|(header, field, count)| Some((header, field, count?)))
    }
}
