mod widths;

use std::time::Duration;

use self::widths::{amount, dated};
use super::*;
use crate::llm::price::{Billable, Currency, Rate, Rates, Reported};
use crate::sinks::ledger::{Estimated, Group, Report, Rest, Sums};

fn sums(requests: u64, tokens: Option<u64>) -> Sums {
    let mut sums = Sums { requests, input_tokens: tokens, total_tokens: tokens, ..Sums::default() };
    sums.sources = [requests - 1, 0, 1, 0, 0];
    sums.countable = requests;
    sums
}

fn example() -> Report {
    let group = |model: Option<&str>, client: &str, sums| Group {
        key: vec![model.map(str::to_owned), Some(client.to_owned())],
        sums,
    };
    Report {
        by: vec![By::Model, By::Client],
        groups: vec![
            group(Some("gpt-4.1"), "search", sums(3, Some(1_234_567))),
            group(Some("a,\"b\"\u{1b}[2J"), "search", sums(2, Some(0))),
            group(None, "anonymous", sums(1, None)),
        ],
        total: sums(6, Some(1_234_567)),
        currencies: Vec::new(),
        rest: None,
        before: None,
        zone: TimeZone::UTC,
        coarse_until: None,
    }
}

const SINCE: Timestamp = Timestamp::UNIX_EPOCH;

#[test]
fn table_has_groups_totals_and_sources() {
    let text = table::write(&example(), SINCE, None, Some(80));
    let expected = "\
MODEL      CLIENT     REQUESTS      INPUT  CACHED  OUTPUT      TOTAL  REPORTED
gpt-4.1    search            3  1,234,567       -       -  1,234,567     66.7%
a,\"b\"\u{fffd}[2J  search            2          0       -       -          0     50.0%
-          anonymous         1          -       -       -          -      0.0%
all                          6  1,234,567       -       -  1,234,567     83.3%

since 1970-01-01T00:00:00Z
usage: reported 83.3%, partial 16.7%
";
    assert_eq!(text, expected, "\n{text}");
}

/// The report with prices.
fn priced() -> Report {
    let mut report = example();
    let rates = |currency: &str, input: &str| {
        let rate = Rate::parse(input).unwrap();
        Rates::new(Currency::parse(currency).unwrap(), rate, rate)
    };
    let pay = |sums: &mut Sums, rates: Rates| {
        let tokens = Billable { input: sums.input_tokens.unwrap_or(1), ..Billable::default() };
        sums.cost.pay(rates.currency, rates.amount(&tokens).unwrap());
    };
    pay(&mut report.groups[0].sums, rates("USD", "2345.67"));
    pay(&mut report.groups[1].sums, rates("USD", "2"));
    pay(&mut report.groups[2].sums, rates("USD", "2"));
    pay(&mut report.groups[2].sums, rates("EUR", "0.1"));
    report.groups[1].sums.cost.unpriced = 1;
    for group in &report.groups {
        report.total.cost.add(&group.sums.cost);
    }
    report.currencies = ["EUR", "USD"].map(|code| Currency::parse(code).unwrap()).into();
    report
}

#[test]
fn with_prices_each_currency_has_a_column() {
    let text = table::write(&priced(), SINCE, None, Some(80));
    let expected = "\
MODEL      CLIENT     REQUESTS      TOTAL         EUR        USD
gpt-4.1    search            3  1,234,567           -  $2,895.89
a,\"b\"\u{fffd}[2J  search            2          0           -      $0.00
-          anonymous         1          -  <€0.000001     <$0.01
all                          6  1,234,567  <€0.000001  $2,895.89

since 1970-01-01T00:00:00Z
usage: reported 83.3%, partial 16.7%
without a price in [[prices]] for all of it, and in no sum of money: 1 request
not shown in this width: INPUT, CACHED, OUTPUT, REPORTED
";
    assert_eq!(text, expected, "\n{text}");
}

