//! Limits of clients, of teams and of all clients together.

use jiff::tz::TimeZone;

use super::clients::{KEY, loaded};
use super::*;
use crate::gate::AllowedEndpoints;
use crate::gate::limit::{
    AtLimit, BucketRate, Calendar, LimitBound, LimitFilter, LimitSpec, Quantity, Units, Unpriced, Weights,
};
use crate::llm::route::Glob;
use crate::support::calendar::Period;

#[test]
fn limits_are_rates_and_running_requests() {
    let text = format!(
        "[clients.a]\n{KEY}team = \"t\"\nlimits = [{{ requests = 600, per = \"minute\" }}, {{ concurrent = 20, at_limit = \"warn\" }}]\n\
         [teams.t]\nlimits = [{{ tokens = \"200k\", per = \"hour\", burst = \"1M\" }}]\n"
    );
    let settings = loaded(&text).settings;
    let rate = |limit, period, burst| {
        LimitBound::Rate(BucketRate { limit: Units(limit), period, burst: Units(burst) })
    };
    let (minute, hour) = (60_000_000_000, 3_600_000_000_000);
    let spec = |quantity, bound, at_limit| LimitSpec {
        quantity,
        bound,
        at_limit,
        filter: LimitFilter::default(),
        unpriced: Unpriced::Refuse,
    };
    assert_eq!(
        settings.clients[0].limits,
        [
            spec(Quantity::Requests, rate(600, minute, 600), AtLimit::Refuse),
            spec(Quantity::Concurrent, LimitBound::Concurrent(Units(20)), AtLimit::Warn),
        ]
    );
    let tokens = Quantity::Tokens(Weights::Reported);
    assert_eq!(
        settings.teams[0].limits,
        [spec(tokens, rate(200_000_000, hour, 1_000_000_000), AtLimit::Refuse)]
    );
    // The team counts tokens.
    assert_eq!(settings.clients[0].endpoints, AllowedEndpoints::Metered);
}

#[test]
fn limits_of_periods_are_in_the_zone_of_the_ledger() {
    let limits = "[clients.a]\n{KEY}limits = [{ requests = 5, per = \"week\" }]\n".replace("{KEY}", KEY);
    let settings = loaded(&format!("[ledger]\ntime_zone = \"Europe/Berlin\"\n{limits}")).settings;
    let calendar = Calendar { period: Period::Week, zone: TimeZone::get("Europe/Berlin").unwrap() };
    let bound = LimitBound::Period { limit: Units(5), calendar };
    assert_eq!(settings.clients[0].limits[0].bound, bound);
    for (ledger, reason) in [
        ("path = \"\"", "is read from the ledger at the start: name a file in ledger.path"),
        (
            "retention = \"7d\"",
            "up to 7 days, whose use is read from the ledger at the start: keep its records longer",
        ),
    ] {
        for owner in ["clients.a", "teams.t"] {
            let limits = limits.replace("[clients.a]\n", &format!("[{owner}]\n"));
            let limits = if owner == "teams.t" { limits.replace(KEY, "") } else { limits };
            let found = mistakes(&format!("{OPENAI}[ledger]\n{ledger}\n{limits}"));
            let is_named =
                |line: &String| line.contains(&format!("{owner}.limits: ")) && line.contains(reason);
            assert!(found.iter().any(is_named), "{owner} {ledger}: {found:?}");
        }
    }
    loaded(&format!("[ledger]\nretention = \"8d\"\n{limits}"));
}

#[test]
fn limits_of_all_clients_are_before_the_first_table() {
    let limits = "limits = [{ tokens = 5, per = \"hour\", model = \"gpt*\" }]\n";
    let client = format!("[clients.a]\n{KEY}");
    let settings = from_text(&format!("{limits}{OPENAI}{client}")).unwrap().settings;
    assert_eq!(settings.limits.len(), 1);
    assert_eq!(settings.clients[0].endpoints, AllowedEndpoints::Metered, "they count tokens");
    for (text, mistake) in [
        ("limits = [{ requests = 0 }]\n", "limits[0].requests: is 0"),
        ("limits = [{ concurrent = 1, each = \"user\" }]\n", "limits[0].each: "),
        ("limits = [{ cost = 1, per = \"hour\" }]\n", "limits: has a limit of cost in USD"),
        ("limits = [{ concurrent = 1, upstream = \"x\" }]\n", "limits[0].upstream: there is no upstream"),
    ] {
        let found = mistakes(&format!("{text}{OPENAI}"));
        assert!(found.iter().any(|line| line.contains(mistake)), "{text}: {found:?}");
    }
    let found = mistakes(&format!("{}{OPENAI}[ledger]\npath = \"\"\n", limits.replace("hour", "day")));
    assert!(found.iter().any(|line| line.contains("limits: has a period")), "{found:?}");
    let prices = "[[prices]]\nmodel = \"o3\"\ninput = 1\noutput = 1\n";
    let text = format!("{}{OPENAI}{client}models = [\"gpt-5\"]\n{prices}", limits.replace("tokens", "cost"));
    let warnings = from_text(&text).unwrap().warnings;
    assert!(warnings.iter().any(|line| line.contains("no [[prices]] are for \"gpt-5\"")), "{warnings:?}");
}

