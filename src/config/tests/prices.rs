//! `[[prices]]`: values and mistakes.

use super::mistakes::each;
use super::*;
use crate::llm::price::{Rate, Served};
use crate::llm::usage::ToolKind;

const WHOLE: &str = "[[prices]]\nmodel = \"gpt*\"\ninput = 2\noutput = 8.25\n";

fn served<'a>(model: &'a str, upstream: Option<&'a str>, at: &str) -> Served<'a> {
    Served { model, upstream, at: at.parse().unwrap(), tier: None, input_tokens: 0 }
}

#[test]
fn price_has_its_rates_upstream_and_first_day() {
    let text = format!(
        "{OPENAI}[[prices]]\nmodel = \"gpt-4.1*\"\nupstream = \"openai\"\nfrom = \"2025-04-14\"\ncurrency = \"EUR\"\n\
         input = 2.00\ncached_input = 0.075\ncache_write = 2.5\noutput = 8\n\
         [[prices]]\nmodel = \"gpt-4.1*\"\nupstream = \"openai\"\nfrom = 2026-01-01\ninput = 1\noutput = 0\n"
    );
    let prices = settings(&text).prices;
    let rate = |text| Rate::parse(text).unwrap();
    let first = prices.find(&served("gpt-4.1-mini", Some("openai"), "2025-12-31T23:59:59Z")).unwrap();
    assert_eq!(first.currency.as_str(), "EUR");
    assert_eq!(
        [first.input, first.cached_input, first.cache_write, first.output],
        [rate("2"), rate("0.075"), rate("2.5"), rate("8")]
    );
    let second = prices.find(&served("gpt-4.1-mini", Some("openai"), "2026-01-01T00:00:00Z")).unwrap();
    assert_eq!(second.currency.as_str(), "USD", "where nobody says");
    assert_eq!(
        [second.input, second.cached_input, second.cache_write, second.output],
        [rate("1"), rate("1"), rate("1"), rate("0")],
        "input of other kinds costs what input costs"
    );
    assert!(prices.find(&served("gpt-4.1", Some("openai"), "2025-04-13T00:00:00Z")).is_none());
    assert!(settings(OPENAI).prices.is_empty(), "none is built in");
}

#[test]
fn price_mistakes_name_the_key_and_what_to_write() {
    each(
        OPENAI,
        &[
            ("[[prices]]\ninput = 1\noutput = 1", "prices[0].model", "is missing: write a model"),
            ("[[prices]]\nmodel = \"\"\ninput = 1\noutput = 1", "prices[0].model", "write \"*\""),
            ("[[prices]]\nmodel = \"a\"\noutput = 1", "prices[0].input", "a million tokens of input cost"),
            ("[[prices]]\nmodel = \"a\"\ninput = 1", "prices[0].output", "0 where there is none"),
            (
                "[[prices]]\nmodel = \"a\"\ninput = \"1\"\noutput = 1",
                "prices[0].input",
                "must be a price without quotes, such as 2.50, not text",
            ),
            ("[[prices]]\nmodel = \"a\"\ninput = -1.5\noutput = 1", "prices[0].input", "-1.5 is not a price"),
            ("[[prices]]\nmodel = \"a\"\ninput = nan\noutput = 1", "prices[0].input", "NaN is not a price"),
            ("[[prices]]\nmodel = \"a\"\ninput = inf\noutput = 1", "prices[0].input", "inf is not a price"),
            (
                "[[prices]]\nmodel = \"a\"\ninput = 0.0000001\noutput = 1",
                "prices[0].input",
                "0.0000001 has more than 6 decimals",
            ),
            (
                "[[prices]]\nmodel = \"a\"\ninput = 1\noutput = 2e9",
                "prices[0].output",
                "2000000000 is more than",
            ),
            (&format!("{WHOLE}currency = \"usd\""), "prices[0].currency", "three capital letters"),
            (&format!("{WHOLE}currency = \"€\""), "prices[0].currency", "not a currency code"),
            (&format!("{WHOLE}from = \"01.01.2026\""), "prices[0].from", "is not a day"),
            (&format!("{WHOLE}from = \"2026-02-30\""), "prices[0].from", "is not a day"),
            (&format!("{WHOLE}from = 2026-01-01T00:00:00Z"), "prices[0].from", "is not a day"),
            (&format!("{WHOLE}from = 2026"), "prices[0].from", "must be a day, such as"),
            (&format!("{WHOLE}cached = 1.0"), "prices[0].cached", "did you mean `cached_input`?"),
            (&format!("{WHOLE}{WHOLE}"), "prices[1]", "of prices[0]: keep one of them"),
            ("[prices]\nmodel = \"a\"", "prices", "must be [[prices]] tables"),
        ],
    );
}

