//! The cost of one record, by its parts.

use serde_json::Value;

use super::records::{started, text};
use crate::llm::price::{Amount, Billable, Currency, Prices, Rates, Served, TokenCounts};
use crate::llm::usage::{ToolCalls, ToolKind, Usage};
use crate::sinks::ledger::Record;

/// The cost of a record at the prices of its day.
#[derive(Default)]
pub(super) struct RecordCost {
    /// `None`: nothing is billed, or a part has no price.
    pub(super) amount: Option<(Currency, Amount)>,
    /// The parts that are billed: their names, numbers and amounts.
    pub(super) parts: Vec<(&'static str, u64, Amount)>,
    /// Something is billed for which no price is known.
    pub(super) is_unpriced: bool,
}

impl RecordCost {
    pub(super) fn of(record: &Record, prices: &Prices) -> Self {
        let Some(used) = counts(record).billable() else { return Self::default() };
        let whole_input = counts(record).whole_input();
        let Some(rates) = rates(record, whole_input, prices) else {
            return Self { is_unpriced: true, ..Self::default() };
        };
        let Some(amount) = rates.amount(&used) else { return Self { is_unpriced: true, ..Self::default() } };
        Self { amount: Some((rates.currency, amount)), parts: parts(&rates, &used), is_unpriced: false }
    }
}

fn counts(record: &Record) -> TokenCounts {
    let number = |field: &str| record.get(field).as_u64();
    let usage = Usage {
        input_tokens: number("input_tokens"),
        cached_input_tokens: number("cached_input_tokens"),
        cache_write_input_tokens: number("cache_write_input_tokens"),
        cache_write_1h_input_tokens: number("cache_write_1h_input_tokens"),
        output_tokens: number("output_tokens"),
        ..Usage::default()
    };
    TokenCounts::new(&usage, tool_calls(record.get("tool_calls")), text(record, "endpoint"))
}

fn tool_calls(value: &Value) -> Option<ToolCalls> {
    let mut calls = ToolCalls::default();
    for (name, count) in value.as_object()? {
        calls.add(ToolKind::from_name(name)?, count.as_u64()?);
    }
    Some(calls)
}

fn rates(record: &Record, input_tokens: u64, prices: &Prices) -> Option<Rates> {
    let model = text(record, "model").or_else(|| text(record, "model_requested"))?;
    let (upstream, tier) = (text(record, "upstream"), text(record, "service_tier"));
    prices.find(&Served { model, upstream, at: started(record)?, tier, input_tokens }).copied()
}

fn parts(rates: &Rates, used: &Billable) -> Vec<(&'static str, u64, Amount)> {
    let none = Billable::default();
    let calls: u64 = used.tool_calls.iter().sum();
    let parts = [
        ("Input", used.input, Billable { input: used.input, ..none }),
        ("Cached input", used.cached_input, Billable { cached_input: used.cached_input, ..none }),
        ("Cache writes", used.cache_write, Billable { cache_write: used.cache_write, ..none }),
        ("Cache writes, 1 h", used.cache_write_1h, Billable { cache_write_1h: used.cache_write_1h, ..none }),
        ("Output", used.output, Billable { output: used.output, ..none }),
        ("Tool calls", calls, Billable { tool_calls: used.tool_calls, ..none }),
    ];
    let part = |(name, number, used): (_, u64, Billable)| Some((name, number, rates.amount(&used)?));
    parts.into_iter().filter(|(_, number, _)| *number > 0).filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::price::{Price, Rate};

    #[test]
    fn parts_add_up_to_the_cost() {
        let rate = |text: &str| Rate::parse(text).unwrap();
        let mut rates = Rates::new(Currency::parse("USD").unwrap(), rate("2"), rate("8"));
        rates.cached_input = rate("0.5");
        let prices = Prices::new([Price::new("m", rates)]);
        let fields = [
            ("started_at", Value::from("2026-01-01T00:00:00Z")),
            ("model", "m".into()),
            ("input_tokens", 1_000_000.into()),
            ("cached_input_tokens", 400_000.into()),
            ("output_tokens", 100_000.into()),
        ];
        let record = Record::new(fields.map(|(name, value)| (name.into(), value)).into());
        let cost = RecordCost::of(&record, &prices);
        assert_eq!(cost.amount.unwrap().1.to_string(), "2.2");
        let parts: Vec<_> = cost.parts.iter().map(|(name, _, amount)| format!("{name} {amount}")).collect();
        assert_eq!(parts, ["Input 1.2", "Cached input 0.2", "Output 0.8"]);
        assert!(RecordCost::of(&record, &Prices::default()).is_unpriced);
    }
}
