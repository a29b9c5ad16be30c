//! The costs of rows.

use super::*;
use crate::llm::usage::ToolKind;

/// The price of a million tokens: input, cached input, tokens written into a cache, output.
fn price(model: &str, from: Option<&str>, currency: &str, rates: [&str; 4]) -> Price {
    let [input, cached_input, cache_write, output] = rates.map(|rate| Rate::parse(rate).unwrap());
    let currency = Currency::parse(currency).unwrap();
    let from = from.map(|day| day.parse().unwrap());
    Price {
        from,
        ..Price::new(model, Rates { cached_input, cache_write, ..Rates::new(currency, input, output) })
    }
}

fn prices() -> Prices {
    Prices::new([
        price("gpt-1", None, "USD", ["2", "0.5", "2", "8"]),
        price("gpt-1", Some("2026-06-03"), "USD", ["1", "0.25", "1", "4"]),
        price("gpt-2", Some("2026-06-05"), "EUR", ["1.5", "1", "3", "7"]),
        Price { upstream: Some("azure".to_owned()), ..price("gpt", None, "USD", ["1", "1", "1", "1"]) },
        price("gpt-3", None, "EUR", ["0", "0", "0", "0"]),
        {
            let mut flex =
                Price { tier: Some("flex".to_owned()), ..price("gpt-1", None, "USD", ["1", "1", "1", "2"]) };
            flex.rates.cache_write_1h = Some(Rate::parse("3").unwrap());
            for kind in [ToolKind::WebSearch, ToolKind::FileSearch] {
                flex.rates.tool_calls[kind as usize] = Some(Rate::parse("2.5").unwrap());
            }
            flex
        },
        Price { above_input_tokens: Some(900), ..price("gpt-2", None, "EUR", ["3", "2", "6", "14"]) },
    ])
}

#[test]
fn costs_are_those_of_the_records_at_the_prices_of_their_days() {
    let mut records = records(2000);
    for (number, row) in records.iter_mut().enumerate() {
        row.usage.cache_write_input_tokens = (number % 10 == 1).then_some(3);
        if number % 4 == 0 {
            row.endpoint = Some("messages".into());
        }
    }
    let (_folder, path) = ledger(&records);
    let selection = Selection::since(records[100].started_at);
    let rows = || records[100..].iter();
    for by in [&[By::Day, By::Model, By::Upstream][..], &[By::Client], &[By::User, By::Hour], &[]] {
        let found = report(&path, &selection, by, &prices(), &Bounds::default()).unwrap();
        assert_eq!(found.groups, naive_of(rows(), by, &prices()), "by {by:?}");
        assert_eq!(found.total, naive_of(rows(), &[], &prices()).remove(0).sums, "by {by:?}");
        let [eur, usd] = found.currencies[..] else { panic!("{:?}", found.currencies) };
        let (eur, usd) = (found.total.cost.amount(eur).unwrap(), found.total.cost.amount(usd).unwrap());
        assert!(eur.to_f64() > 0.0 && usd.to_f64() > 0.0, "{eur} EUR {usd} USD");
        assert!(found.total.cost.unpriced > 0);
    }
}

#[test]
fn model_without_price_has_no_cost_and_not_0() {
    let mut records = records(8);
    for (number, row) in records.iter_mut().enumerate() {
        row.model = Some(["free", "unknown"][number % 2].into());
        (row.service_tier, row.tool_calls) = (None, None);
        row.usage.input_tokens = (number > 1).then_some(1_000_000);
        row.usage.output_tokens = None;
    }
    let (_folder, path) = ledger(&records);
    let prices = Prices::new([price("free", None, "USD", ["0"; 4])]);
    let selection = Selection::since(Timestamp::UNIX_EPOCH);
    let found = report(&path, &selection, &[By::Model], &prices, &Bounds::default()).unwrap();
    let usd = Currency::parse("USD").unwrap();
    let cost = |group: usize| {
        let cost = &found.groups[group].sums.cost;
        (cost.amount(usd).map(|amount| amount.to_string()), cost.unpriced)
    };
    assert_eq!(cost(0), (Some("0".to_owned()), 0), "a price of 0 is one");
    assert_eq!(cost(1), (None, 3), "and a request without counts is not one without a price");
}

#[test]
fn price_is_for_requested_model_if_response_names_none() {
    let mut records = records(2);
    for row in &mut records {
        row.model = None;
        row.model_requested = Some("gpt".into());
        (row.service_tier, row.tool_calls) = (None, None);
        row.upstream = Some("azure".into());
        row.usage.input_tokens = Some(500_000);
        row.usage.output_tokens = Some(500_000);
        row.usage.cached_input_tokens = None;
    }
    let (_folder, path) = ledger(&records);
    let selection = Selection::since(Timestamp::UNIX_EPOCH);
    let found = report(&path, &selection, &[], &prices(), &Bounds::default()).unwrap();
    let usd = Currency::parse("USD").unwrap();
    assert_eq!(found.total.cost.amount(usd).map(|amount| amount.to_string()).as_deref(), Some("2"));
}