#[test]
fn price_of_an_unknown_upstream_is_warned_of() {
    let loaded = from_text(&format!("{OPENAI}{WHOLE}upstream = \"azure\"")).unwrap();
    let [warning] = &loaded.warnings[..] else { panic!("{:?}", loaded.warnings) };
    assert!(warning.contains("prices[0].upstream: there is no upstream \"azure\" now"), "{warning}");
}

#[test]
fn ledger_reader_needs_valid_prices_and_no_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("streamgauge.toml");
    let load = |text: &str| {
        std::fs::write(&file, text).unwrap();
        load_ledger(&Sources { file: Some(file.clone()), ..Sources::default() }, Which::Configured)
    };
    let locked = "[upstreams.openai]\napi_key = { env = \"NOT_THERE\" }\n[ledger]\npath = \"a.db\"\n";
    let team = "[clients.a]\nkey = { env = \"NOT_THERE\" }\nteam = \"search\"\n";
    let ReadLedger { ledger, prices, teams } =
        load(&format!("{locked}{team}{WHOLE}")).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(teams, [("a".to_owned(), "search".to_owned())].into());
    assert_eq!(ledger.path.as_deref(), Some(std::path::Path::new("a.db")));
    assert!(prices.find(&served("gpt", None, "2026-01-01T00:00:00Z")).is_some());
    for (text, reason) in [
        (format!("{locked}{WHOLE}cached = 1"), "prices[0].cached"),
        (format!("{locked}{WHOLE}cached_input = \"\""), "prices[0].cached_input"),
        (format!("{locked}retain = \"1d\"\n"), "ledger.retain"),
    ] {
        let found = lines(load(&text).unwrap_err());
        assert_eq!(found.len(), 2, "the missing secret too, each once: {found:?}");
        assert!(found.iter().any(|line| line.contains(reason)), "{reason}: {found:?}");
    }
}

#[test]
fn price_may_have_a_tier_an_input_and_tool_calls() {
    let text = format!(
        "{OPENAI}{WHOLE}cache_write_1h = 4\ntool_calls = {{ web_search = 10, file_search = 2.5 }}\n\
         {WHOLE}tier = \"flex\"\n{WHOLE}above_input_tokens = 200000\n\
         {WHOLE}tier = \"Flex\"\nabove_input_tokens = 200000\n"
    );
    let prices = settings(&text).prices;
    let standard = served("gpt", None, "2026-01-01T00:00:00Z");
    let rates = prices.find(&standard).unwrap();
    let rate = |text| Some(Rate::parse(text).unwrap());
    assert_eq!(rates.cache_write_1h, rate("4"));
    assert_eq!(rates.tool_calls[ToolKind::WebSearch as usize], rate("10"));
    assert_eq!(rates.tool_calls[ToolKind::FileSearch as usize], rate("2.5"));
    assert_eq!(rates.tool_calls[ToolKind::WebFetch as usize], None);
    for (tier, input_tokens) in [(Some("flex"), 0), (None, 200_001), (Some("flex"), 200_001)] {
        let rates = prices.find(&Served { tier, input_tokens, ..standard }).unwrap();
        assert_eq!(rates.cache_write_1h, None, "{tier:?} {input_tokens}: it is another price");
    }
    each(
        OPENAI,
        &[
            (
                &format!("{WHOLE}tool_calls = {{ web = 1 }}"),
                "prices[0].tool_calls.web",
                "write one of code_interpreter",
            ),
            (
                &format!("{WHOLE}tool_calls = {{ web_search = \"1\" }}"),
                "prices[0].tool_calls.web_search",
                "must be a price without quotes, such as 10.00",
            ),
            (
                &format!("{WHOLE}tool_calls = {{ web_search = -1 }}"),
                "prices[0].tool_calls.web_search",
                "-1 is not a price of a thousand calls",
            ),
            (&format!("{WHOLE}above_input_tokens = -1"), "prices[0].above_input_tokens", "0 or more"),
            (&format!("{WHOLE}tier = 1"), "prices[0].tier", "text"),
            (
                &format!("{WHOLE}tier = \"flex\"\n{WHOLE}tier = \"FLEX\"\n"),
                "prices[1]",
                "the tier and the input of prices[0]",
            ),
            (&format!("{WHOLE}tier = \"default\"\n{WHOLE}"), "prices[1]", "of prices[0]"),
        ],
    );
}

