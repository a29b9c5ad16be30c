use super::*;
use crate::llm::price::Currency;

const DAY: &str = "2026-12-01";

fn rates(input: &str, output: &str) -> Rates {
    let rate = |text| Rate::parse(text).unwrap();
    Rates::new(Currency::parse("USD").unwrap(), rate(input), rate(output))
}

fn price(model: &str, above: Option<u64>, from: Option<&str>, input: &str) -> Price {
    Price {
        upstream: Some("openai".to_owned()),
        from: from.map(|from| from.parse().unwrap()),
        above_input_tokens: above,
        ..Price::new(model, rates(input, "8"))
    }
}

fn update(prices: &[Price], wanted: &[Price]) -> PriceUpdate {
    PriceUpdate::new(prices.to_vec(), wanted.to_vec(), DAY.parse().unwrap())
}

fn changes(update: &PriceUpdate) -> Vec<String> {
    update.changes.iter().map(ToString::to_string).collect()
}

#[test]
fn first_prices_are_always_valid_and_kept_the_second_time() {
    let wanted = [price("b", None, None, "2"), price("b", Some(200), None, "4"), price("a", None, None, "1")];
    let first = update(&[], &wanted);
    assert_eq!(
        changes(&first),
        [
            "+ b (openai): input 2, output 8",
            "+ b (openai, above 200 tokens): input 4, output 8",
            "+ a (openai): input 1, output 8"
        ]
    );
    assert_eq!(first.prices, [wanted[2].clone(), wanted[0].clone(), wanted[1].clone()]);
    let second = update(&first.prices, &wanted);
    assert_eq!((second.changes.len(), second.unchanged), (0, 3));
    assert_eq!(second.prices, first.prices);
}

#[test]
fn changed_price_is_valid_from_the_day_on() {
    let old = price("a", None, None, "2");
    let second = update(std::slice::from_ref(&old), &[price("a", None, None, "1")]);
    assert_eq!(
        changes(&second),
        ["~ a (openai): input 2 → 1, cached_input 2 → 1, cache_write 2 → 1 from 2026-12-01"]
    );
    assert_eq!(second.prices, [old.clone(), price("a", None, Some(DAY), "1")]);
    let third = update(&second.prices, &[price("a", None, None, "3")]);
    assert_eq!(third.prices, [old, price("a", None, Some(DAY), "3")], "a price of the same day is replaced");
}

#[test]
fn price_of_a_later_day_stays() {
    let later = price("a", None, Some("2027-01-01"), "5");
    let prices = [price("a", None, None, "2"), later.clone()];
    let same = update(&prices, &[price("a", None, None, "2")]);
    assert_eq!((same.prices.as_slice(), same.unchanged), (prices.as_slice(), 1));
    assert_eq!(update(&prices, &[price("a", None, None, "1")]).prices.last(), Some(&later));
}

#[test]
fn new_step_of_a_known_model_begins_on_the_day() {
    let second = update(
        &[price("a", None, None, "2")],
        &[price("a", None, None, "2"), price("a", Some(200), None, "4")],
    );
    assert_eq!(second.prices[1], price("a", Some(200), Some(DAY), "4"));
}

#[test]
fn step_that_has_ended_gets_the_price_below() {
    let prices = [price("a", None, None, "2"), price("a", Some(200), None, "4")];
    let second = update(&prices, &[price("a", None, None, "2")]);
    assert_eq!(second.prices[2], price("a", Some(200), Some(DAY), "2"));
    let third = update(&second.prices, &[price("a", None, None, "2")]);
    assert_eq!(third.prices, second.prices);
}

#[test]
fn text_has_the_keys_of_prices() {
    let whole = Price {
        tier: Some("flex".to_owned()),
        rates: Rates {
            cached_input: Rate::parse("0.075").unwrap(),
            cache_write_1h: Some(Rate::parse("4").unwrap()),
            tool_calls: {
                let mut calls = [None; ToolKind::COUNT];
                calls[ToolKind::WebSearch as usize] = Some(Rate::parse("10").unwrap());
                calls
            },
            ..rates("2", "8.25")
        },
        ..price("a\"b", Some(200_000), Some(DAY), "2")
    };
    let text = prices_text(&[whole]);
    let entry = "[[prices]]\nmodel = 'a\"b'\nupstream = \"openai\"\nfrom = \"2026-12-01\"\ntier = \"flex\"\n\
                 above_input_tokens = 200000\ninput = 2\ncached_input = 0.075\ncache_write_1h = 4\noutput = 8.25\n\
                 tool_calls = { web_search = 10 }\n";
    assert!(text.ends_with(entry), "{text}");
}
