//! The table in terminals of any width.

use super::*;
use crate::llm::price::Amount;
use crate::sinks::ledger::output::numbers::width_of;

#[test]
fn table_with_long_names_fits_80_columns() {
    let mut report = example();
    report.groups[0].key =
        vec![Some("a-model-with-a-very-long-name-2026-07-30-preview".to_owned()), Some("client".repeat(9))];
    let text = table::write(&report, SINCE, None, Some(80));
    assert!(text.contains('…'), "{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{}: {line}", line.chars().count());
    }
}

/// Thirty dated models with the names of a real service.
pub(super) fn dated() -> Report {
    let sizes = ["", "-mini", "-nano"];
    let days = ["2025-04-14", "2025-06-10", "2025-08-07", "2025-11-13", "2026-01-22"];
    let mut models = Vec::new();
    for family in ["gpt-4.1", "gpt-5"] {
        for size in sizes {
            models.extend(days.map(|day| format!("{family}{size}-{day}")));
        }
    }
    let groups: Vec<_> = models
        .into_iter()
        .zip(1..)
        .map(|(model, number)| {
            let mut sums = sums(number * 411, Some(number * 1_234_567));
            sums.output_tokens = Some(number * 98_765);
            sums.cached_input_tokens = Some(number * 301_001);
            sums.reasoning_tokens = Some(number * 45_678);
            sums.cost.pay(Currency::parse("USD").unwrap(), amount(number * 2_345));
            Group { key: vec![Some(model)], sums }
        })
        .collect();
    let mut total = Sums::default();
    groups.iter().for_each(|group| total.add(&group.sums));
    let currencies = vec![Currency::parse("USD").unwrap()];
    Report { by: vec![By::Model], groups, total, currencies, ..example() }
}

/// The price of this many thousand tokens at 1 a million.
pub(super) fn amount(thousands: u64) -> Amount {
    let one = Rate::parse("1").unwrap();
    let rates = Rates::new(Currency::parse("USD").unwrap(), one, one);
    rates.amount(&Billable { input: thousands * 1_000, ..Billable::default() }).unwrap()
}

#[test]
fn thirty_dated_models_are_told_apart_in_every_width() {
    let report = dated();
    for width in [Some(40), Some(80), Some(100), Some(120), Some(200), None] {
        let text = table::write(&report, SINCE, None, width);
        let names: Vec<_> =
            text.lines().skip(1).take(30).map(|line| line.split("  ").next().unwrap()).collect();
        let mut distinct = names.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 30, "{width:?}\n{text}");
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(width.is_none_or(|width| width < 80 || widest <= width), "{width:?}: {widest}\n{text}");
        let is_whole = names.iter().all(|name| name.starts_with("gpt-") && !name.contains('…'));
        assert!(is_whole || width.is_some_and(|width| width < 120), "{width:?}\n{text}");
    }
}

#[test]
fn table_has_more_columns_where_there_is_room() {
    let mut report = dated();
    report.sort(&Order::list("-cost").unwrap()).unwrap();
    report.limit(20);
    let part = Estimated { output_tokens: Some(5_000), total_tokens: Some(6_000), ..Estimated::default() };
    for sums in [&mut report.groups[1].sums, &mut report.total] {
        sums.estimated = Some(Box::new(part.clone()));
    }
    for (width, expected) in [
        (Some(80), include_str!("../golden/80.txt")),
        (Some(200), include_str!("../golden/200.txt")),
        (None, include_str!("../golden/piped.txt")),
    ] {
        let text = table::write(&report, SINCE, None, width);
        assert_eq!(text, expected, "{width:?}\n{text}");
    }
}

#[test]
fn table_is_never_wider_than_a_terminal_that_can_hold_it() {
    let report = dated();
    for factor in [1, 10, 100] {
        let mut report = report.clone();
        for sums in report.groups.iter_mut().map(|group| &mut group.sums).chain([&mut report.total]) {
            for tokens in [&mut sums.input_tokens, &mut sums.output_tokens, &mut sums.total_tokens] {
                *tokens = tokens.map(|tokens| tokens * factor);
            }
        }
        for width in 60..=140 {
            let text = table::write(&report, SINCE, None, Some(width));
            let widest = text.lines().map(width_of).max().unwrap();
            assert!(widest <= width, "{factor} {width}: {widest}\n{text}");
        }
    }
}

#[test]
fn columns_stay_in_line_beside_wide_and_combining_characters() {
    let mut report = example();
    let names = ["通义千问-max-2026-01-22-thinking-preview", "mode\u{300}le-e\u{301}te\u{301}", "a\u{202e}b"];
    for (group, name) in report.groups.iter_mut().zip(names) {
        group.key[0] = Some(name.to_owned());
    }
    for width in [Some(60), Some(80), None] {
        let text = table::write(&report, SINCE, None, width);
        let lines: Vec<_> = text.lines().take_while(|line| !line.is_empty()).collect();
        let widest = lines.iter().map(|line| width_of(line)).max().unwrap();
        assert!(lines.iter().all(|line| width_of(line) == widest), "{width:?}\n{text}");
        assert!(width.is_none_or(|width| widest <= width), "{width:?}\n{text}");
        assert!(!text.contains('\u{202e}') && text.contains("a\u{fffd}b"), "{text}");
    }
}

#[test]
fn number_of_the_other_groups_is_never_shortened() {
    let mut report = example();
    report.rest = Some(Rest { groups: 10_746, sums: sums(9, Some(1)) });
    report.by = vec![By::Model];
    report.groups.iter_mut().for_each(|group| group.key.truncate(1));
    for width in [10, 20, 30, 40, 80] {
        let text = table::write(&report, SINCE, None, Some(width));
        assert!(text.contains("\nand 10,746 more  "), "{width}\n{text}");
    }
}

#[test]
fn notes_below_the_table_fit_the_terminal() {
    let mut report = dated();
    report.total.computed_total_tokens = Some(12_345);
    report.total.cost.unpriced = 7;
    let part = Estimated { output_tokens: Some(5_000), total_tokens: Some(6_000), ..Estimated::default() };
    report.total.estimated = Some(Box::new(part));
    let whole = table::write(&report, SINCE, None, None);
    let words = |text: &str| {
        let notes = text
            .lines()
            .skip_while(|line| !line.starts_with("since"))
            .take_while(|line| !line.starts_with("not shown"));
        notes.flat_map(str::split_whitespace).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(whole.lines().any(|line| line.len() > 80));
    for width in [72, 80] {
        let text = table::write(&report, SINCE, None, Some(width));
        assert!(text.lines().all(|line| width_of(line) <= width), "{width}\n{text}");
        assert!(text.contains("\n  "), "{text}");
        assert_eq!(words(&text), words(&whole), "{width}");
    }
}