/// A folder with a configuration and a file of prices.
fn with_prices_file(text: &str, prices: &str) -> (tempfile::TempDir, Sources) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("streamgauge.toml"), text).unwrap();
    std::fs::write(folder.path().join("prices.toml"), prices).unwrap();
    let file = Some(folder.path().join("streamgauge.toml"));
    (folder, Sources { file, ..Sources::default() })
}

#[test]
fn prices_of_the_file_yield_to_those_of_the_configuration() {
    let stored = "[[prices]]\nmodel = \"gpt-4.1\"\nupstream = \"openai\"\ninput = 3\noutput = 9\n\
                  [[prices]]\nmodel = \"o3\"\ninput = 4\noutput = 9\n";
    let (folder, sources) = with_prices_file(&format!("{OPENAI}{WHOLE}"), stored);
    let loaded = load(&sources).unwrap();
    let input = |prices: &Prices, model| {
        prices
            .find(&served(model, Some("openai"), "2026-01-01T00:00:00Z"))
            .map(|rates| rates.input.to_string())
    };
    let expected = (Some("2".to_owned()), Some("4".to_owned()));
    let prices = &loaded.settings.prices;
    assert_eq!(
        (input(prices, "gpt-4.1"), input(prices, "o3")),
        expected,
        "a pattern before an imported name"
    );
    let ReadLedger { prices, .. } = load_ledger(&sources, Which::Local).unwrap();
    assert_eq!((input(&prices, "gpt-4.1"), input(&prices, "o3")), expected);
    assert!(loaded.files.now().has_contents_of(&loaded.files));
    std::fs::remove_file(folder.path().join("prices.toml")).unwrap();
    let gone = loaded.files.now();
    assert!(!gone.has_contents_of(&loaded.files), "a reload is due");
    let again = load_again(&sources, &loaded.files).unwrap();
    assert_eq!(input(&again.settings.prices, "o3"), None);
    assert!(again.files.has_contents_of(&gone));
}

#[test]
fn mistakes_in_the_file_of_prices_name_it() {
    let twice = "[[prices]]\nmodel = \"a\"\ninput = 1\noutput = 1\n".repeat(2);
    for (stored, place) in [
        (twice.as_str(), "prices.toml:5: prices[1]: is for the model"),
        ("[[prices]]\nmodel = \"a\"\ninput = 1", "prices.toml:1: prices[0].output: is missing"),
        ("[server]\nlisten = \"127.0.0.1:1\"", "prices.toml:1: server"),
        ("[[prices", "prices.toml:1:"),
    ] {
        let (_folder, sources) = with_prices_file(OPENAI, stored);
        for error in [load(&sources).unwrap_err(), load_ledger(&sources, Which::Local).unwrap_err()] {
            assert!(error.to_string().contains(place), "{error}");
        }
        let (_folder, sources) = with_prices_file(&format!("{OPENAI}[ledger]\nprices_file = \"\"\n"), stored);
        assert!(load(&sources).unwrap().settings.prices.is_empty());
    }
}

#[test]
fn price_place_has_the_upstreams_without_their_secrets() {
    let text = "[upstreams.openai]\n[upstreams.x]\nprovider = \"other\"\nurl = \"https://api.groq.com/openai/v1\"\n\
                [upstreams.y]\nprovider = \"other\"\nurl = 1\n[upstreams.z]\n";
    let (_folder, sources) = with_prices_file(text, "[[prices]]\nmodel = \"a\"\ninput = 1\noutput = 1\n");
    let place = load_price_place(&sources, Which::Local).unwrap();
    let places: Vec<_> =
        place.upstreams.iter().map(|place| (place.name.as_str(), place.host.as_str())).collect();
    assert_eq!(places, [("openai", "api.openai.com"), ("x", "api.groq.com"), ("y", "")]);
    assert!(place.stored[0].is_imported);
}