#[test]
fn programs_get_amounts_exactly_and_null_where_nothing_was_paid() {
    let text = csv::write(&priced());
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].contains(",billed_seconds,cost_eur,cost_usd,requests_without_price,"), "{text}");
    assert!(lines[1].starts_with("gpt-4.1,search,3,1234567,,,,,1234567,,,2895.88677489,0,"), "{text}");
    assert!(lines[2].contains(",,0,1,"), "{text}");
    assert!(lines[3].contains(",,0.0000001,0.000002,0,"), "{text}");
    let value: serde_json::Value =
        serde_json::from_str(&json::write(&priced(), SINCE, SINCE).unwrap()).unwrap();
    assert_eq!(value["groups"][0]["cost"], serde_json::json!({ "EUR": null, "USD": 2895.88677489 }));
    assert_eq!(value["total"]["cost"], serde_json::json!({ "EUR": 1e-7, "USD": 2895.88677689 }));
    assert_eq!(value["total"]["requests_without_price"], 1);
}

#[test]
fn partly_computed_total_is_marked() {
    let mut report = example();
    for sums in [&mut report.groups[0].sums, &mut report.total] {
        sums.computed_total_tokens = Some(18_000);
    }
    let text = table::write(&report, SINCE, None, Some(80));
    assert!(text.contains("  *1,234,567     66.7%\n"), "{text}");
    assert!(text.contains("          0     50.0%\n"), "no mark without a part that is computed: {text}");
    let said = "\n*TOTAL: 18,000 of it are INPUT + OUTPUT, of requests whose service reported no\n  total\n";
    assert!(text.contains(said), "{text}");
    assert!(csv::write(&report).lines().nth(1).unwrap().contains(",0,2,0,1,0,0,18000,,3,"));
    let value: serde_json::Value =
        serde_json::from_str(&json::write(&report, SINCE, SINCE).unwrap()).unwrap();
    assert_eq!(value["groups"][0]["computed_total_tokens"], 18_000);
    assert_eq!(value["groups"][1]["computed_total_tokens"], serde_json::Value::Null);
}

#[test]
fn table_without_requests_says_so() {
    let report = Report { by: vec![By::Model], groups: Vec::new(), total: Sums::default(), ..example() };
    assert_eq!(table::write(&report, SINCE, None, Some(80)), "no requests since 1970-01-01T00:00:00Z\n");
    let until = Some(SINCE + Duration::from_hours(24));
    assert_eq!(
        table::write(&report, SINCE, until, Some(80)),
        "no requests since 1970-01-01T00:00:00Z until 1970-01-02T00:00:00Z\n"
    );
}

#[test]
fn markdown_has_the_columns_of_the_table_and_no_markup() {
    let text = markdown::write(&Report { by: vec![By::Model, By::Client], ..example() }, SINCE, None);
    let expected = "\
| MODEL | CLIENT | REQUESTS | INPUT | CACHED | OUTPUT | TOTAL | REPORTED |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |
| gpt-4.1 | search | 3 | 1,234,567 | - | - | 1,234,567 | 66.7% |
| a,\"b\"\u{fffd}\\[2J | search | 2 | 0 | - | - | 0 | 50.0% |
| - | anonymous | 1 | - | - | - | - | 0.0% |
| all |  | 6 | 1,234,567 | - | - | 1,234,567 | 83.3% |

since 1970-01-01T00:00:00Z

usage: reported 83.3%, partial 16.7%
";
    assert_eq!(text, expected, "\n{text}");
}