#[test]
fn limit_is_for_a_model_and_an_upstream_and_weighs_kinds() {
    let settings = loaded(&format!(
        "[clients.a]\n{KEY}limits = [\
         {{ tokens = \"1M\", per = \"day\", model = \"gpt-5*\", upstream = \"openai\", count = {{ cached_input = 0.1, output = 4 }} }},\
         {{ concurrent = 1, model = \"o3\" }}]\n"
    ))
    .settings;
    let [tokens, concurrent] = &settings.clients[0].limits[..] else { panic!() };
    let filter =
        LimitFilter { model: Some(Glob::new("gpt-5*")), upstream: Some("openai".into()), each_user: false };
    assert_eq!(tokens.filter, filter);
    let weights = Weights::ByKind {
        input: 1_000,
        cached_input: 100,
        cache_write: 1_000,
        output: 4_000,
        reasoning: 4_000,
    };
    assert_eq!(tokens.quantity, Quantity::Tokens(weights));
    assert_eq!(concurrent.filter, LimitFilter { model: Some(Glob::new("o3")), ..LimitFilter::default() });
}

#[test]
fn limit_of_cost_is_exact_and_needs_prices_in_its_currency() {
    let text = |limits: &str, rest: &str| {
        format!("{OPENAI}[clients.a]\n{KEY}models = [\"gpt-5*\", \"o3\"]\nlimits = [{limits}]\n{rest}")
    };
    let prices = "[[prices]]\nmodel = \"gpt-5-*\"\ncurrency = \"EUR\"\ninput = 1\noutput = 2\n";
    let limits = "{ cost = 0.1, per = \"day\", currency = \"EUR\" }, \
                  { cost = 50, per = \"hour\", burst = 100.5, currency = \"EUR\", unpriced = \"allow\" }";
    let loaded = from_text(&text(limits, prices)).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let [day, hour] = &loaded.settings.clients[0].limits[..] else { panic!() };
    assert!(matches!(day.bound, LimitBound::Period { limit: Units(100_000_000_000), .. }), "{day:?}");
    let rate = BucketRate {
        limit: Units(50_000_000_000_000),
        period: 3_600_000_000_000,
        burst: Units(100_500_000_000_000),
    };
    assert_eq!((&hour.bound, hour.unpriced), (&LimitBound::Rate(rate), Unpriced::Allow));
    assert_eq!(loaded.settings.clients[0].endpoints, AllowedEndpoints::Metered);
    let [warning] = &loaded.warnings[..] else { panic!("{:?}", loaded.warnings) };
    let reason = "clients.a.models: no [[prices]] are for \"o3\", so that a limit of cost refuses requests";
    assert!(warning.contains(reason), "{warning}");
    let allowed = "{ cost = 1, per = \"day\", currency = \"EUR\", unpriced = \"allow\" }";
    assert_eq!(from_text(&text(allowed, prices)).unwrap().warnings, [""; 0]);
    let found = mistakes(&text("{ cost = 1, per = \"day\" }", prices));
    let reason =
        "clients.a.limits: has a limit of cost in USD, and no [[prices]] are in it: write currency = \"EUR\"";
    assert!(found[0].contains(reason), "{found:?}");
}

