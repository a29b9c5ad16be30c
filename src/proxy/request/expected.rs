//! The use that a request is expected to have.

use super::Routed;
use crate::gate::KnownClient;
use crate::gate::limit::{InputSize, Kinds, RatioKey, Slices, Use};
use crate::llm::price::{Billable, Cost, Rates};
use crate::llm::provider::Endpoint;
use crate::llm::rewrite::body::output_bounds;

/// The expected tokens of a request whose body is not read: it is admitted while there is no debt.
pub(super) const UNREAD: u64 = 1;

/// The expected use of a request.
#[derive(Debug, Default)]
pub(super) struct Expected {
    pub(super) input: u64,
    /// The size from which `input` is expected.
    pub(super) size: InputSize,
    /// The ratio that the request's report changes. `None`: it is that of a group's member.
    pub(super) ratio: Option<RatioKey>,
    /// `None`: no limit counts output of the request.
    pub(super) slices: Option<Slices>,
    /// Counts that are not reported are replaced by those that were seen. False: they belong to
    /// another request, or the body was not read.
    pub(super) is_own: bool,
    /// `None`: no cost is held.
    pub(super) rates: Option<Box<Rates>>,
}

impl Expected {
    pub(super) fn billable(&self) -> Billable {
        let output = self.slices.as_ref().map_or(0, Slices::held);
        Billable { input: self.input, output, ..Billable::default() }
    }

    pub(super) fn used(&self) -> Use {
        let billable @ Billable { output, .. } = self.billable();
        let kinds = Kinds { input: self.input, output, ..Kinds::default() };
        let mut cost = Cost::default();
        if let Some(rates) = &self.rates {
            rates.amount(&billable).into_iter().for_each(|amount| cost.pay(rates.currency, amount));
        }
        Use { requests: 1, reported: self.input.saturating_add(output), kinds, cost }
    }
}

impl Routed<'_> {
    /// `requested`: the model that the request names.
    /// `is_own`: see [`Expected::is_own`].
    pub(super) fn expected(
        &self,
        client: &KnownClient,
        endpoint: Endpoint,
        requested: Option<&str>,
        is_own: bool,
    ) -> Expected {
        let Self { buffered, peek, inbound, target, .. } = self;
        let method = &buffered.head.method;
        let Some(ratios) = &client.input_ratios else { return Expected::default() };
        if !(inbound.is_session || endpoint.uses_tokens(method)) {
            return Expected::default();
        }
        if inbound.is_session || !endpoint.takes_json_model() {
            return Expected { input: UNREAD, ..Expected::default() };
        }
        let slices = endpoint.has_output().then(|| {
            let has_bounds = peek.as_ref().is_none_or(|peek| peek.bounds_output);
            let (most, choices) = if has_bounds { output_bounds(buffered.text()) } else { (None, 1) };
            Slices::first(most, choices)
        });
        let text = buffered.text();
        let size = InputSize::of(text, peek.as_ref().is_some_and(|peek| peek.names_stored_input(text)));
        let key = |member: usize| ratios.key(&target.member(member).spec.id, requested);
        let (first, others) = (key(0), (1..target.len()).map(key));
        Expected {
            input: ratios.tokens(&size, std::iter::once(first).chain(others)),
            size,
            ratio: (target.len() == 1).then_some(first),
            slices,
            is_own,
            rates: None,
        }
    }
}
