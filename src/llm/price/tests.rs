use super::*;

fn price(model: &str, upstream: Option<&str>, from: Option<&str>, input: u64) -> Price {
    let rate = Rate::parse(&input.to_string()).unwrap();
    Price {
        upstream: upstream.map(str::to_owned),
        from: from.map(|from| from.parse().unwrap()),
        ..Price::new(model, Rates::new(Currency::parse("USD").unwrap(), rate, rate))
    }
}

fn served<'a>(model: &'a str, upstream: Option<&'a str>, at: &str) -> Served<'a> {
    Served { model, upstream, at: at.parse().unwrap(), tier: None, input_tokens: 0 }
}

#[test]
fn narrowest_price_of_the_day_wins() {
    let prices = Prices::new([
        price("*", None, None, 1),
        price("gpt-4.1*", None, Some("2025-04-14"), 2),
        price("gpt-4.1*", None, Some("2026-01-01"), 3),
        price("gpt-4.1-mini*", None, None, 4),
        price("gpt-4.1-mini", None, None, 5),
        price("gpt-4.1*", Some("azure"), None, 6),
        price("gpt-4.1-*", None, Some("2030-01-01"), 7),
        price("*-4.1-*", None, Some("2040-01-01"), 8),
    ]);
    for (model, upstream, at, expected) in [
        ("llama", Some("openai"), "2025-01-01T00:00:00Z", 1),
        ("gpt-4.1-2025-04-14", Some("openai"), "2025-04-13T23:59:59.999999999Z", 1),
        ("gpt-4.1-2025-04-14", Some("openai"), "2025-04-14T00:00:00Z", 2),
        ("gpt-4.1-2025-04-14", None, "2026-01-01T00:00:00Z", 3),
        ("gpt-4.1-mini-2025-04-14", None, "2026-01-01T00:00:00Z", 4),
        ("gpt-4.1-mini", None, "2026-01-01T00:00:00Z", 5),
        ("gpt-4.1-mini", Some("azure"), "2026-01-01T00:00:00Z", 6),
        ("gpt-4.1-nano", None, "2041-01-01T00:00:00Z", 7),
    ] {
        let found = prices.find(&served(model, upstream, at)).unwrap();
        assert_eq!(found.input, Rate::parse(&expected.to_string()).unwrap(), "{model} {upstream:?} {at}");
    }
    assert_eq!(prices.changes().len(), 4);
    assert_eq!(prices.currencies().len(), 1);
}

#[test]
fn request_without_price_has_no_rates() {
    let prices = Prices::new([price("gpt*", Some("azure"), Some("2026-01-01"), 1)]);
    let has = |model, upstream, at: &str| prices.find(&served(model, upstream, at)).is_some();
    assert!(has("gpt", Some("azure"), "2026-01-01T00:00:00Z"));
    assert!(!has("gpt", Some("azure"), "2025-12-31T23:59:59Z"));
    assert!(!has("gpt", Some("openai"), "2026-01-01T00:00:00Z"));
    assert!(!has("gpt", None, "2026-01-01T00:00:00Z"));
    assert!(!has("claude", Some("azure"), "2026-01-01T00:00:00Z"));
    assert!(Prices::default().is_empty());
}

#[test]
fn price_holds_for_its_tier_and_its_input() {
    let with = |tier: Option<&str>, above: Option<u64>, input: u64| Price {
        tier: tier.map(str::to_owned),
        above_input_tokens: above,
        ..price("gpt*", None, None, input)
    };
    let prices = Prices::new([
        with(None, None, 1),
        with(None, Some(200), 2),
        with(None, Some(1000), 3),
        with(Some("flex"), None, 4),
        with(Some("Priority"), None, 5),
        with(Some("priority"), Some(200), 6),
        price("*", None, None, 7),
    ]);
    for (tier, input_tokens, expected) in [
        (None, 200, Some(1)),
        (Some("default"), 0, Some(1)),
        (Some("ON_DEMAND"), 0, Some(1)),
        (Some("auto"), 0, Some(1)),
        (None, 201, Some(2)),
        (None, 1001, Some(3)),
        (Some("flex"), 200, Some(4)),
        (Some("FLEX"), 200, Some(4)),
        (Some("priority"), 200, Some(5)),
        (Some("priority"), 1000, Some(6)),
        // A long input costs more, and no price of this tier covers it.
        (Some("flex"), 201, None),
        (Some("priority"), 1001, None),
        (Some("batch"), 0, None),
    ] {
        let served = Served { tier, input_tokens, ..served("gpt-x", None, "2026-01-01T00:00:00Z") };
        let expected = expected.map(|input: u64| Rate::parse(&input.to_string()).unwrap());
        assert_eq!(prices.find(&served).map(|rates| rates.input), expected, "{tier:?} {input_tokens}");
    }
    let other = Served { input_tokens: 5000, ..served("llama", None, "2026-01-01T00:00:00Z") };
    assert!(prices.find(&other).is_some(), "of other models nothing is known to cost more");
    assert_eq!(prices.thresholds(), [200, 1000]);
}

#[test]
fn price_for_long_inputs_outlives_later_one_for_short_ones() {
    let long = Price { above_input_tokens: Some(200), ..price("gpt*", None, Some("2025-01-01"), 2) };
    let prices = Prices::new([long, price("gpt*", None, Some("2026-01-01"), 1)]);
    let find = |at, input_tokens| prices.find(&Served { input_tokens, ..served("gpt", None, at) });
    assert_eq!(find("2026-06-01T00:00:00Z", 201).unwrap().input, Rate::parse("2").unwrap());
    assert_eq!(find("2026-06-01T00:00:00Z", 200).unwrap().input, Rate::parse("1").unwrap());
    assert!(find("2025-06-01T00:00:00Z", 200).is_none());
}

#[test]
fn price_begins_at_midnight_of_the_zone() {
    let prices = Prices::new([price("gpt", None, None, 1), price("gpt", None, Some("2026-03-29"), 2)]);
    let berlin = prices.clone().in_zone(&TimeZone::get("Europe/Berlin").unwrap());
    let rate = |prices: &Prices, at| prices.find(&served("gpt", None, at)).unwrap().input;
    let [before, after] = ["1", "2"].map(|rate| Rate::parse(rate).unwrap());
    assert_eq!(
        (rate(&prices, "2026-03-28T23:59:59Z"), rate(&prices, "2026-03-29T00:00:00Z")),
        (before, after)
    );
    assert_eq!(
        (rate(&berlin, "2026-03-28T22:59:59Z"), rate(&berlin, "2026-03-28T23:00:00Z")),
        (before, after)
    );
    assert_eq!(berlin.changes(), ["2026-03-28T23:00:00Z".parse().unwrap()]);
}
