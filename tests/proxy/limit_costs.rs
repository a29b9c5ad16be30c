//! Limits of cost: exact by the prices, refused without one, and equal to the ledger's sums.

use std::fs;

use streamgauge::config;
use streamgauge::config::reload::ReloadOutcome;
use streamgauge::llm::price::Currency;

use super::limit_kinds::{ask, body, client, counted, drive, mixed, ok, send, sums};
use crate::harness::{Proxy, Upstream, proxy, sized};

/// 60 tokens of input, of which 20 are cached, and 40 of output cost 0.202.
const PRICES: &str = "[[prices]]\nmodel = \"m\"\ninput = 1000\ncached_input = 100\noutput = 4000\n";

fn limited(limits: &str) -> Proxy {
    proxy().upstream(&ok()).tables(&client(limits)).tables(PRICES).admin().run()
}

#[test]
fn cost_beyond_the_limit_is_refused_with_exact_amounts() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("usage.db");
    let limits = client("{ cost = 0.45, per = \"day\" }");
    let proxy = proxy().upstream(&ok()).tables(&limits).tables(PRICES).admin().ledger(&ledger).run();
    for _ in 0..2 {
        assert_eq!(ask(&proxy, "m").status(), 200);
        proxy.record();
    }
    assert_eq!(counted(&proxy, 0, 0.45), 0.404);
    let refused = ask(&proxy, "m");
    assert_eq!((refused.status(), &refused.error()["code"]), (429, &"insufficient_quota".into()));
    let message = refused.error()["message"].as_str().unwrap().to_owned();
    let expected = "The client search has used or reserved 0.404 of 0.45 USD, and this request may need 0.2";
    assert!(message.starts_with(expected), "{message}");
}

#[test]
fn rate_of_cost_has_a_pause_and_no_headers_of_openai() {
    let proxy = limited("{ cost = 0.3, per = \"minute\" }");
    assert_eq!(ask(&proxy, "m").status(), 200);
    proxy.record();
    let refused = ask(&proxy, "m");
    assert_eq!((refused.status(), &refused.error()["code"]), (429, &"rate_limit_exceeded".into()));
    assert!(refused.header("retry-after").is_some());
    assert!(!refused.head.contains("x-ratelimit"), "{}", refused.head);
}

