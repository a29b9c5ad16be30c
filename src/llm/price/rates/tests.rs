use super::*;

fn rate(text: &str) -> Rate {
    Rate::parse(text).unwrap_or_else(|reason| panic!("{reason}"))
}

fn rates() -> Rates {
    Rates {
        currency: Currency::parse("USD").unwrap(),
        input: rate("2.00"),
        cached_input: rate("0.5"),
        cache_write: rate("2.5"),
        cache_write_1h: None,
        output: rate("8"),
        tool_calls: [None; ToolKind::COUNT],
    }
}

fn cost(billable: Option<Billable>) -> String {
    rates().amount(&billable.unwrap()).unwrap().to_string()
}

fn billable(
    input: Option<u64>,
    cached_input: Option<u64>,
    cache_write: Option<u64>,
    output: Option<u64>,
    cache_is_apart: bool,
) -> Option<Billable> {
    TokenCounts { input, cached_input, cache_write, output, cache_is_apart, ..TokenCounts::default() }
        .billable()
}

#[test]
fn rate_parses_exactly() {
    assert_eq!(rate("2"), Rate(2_000_000));
    assert_eq!(rate("0.075"), Rate(75_000));
    assert_eq!(rate("0.000001"), Rate(1));
    assert_eq!(rate("1000000000"), Rate(MOST * 1_000_000));
    for (text, reason) in [
        ("", "is not a price"),
        ("-1", "is not a price"),
        ("1e3", "is not a price"),
        ("NaN", "is not a price"),
        (".5", "is not a price"),
        ("0.0000001", "decimals"),
        ("1000000001", "more than"),
        ("99999999999999999999999", "more than"),
    ] {
        let error = Rate::parse(text).unwrap_err();
        assert!(error.contains(reason), "{text}: {error}");
    }
}

#[test]
fn cached_input_is_a_part_of_the_input_but_for_anthropic() {
    // 1000 tokens of input, of which 600 are read from the cache and 100 written into it; 50 of
    // output.
    let openai = billable(Some(1000), Some(600), Some(100), Some(50), false);
    assert_eq!(
        openai,
        Some(Billable { input: 300, cached_input: 600, cache_write: 100, output: 50, ..Billable::default() })
    );
    assert_eq!(cost(openai), "0.00155");
    // This is the same request in Anthropic's counts.
    assert_eq!(billable(Some(300), Some(600), Some(100), Some(50), true), openai);
    assert_eq!(
        billable(Some(300), None, None, Some(50), true),
        billable(Some(300), None, None, Some(50), false)
    );
}

#[test]
fn more_cached_input_than_input_leaves_none_at_the_full_price() {
    let grok = billable(Some(235), Some(373), None, Some(1), false);
    assert_eq!(grok, Some(Billable { cached_input: 373, output: 1, ..Billable::default() }));
    let end = billable(Some(1), Some(u64::MAX), Some(u64::MAX), None, false);
    assert_eq!(end.unwrap().input, 0);
}

#[test]
fn missing_counts_have_no_cost_and_0_costs_0() {
    assert_eq!(billable(None, Some(1), Some(1), None, false), None);
    assert_eq!(cost(billable(Some(0), None, None, None, false)), "0");
    assert_eq!(cost(billable(None, None, None, Some(1), false)), "0.000008");
}

#[test]
fn cost_of_sum_is_sum_of_costs() {
    let mut sum = Billable::default();
    let mut cost = Amount::default();
    for number in 0..1000_u64 {
        let part = Billable {
            input: number * 7,
            cached_input: number % 13,
            cache_write: number % 3,
            output: number,
            ..Billable::default()
        };
        cost = cost.plus(rates().amount(&part).unwrap());
        sum = Billable {
            input: sum.input + part.input,
            cached_input: sum.cached_input + part.cached_input,
            cache_write: sum.cache_write + part.cache_write,
            output: sum.output + part.output,
            ..Billable::default()
        };
    }
    assert_eq!(rates().amount(&sum), Some(cost));
    let end = Billable { input: u64::MAX, output: u64::MAX, ..Billable::default() };
    assert!(rates().amount(&end).unwrap() > cost, "no overflow");
}

#[test]
fn missing_rate_gives_no_cost() {
    let counts = TokenCounts {
        input: Some(1_000),
        cache_write: Some(500),
        cache_write_1h: Some(200),
        output: Some(10),
        tool_calls: Some(ToolCalls::of(ToolKind::WebSearch, 3)),
        cache_is_apart: true,
        ..TokenCounts::default()
    };
    let used = counts.billable().unwrap();
    assert_eq!((used.cache_write, used.cache_write_1h, counts.whole_input()), (300, 200, 1_500));
    let mut rates = rates();
    assert_eq!(rates.amount(&used), None);
    rates.cache_write_1h = Some(rate("4"));
    assert_eq!(rates.amount(&used), None);
    rates.tool_calls[ToolKind::WebSearch as usize] = Some(rate("10"));
    // 1000 x 2.00 + 300 x 2.50 + 200 x 4.00 + 10 x 8.00, of a million each, and 3 x 10.00 of a
    // thousand.
    assert_eq!(rates.amount(&used).unwrap().to_string(), "0.03363");
    let none = TokenCounts { tool_calls: None, cache_write_1h: Some(0), ..counts };
    assert!(self::rates().amount(&none.billable().unwrap()).is_some(), "0 of an hour cost nothing");
}

#[test]
fn calls_are_paid_for_without_tokens_too() {
    let counts =
        TokenCounts { tool_calls: Some(ToolCalls::of(ToolKind::SearchUnits, 2)), ..TokenCounts::default() };
    let mut rates = rates();
    rates.tool_calls[ToolKind::SearchUnits as usize] = Some(rate("2"));
    assert_eq!(rates.amount(&counts.billable().unwrap()).unwrap().to_string(), "0.004");
    let none = TokenCounts { tool_calls: Some(ToolCalls::default()), ..TokenCounts::default() };
    assert_eq!(none.billable(), None);
}

#[test]
fn more_writes_of_an_hour_than_writes_are_all_of_them() {
    let counts = TokenCounts { input: Some(10), cache_write_1h: Some(4), ..TokenCounts::default() };
    let used = counts.billable().unwrap();
    assert_eq!((used.input, used.cache_write, used.cache_write_1h), (6, 0, 4));
}
