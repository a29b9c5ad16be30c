use super::*;

/// The tokens of the attempts in these records, of one upstream, with their requests.
fn thrown_away<'a>(
    records: &'a [UsageRecord],
    upstream: &'a str,
) -> impl Iterator<Item = (&'a UsageRecord, u64)> {
    let of_row = move |row: &'a UsageRecord| {
        let attempts = row.group_use.as_deref().and_then(|group_use| group_use.several());
        let attempts = attempts.into_iter().flat_map(|attempts| attempts.iter());
        let tokens = attempts.filter(move |attempt| &*attempt.upstream == upstream);
        tokens.filter_map(|attempt| attempt.usage.as_deref()?.input_tokens).map(move |tokens| (row, tokens))
    };
    records.iter().flat_map(of_row)
}

#[test]
fn attempts_are_rows_of_their_own_upstream_and_model() {
    let records = records(500);
    let (_folder, path) = ledger(&records);
    let without = Selection::since(records[100].started_at);
    let with = Selection { attempts: true, ..without.clone() };
    let sums = |selection: &Selection, by: &[By]| {
        report(&path, selection, by, &Prices::default(), &Bounds::default()).unwrap()
    };
    let [own, all] = [&without, &with].map(|selection| sums(selection, &[]).total);
    let expected: u64 = thrown_away(&records[100..], "openai").map(|(_, tokens)| tokens).sum();
    let count = thrown_away(&records[100..], "openai").count() as u64;
    assert!(count > 20 && thrown_away(&records, "azure").count() == 0, "the last one is the record's own");
    assert_eq!(all.input_tokens.unwrap() - own.input_tokens.unwrap(), expected);
    assert_eq!(all.output_tokens.unwrap() - own.output_tokens.unwrap(), 2 * count);
    assert_eq!((all.requests, all.sources, all.countable), (own.requests, own.sources, own.countable));

    let of_attempts = Selection {
        upstream: Some("openai".into()),
        model: Some("gpt \"x\"".into()),
        client: Some("client-2".into()),
        ..with.clone()
    };
    let by = [By::Upstream, By::Model, By::Group, By::Provider, By::Status, By::UsageSource];
    let report = sums(&of_attempts, &by);
    let [group] = &report.groups[..] else { panic!("{report:?}") };
    let key = ["openai", "gpt \"x\"", "chat", "azure", "503", "reported"].map(|part| Some(part.to_owned()));
    assert_eq!(group.key, key);
    let of_client = |row: &UsageRecord| &*row.client == "client-2";
    let expected = thrown_away(&records[100..], "openai").filter(|(row, _)| of_client(row));
    assert_eq!(group.sums.input_tokens, Some(expected.map(|(_, tokens)| tokens).sum()));
    assert_eq!(group.sums.requests, 0);
    assert_eq!(sums(&Selection { attempts: false, ..of_attempts }, &by).groups, []);
}
