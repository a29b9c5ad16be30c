use super::*;

fn now() -> Timestamp {
    "2026-07-30T12:00:00Z".parse().unwrap()
}

#[test]
fn usage_query_parses_as_the_command_line() {
    let query = UsageQuery::parse(
        "since=7d&by=day,model&user=a%26b+c&client=&format=csv",
        now(),
        &TimeZone::UTC,
        &Teams::default(),
    )
    .unwrap();
    assert_eq!(query.selection.since.to_string(), "2026-07-23T12:00:00Z");
    assert_eq!((query.selection.user.as_deref(), query.selection.client), (Some("a&b c"), None));
    assert_eq!((query.by, query.format), (vec![By::Day, By::Model], Format::Csv));
    let query = UsageQuery::parse("", now(), &TimeZone::UTC, &Teams::default()).unwrap();
    assert_eq!((query.selection.since.to_string().as_str(), query.by.len()), ("2026-07-29T12:00:00Z", 0));
}

#[test]
fn invalid_query_names_the_mistake() {
    for (query, reason) in [
        ("since=soon", "since: "),
        ("since=1h&until=2h", "until: is not after since"),
        ("by=day,day", "twice"),
        ("by=moon", "none of model, client, team, key, upstream, group, endpoint, user, day, hour"),
        ("format=xml", "neither json nor csv"),
        ("sinc=1h", "\"sinc\" is none of since, until"),
    ] {
        let error = UsageQuery::parse(query, now(), &TimeZone::UTC, &Teams::default()).unwrap_err();
        assert!(error.contains(reason), "{query}: {error}");
    }
    for (query, reason) in [("limit=0", "from 1 to 10000"), ("limit=10001", "from 1"), ("by=day", "none of")]
    {
        let error = RecordsQuery::parse(query, now(), &TimeZone::UTC, &Teams::default()).unwrap_err();
        assert!(error.contains(reason), "{query}: {error}");
    }
    for query in ["range=2y", "range=custom", "range=custom&since=2026-07-02T00:00&until=2026-07-01T00:00"] {
        assert!(PageQuery::parse(query, &TimeZone::UTC).is_err(), "{query}");
    }
}

#[test]
fn page_query_survives_a_round_trip() {
    for query in [
        "range=24h",
        "range=7d&client=a&user=b%26c&upstream=d&model=e%2Ff",
        "range=custom&since=2026-07-01T00%3A00&until=2026-07-02T12%3A30",
        "range=this-month&time_zone=Europe%2FBerlin&team=t&outcome=failed&tag.feature=x&compare=1&chart=cost-eur&split=user&tab=tag.feature&sort=-requests&search=a&page=3&failed=1",
    ] {
        assert_eq!(PageQuery::parse(query, &TimeZone::UTC).unwrap().encode(), query);
    }
    assert_eq!(PageQuery::parse("", &TimeZone::UTC).unwrap(), PageQuery::plain(&TimeZone::UTC));
    let plain = PageQuery::plain(&TimeZone::UTC);
    assert_eq!(plain.link(|query| query.set(By::User, Some("x y"))), "./?range=24h&user=x+y");
}

#[test]
fn custom_times_are_those_of_the_zone() {
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    let query = "range=custom&since=2026-07-01T00%3A00&until=2026-07-02T12%3A30";
    let page = PageQuery::parse(query, &berlin).unwrap();
    assert_eq!(page.selection(now(), &Teams::default()).since.to_string(), "2026-06-30T22:00:00Z");
    assert_eq!(page.encode(), query);
    let data = UsageQuery::parse("since=2026-07-01&time_zone=Asia/Tokyo", now(), &berlin, &Teams::default())
        .unwrap();
    assert_eq!(data.selection.since.to_string(), "2026-06-30T15:00:00Z");
    assert!(
        UsageQuery::parse("time_zone=Moon", now(), &berlin, &Teams::default())
            .unwrap_err()
            .starts_with("time_zone: ")
    );
}

#[test]
fn data_link_selects_the_rows_of_its_page() {
    for query in [
        "range=7d&user=b%26c",
        "range=yesterday&endpoint=x",
        "range=last-month",
        "range=today&time_zone=Asia/Tokyo",
        "range=custom&since=2026-07-01T00%3A00&until=2026-07-02T12%3A30",
    ] {
        let page = PageQuery::parse(query, &TimeZone::UTC).unwrap();
        let data = page.data_query(&[("by", "day")]);
        let data = UsageQuery::parse(&data, now(), &TimeZone::UTC, &Teams::default()).unwrap();
        assert_eq!(data.selection, page.selection(now(), &Teams::default()));
    }
}