#[test]
fn mistakes_of_limits_are_named() {
    for (limit, key, reason) in [
        ("1", "[0]", "must be a table"),
        ("{ per = \"minute\" }", "[0].requests", "is missing; write one of requests = 600"),
        ("{ requests = 1 }", "[0].per", "is missing: write per = \"second\""),
        ("{ requests = 0, per = \"minute\" }", "[0].requests", "is 0, which would refuse every request"),
        ("{ requests = -1, per = \"minute\" }", "[0].requests", "must be a whole number"),
        (
            "{ tokens = \"2K\", per = \"minute\" }",
            "[0].tokens",
            "\"2K\" is not a number: write a whole number",
        ),
        ("{ tokens = \"k\", per = \"minute\" }", "[0].tokens", "is not a number"),
        ("{ tokens = 1.5, per = \"minute\" }", "[0].tokens", "must be a whole number"),
        ("{ tokens = \"2000000M\", per = \"minute\" }", "[0].tokens", "must be at most"),
        (
            "{ requests = 1, tokens = 1, per = \"minute\" }",
            "[0].tokens",
            "is beside requests: write a limit for each",
        ),
        (
            "{ requests = 1, per = \"year\" }",
            "[0].per",
            "\"year\" is unknown: write \"second\", \"minute\", \"hour\", \"day\", \"week\" or \"month\"",
        ),
        (
            "{ requests = 1, per = \"day\", burst = 2 }",
            "[0].burst",
            "all of a longer period may come at once",
        ),
        ("{ concurrent = 1, per = \"minute\" }", "[0].per", "concurrent bounds running requests: remove it"),
        ("{ concurrent = 1, burst = 2 }", "[0].burst", "concurrent bounds running requests: remove it"),
        (
            "{ requests = 1, per = \"minute\", at_limit = \"cut\" }",
            "[0].at_limit",
            "is \"cut\", which ends responses whose tokens exceed the limit, and requests counts none: write \"refuse\"",
        ),
        ("{ concurrent = 1, at_limit = \"cut\" }", "[0].at_limit", "and concurrent counts none"),
        (
            "{ requests = 1, per = \"minute\", at_limit = \"finish\" }",
            "[0].at_limit",
            "write \"refuse\", \"cut\", \"wait\" or \"warn\"",
        ),
        (
            "{ requests = 1, per = \"day\", at_limit = \"wait\" }",
            "[0].at_limit",
            "there is no more room before the next period: write \"refuse\"",
        ),
        ("{ concurrent = 1, each = \"key\" }", "[0].each", "\"key\" is unknown: write \"user\""),
        ("{ concurrent = 1, wait = \"1s\" }", "[0].wait", "is for limits with at_limit = \"wait\": add that"),
        ("{ concurrent = 1, at_limit = \"wait\", wait = \"11m\" }", "[0].wait", "must be at most 600s"),
        ("{ concurrent = 1, model = \"\" }", "[0].model", "is empty: write a model or a pattern"),
        (
            "{ concurrent = 1, upstream = \"opnai\" }",
            "[0].upstream",
            "there is no upstream \"opnai\"; did you mean \"openai\"?",
        ),
        ("{ concurrent = 1, upstream = \"chat\" }", "[0].upstream", "\"chat\" is a group: name one of"),
        (
            "{ requests = 1, per = \"day\", count = { input = 2 } }",
            "[0].count",
            "weighs tokens, and the limit counts requests: remove it",
        ),
        (
            "{ tokens = 1, per = \"day\", count = { cached = 0 } }",
            "[0].count.cached",
            "write one of input, cached_input, cache_write, output, reasoning",
        ),
        (
            "{ tokens = 1, per = \"day\", count = { input = 0.0001 } }",
            "[0].count.input",
            "0.0001 is not a weight: write a number from 0 to 1000 with at most three decimals",
        ),
        ("{ tokens = 1, per = \"day\", count = { input = -1 } }", "[0].count.input", "is not a weight"),
        ("{ tokens = 1, per = \"day\", count = { input = 1001 } }", "[0].count.input", "is more than 1000"),
        ("{ tokens = 1, per = \"day\", count = { input = \"2\" } }", "[0].count.input", "must be a weight"),
        (
            "{ tokens = 1, per = \"day\", count = { input = 0, cached_input = 0, cache_write = 0, output = 0, reasoning = 0 } }",
            "[0].count",
            "has only zeros",
        ),
        (
            "{ cost = 1, per = \"day\" }",
            "",
            "has a limit of cost in USD, and there are no [[prices]]: add them",
        ),
        ("{ cost = 0, per = \"day\" }", "[0].cost", "is 0, which would refuse every request"),
        ("{ cost = \"5\", per = \"day\" }", "[0].cost", "must be an amount without quotes"),
        ("{ cost = 0.0000001, per = \"day\" }", "[0].cost", "with at most 6 decimals"),
        ("{ cost = -1, per = \"day\" }", "[0].cost", "is not an amount"),
        ("{ cost = 1e13, per = \"day\" }", "[0].cost", "must be at most 1000000000000"),
        ("{ cost = 1 }", "[0].per", "is missing: write per ="),
        ("{ cost = 1, per = \"day\", currency = \"usd\" }", "[0].currency", "\"usd\" is not a currency code"),
        (
            "{ tokens = 1, per = \"day\", currency = \"USD\" }",
            "[0].currency",
            "is for limits of cost, and this one counts tokens: remove it",
        ),
        ("{ concurrent = 1, unpriced = \"allow\" }", "[0].unpriced", "is for limits of cost"),
        ("{ cost = 1, per = \"day\", unpriced = \"free\" }", "[0].unpriced", "write \"refuse\" or \"allow\""),
    ] {
        let groups = "[groups.chat]\ntiers = [[\"openai\"]]";
        let text = format!("{OPENAI}[clients.a]\n{KEY}limits = [{limit}]\n{groups}");
        let found = mistakes(&text);
        let is_named =
            |line: &String| line.contains(&format!("clients.a.limits{key}: ")) && line.contains(reason);
        assert!(found.iter().any(is_named), "{limit}: {found:?}");
    }
}