#[test]
fn model_without_a_price_is_refused_unless_it_is_allowed() {
    let strange = sized("200 OK", "application/json", br#"{"model":"strange","usage":{"prompt_tokens":1}}"#);
    let run = |limits: &str| {
        let up = Upstream::responding(strange.clone());
        proxy().upstream(&up).tables(&client(limits)).tables(PRICES).admin().run()
    };
    let proxy = run("{ requests = 9, per = \"hour\" }, { cost = 1, per = \"hour\" }");
    let refused = ask(&proxy, "x");
    assert_eq!(refused.status(), 403, "{}", refused.text());
    let error = refused.error();
    assert_eq!((&error["code"], &error["param"]), (&"no_price".into(), &"model".into()));
    let message = error["message"].as_str().unwrap();
    let expected = "The model \"x\" of the upstream `up` has no price in USD, and limits[1] in [clients.search] \
                    counts cost.";
    assert!(message.starts_with(expected), "{message}");
    assert_eq!(send(&proxy, "POST /v1/chat/completions", "no JSON").error()["code"], "model_unknown");
    assert_eq!(send(&proxy, "GET /v1/responses/resp_1", "").status(), 200, "it uses nothing");
    // The response names another model.
    assert_eq!(ask(&proxy, "m").status(), 200);
    (0..4).for_each(|_| drop(proxy.record()));
    let unpriced = "streamgauge_limit_unpriced_total{whose=\"clients.search\",limit=\"limits[1]\"}";
    assert_eq!((proxy.metric(unpriced), counted(&proxy, 1, 1.0)), (1.0, 0.0));
    assert!(counted(&proxy, 0, 9.0) < 2.01, "a refused request counts nowhere");

    let proxy = run("{ cost = 1, per = \"hour\", unpriced = \"allow\" }");
    assert_eq!(ask(&proxy, "x").status(), 200);
    proxy.record();
    assert_eq!(proxy.metric(&unpriced.replace("[1]", "[0]")), 1.0);
}

#[test]
fn group_holds_at_the_price_of_its_dearest_member() {
    let a = Upstream::responding(sized("503 Busy", "application/json", b"{}"));
    let free = "[[prices]]\nmodel = \"m\"\nupstream = \"a\"\ninput = 0\noutput = 0\n";
    let builder = proxy().other("a", a.address).other("b", ok().address).tables(PRICES).tables(free);
    let group = "[groups.chat]\ntiers = [[\"a\"], [\"b\"]]\n[[routes]]\nupstream = \"chat\"\n";
    let proxy = builder.tables(group).tables(&client("{ cost = 0.3, per = \"hour\" }")).run();
    assert_eq!(ask(&proxy, "m").status(), 200);
    proxy.record();
    assert_eq!(ask(&proxy, "m").status(), 429);
}

#[test]
fn service_tier_without_a_price_is_refused() {
    let proxy = limited("{ cost = 9, per = \"hour\" }");
    let tier = |tier: &str| body("m").replacen('{', &format!("{{\"service_tier\":\"{tier}\","), 1);
    for standard in ["auto", "default", "standard_only"] {
        assert_eq!(send(&proxy, "POST /v1/chat/completions", &tier(standard)).status(), 200, "{standard}");
    }
    let refused = send(&proxy, "POST /v1/chat/completions", &tier("priority"));
    assert_eq!((refused.status(), &refused.error()["code"]), (403, &"no_price".into()));
    assert!(refused.text().contains("in the service tier priority"), "{}", refused.text());
}

#[test]
fn cost_equals_ledger_through_drops_errors_and_refusals() {
    let prices = "[[prices]]\nmodel = \"*\"\ninput = 1\ncached_input = 0.5\noutput = 4\n\
                  [[prices]]\nmodel = \"*\"\nupstream = \"b\"\ninput = 3\noutput = 5\n";
    let limits = "{ requests = 60, per = \"day\" }, { cost = 1000, per = \"day\" },\
                  { cost = 1000, per = \"month\", upstream = \"a\" },\
                  { cost = 1000, per = \"week\", upstream = \"b\", model = \"gpt-5*\" }";
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("usage.db");
    let tables = format!(
        "{}{prices}[groups.chat]\ntiers = [[\"a\"], [\"b\"]]\n[[routes]]\nupstream = \"chat\"\n",
        client(limits)
    );
    let builder = || {
        let (a, b) = (mixed(), ok());
        proxy().other("a", a.address).other("b", b.address).tables(&tables).admin().ledger(&ledger)
    };
    let first = builder().run();
    assert_eq!(drive(&first, 60), 60);
    let all = |proxy: &Proxy| [1, 2, 3].map(|number| counted(proxy, number, 1000.0));
    let counts = all(&first);
    let text = builder().text();
    first.stop();
    let settings = config::from_text(&text).unwrap().settings;
    let usd = Currency::parse("USD").unwrap();
    let sum = sums(&ledger, &settings.prices).cost.amount(usd).unwrap();
    assert_eq!(counts[0], sum.to_f64());
    assert!(counts.iter().all(|count| *count > 0.0), "{counts:?}");
    assert_eq!(all(&builder().run()), counts);
}

#[test]
fn changed_price_changes_the_count_of_the_period() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, path) = (folder.path().join("usage.db"), folder.path().join("streamgauge.toml"));
    let up = ok();
    let configured = |prices: &str| {
        let limits = client("{ cost = 100, per = \"month\" }");
        let builder = proxy().upstream(&up).tables(&limits).tables(prices).admin().ledger(&ledger);
        fs::write(&path, builder.text()).unwrap();
        builder
    };
    // The first process fills the ledger, so that every row is written.
    let first = configured(PRICES).run_from(&path);
    assert_eq!(ask(&first, "m").status(), 200);
    first.stop();
    let proxy = configured(PRICES).run_from(&path);
    assert_eq!(counted(&proxy, 0, 100.0), 0.202);
    configured(&PRICES.replace("4000", "8000"));
    assert!(matches!(proxy.reload(), ReloadOutcome::Taken { .. }));
    assert_eq!(counted(&proxy, 0, 100.0), 0.362);
    assert_eq!(send(&proxy, "POST /v1/chat/completions", &body("m")).status(), 200);
    proxy.record();
    assert_eq!(counted(&proxy, 0, 100.0), 0.724, "settled by the new price");
}