#[test]
fn comparison_has_gone_groups_and_the_change() {
    let group =
        |model: &str, tokens| Group { key: vec![Some(model.to_owned())], sums: sums(1, Some(tokens)) };
    let report = |groups: Vec<Group>| {
        let mut total = Sums::default();
        groups.iter().for_each(|group| total.add(&group.sums));
        Report { by: vec![By::Model], groups, total, ..example() }
    };
    let mut now = report(vec![group("a", 150), group("new", 10)]);
    let until = SINCE + Duration::from_hours(24);
    now.compare(report(vec![group("a", 100), group("gone", 40)]), SINCE, until).unwrap();
    let text = table::write(&now, until, None, Some(100));
    for line in [
        "a             1",
        "gone          0",
        "100    +50%",
        "-100%",
        "all",
        "140    +14%",
        "BEFORE: TOTAL since 1970-01-01",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let value: serde_json::Value = serde_json::from_str(&json::write(&now, until, until).unwrap()).unwrap();
    assert_eq!(
        (&value["groups"][0]["before"]["total_tokens"], &value["groups"][1]["before"]),
        (&100.into(), &serde_json::Value::Null)
    );
    assert_eq!(value["before"]["total"]["requests"], 2);
    assert!(csv::write(&now).contains(",failed_requests,before_requests,before_total_tokens\n"));
    let days = Report { by: vec![By::Day], ..report(Vec::new()) };
    assert!(days.clone().compare(days, SINCE, until).unwrap_err().contains("by day"));
}

#[test]
fn csv_has_a_header_and_leaves_empty_what_is_not_known() {
    assert_eq!(
        csv::write(&example()),
        "model,client,requests,input_tokens,cached_input_tokens,cache_write_input_tokens,output_tokens,\
         reasoning_tokens,total_tokens,billed_seconds,requests_without_price,requests_reported,requests_drained,requests_partial,requests_estimated,requests_none,computed_total_tokens,reported_cost,countable_requests,estimated_input_tokens,estimated_output_tokens,estimated_total_tokens,failed_requests\n\
         gpt-4.1,search,3,1234567,,,,,1234567,,0,2,0,1,0,0,,,3,0,,0,0\n\
         \"a,\"\"b\"\"\u{1b}[2J\",search,2,0,,,,,0,,0,1,0,1,0,0,,,2,0,,0,0\n\
         ,anonymous,1,,,,,,,,0,0,0,1,0,0,,,1,,,,0\n"
    );
}

#[test]
fn json_has_every_sum_and_null_for_what_is_not_known() {
    let text = json::write(&example(), SINCE, SINCE).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["by"], serde_json::json!(["model", "client"]));
    assert_eq!(
        value["groups"][2],
        serde_json::json!({
            "model": null, "client": "anonymous", "requests": 1, "input_tokens": null, "cached_input_tokens": null,
            "cache_write_input_tokens": null, "output_tokens": null, "reasoning_tokens": null, "total_tokens": null, "computed_total_tokens": null, "billed_seconds": null,
            "reported_cost": null, "countable_requests": 1, "failed_requests": 0,
            "estimated_input_tokens": null, "estimated_output_tokens": null, "estimated_total_tokens": null,
            "cost": {}, "estimated_cost": {}, "requests_without_price": 0,
            "usage_sources": { "reported": 0, "drained": 0, "partial": 1, "estimated": 0, "none": 0 },
        })
    );
    assert_eq!(value["total"]["requests"], 6);
    assert_eq!(value["since"], "1970-01-01T00:00:00Z");
}

#[test]
fn fields_to_group_by_are_known_and_named_once() {
    assert_eq!(fields("day, model").unwrap(), Fields(vec![By::Day, By::Model]));
    assert_eq!(fields("").unwrap(), Fields(Vec::new()));
    assert!(fields("day,moon").unwrap_err().contains(
        "\"moon\" is none of model, client, team, key, upstream, group, endpoint, user, day, hour"
    ));
    assert!(fields("day,day").unwrap_err().contains("twice"));
}

#[test]
fn shares_are_of_requests_that_could_have_had_tokens() {
    let mut report = example();
    report.total.requests = 1_006;
    report.total.sources[4] = 1_001;
    report.total.sources[0] = 4;
    let text = table::write(&report, SINCE, None, Some(80));
    assert!(
        text.contains("\nusage: reported 66.7%, partial 16.7%, none 16.7%; 1,000 without tokens to count\n"),
        "{text}"
    );
    report.total = Sums { requests: 3, sources: [0, 0, 0, 0, 3], ..Sums::default() };
    assert!(table::write(&report, SINCE, None, Some(80)).contains("\nusage: 3 without tokens to count\n"));
}

#[test]
fn reported_cost_is_shown_beside_computed_cost() {
    let mut report = priced();
    report.total.reported_cost = Reported::parse("0.0125");
    report.groups[0].sums.reported_cost = Reported::parse("0.0125");
    let text = table::write(&report, SINCE, None, Some(80));
    assert!(text.contains("\nreported by services as cost: $0.0125, in no other sum\n"), "{text}");
    assert!(csv::write(&report).lines().nth(1).unwrap().contains(",0.0125,3,"));
    let value: serde_json::Value =
        serde_json::from_str(&json::write(&report, SINCE, SINCE).unwrap()).unwrap();
    assert_eq!(value["total"]["reported_cost"], 0.0125);
}

#[test]
fn table_of_a_zone_says_so() {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let text = table::write(&Report { zone: zone.clone(), ..example() }, SINCE, None, None);
    assert!(text.contains("\nsince 1970-01-01T01:00:00+01:00 (Europe/Berlin)\n"), "{text}");
    let until = Some(SINCE + Duration::from_hours(24));
    let text = table::write(&Report { zone, ..example() }, SINCE, until, None);
    let range = "\nsince 1970-01-01T01:00:00+01:00 until 1970-01-02T01:00:00+01:00 (Europe/Berlin)\n";
    assert!(text.contains(range), "{text}");
}

#[test]
fn json_has_what_a_limit_leaves_out() {
    let mut report = example();
    report.limit(1);
    let value: serde_json::Value =
        serde_json::from_str(&json::write(&report, SINCE, SINCE).unwrap()).unwrap();
    assert_eq!((value["groups"].as_array().unwrap().len(), &value["rest"]["groups"]), (1, &2.into()));
    assert_eq!((&value["rest"]["requests"], &value["total"]["requests"]), (&3.into(), &6.into()));
    assert_eq!(value["time_zone"], "UTC");
}

#[test]
fn estimated_parts_are_in_every_form() {
    let mut report = priced();
    let usd = Currency::parse("USD").unwrap();
    let mut part = Estimated { input_tokens: Some(1_000), total_tokens: Some(1_000), ..Estimated::default() };
    part.cost.pay(usd, amount(2));
    for sums in [&mut report.groups[0].sums, &mut report.total] {
        sums.estimated = Some(Box::new(part.clone()));
    }
    let text = table::write(&report, SINCE, None, None);
    assert!(text.contains("  ~1,234,567  ") && text.contains("  ~$2,895.89"), "{text}");
    let said = "\n~: estimated in part: 1,000 of INPUT (0.1%), 1,000 of TOTAL (0.1%)\n";
    assert!(text.contains(said), "{text}");
    let text = csv::write(&report);
    let lines: Vec<_> = text.lines().collect();
    let header = ",estimated_input_tokens,estimated_output_tokens,estimated_total_tokens,estimated_cost_eur,estimated_cost_usd,failed_requests";
    assert!(lines[0].ends_with(header), "{text}");
    assert!(lines[1].ends_with(",1000,,1000,,0.002,0") && lines[2].ends_with(",0,,0,,0,0"), "{text}");
    let value: serde_json::Value =
        serde_json::from_str(&json::write(&report, SINCE, SINCE).unwrap()).unwrap();
    assert_eq!(value["total"]["estimated_total_tokens"], 1_000);
    assert_eq!(value["total"]["estimated_output_tokens"], serde_json::Value::Null);
    assert_eq!(value["total"]["estimated_cost"], serde_json::json!({ "EUR": 0.0, "USD": 0.002 }));
}

#[test]
fn every_column_of_every_form_can_be_sorted_by() {
    let mut report = dated();
    for sums in report.groups.iter_mut().map(|group| &mut group.sums).chain([&mut report.total]) {
        (sums.cache_write_input_tokens, sums.billed_seconds) = (Some(1), Some(1.0));
    }
    let table = table::write(&report, SINCE, None, None);
    let heads = table.lines().next().unwrap().split("  ").map(str::trim).filter(|head| !head.is_empty());
    let csv = csv::write(&report);
    let json: serde_json::Value = serde_json::from_str(&json::write(&report, SINCE, SINCE).unwrap()).unwrap();
    let group = json["groups"][0].as_object().unwrap();
    let fields = group.keys().map(String::as_str).filter(|field| *field != "usage_sources");
    for column in heads.chain(csv.lines().next().unwrap().split(',')).chain(fields) {
        let sorted = Order::list(column).and_then(|orders| report.clone().sort(&orders));
        assert_eq!(sorted, Ok(()), "{column}");
    }
}
