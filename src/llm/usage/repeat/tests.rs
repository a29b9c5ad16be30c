use super::*;

/// The pattern of an event whose text is `Hi`.
fn pattern(event: &str) -> Option<Pattern<'_>> {
    let text = event.find("Hi").unwrap();
    Pattern::of(event.as_bytes(), 6..event.len() - 2, text..text + 2)
}

fn matched<'s>(pattern: Pattern<'_>, slice: &'s str) -> Option<&'s str> {
    pattern.matches(slice.as_bytes(), 0).map(|(text, end)| {
        assert_eq!(end, slice.len());
        &slice[text]
    })
}

#[test]
fn pattern_matches_the_same_event_with_another_text() {
    let pattern = pattern("data: {\"n\":1,\"delta\":\"Hi\",\"usage\":null}\n\n").unwrap();
    for (event, text) in [
        ("data: {\"n\":1,\"delta\":\"Hi\",\"usage\":null}\n\n", Some("Hi")),
        ("data: {\"n\":1,\"delta\":\"\\\"a\\\\\",\"usage\":null}\n\n", Some("\\\"a\\\\")),
        ("data: {\"n\":1,\"delta\":\"\",\"usage\":null}\n\n", None),
        ("data: {\"n\":2,\"delta\":\"Hi\",\"usage\":null}\n\n", None),
        ("data: {\"n\":1,\"delta\":\"Hi\",\"usage\":{}}\n\n", None),
        ("data: {\"n\":1,\"delta\":\"Hi\",\"usage\":null}\n", None),
        ("data: {\"n\":1,\"delta\":\"H\ni\",\"usage\":null}\n\n", None),
        ("data: {\"n\":1,\"delta\":\"error\",\"usage\":null}\n\n", None),
        ("data: {\"n\":1,\"delta\":\"Hi", None),
        ("", None),
    ] {
        assert_eq!(matched(pattern, event), text, "{event}");
    }
}

#[test]
fn pattern_allows_another_filler_behind_the_text() {
    let event = |text: &str, filler: &str| {
        format!("data: {{\"delta\":\"{text}\",\"obfuscation\":\"{filler}\",\"usage\":null}}\n\n")
    };
    let first = event("Hi", "Jd8");
    let pattern = pattern(&first).unwrap();
    for (filler, is_matched) in
        [("", true), ("Jd8", true), ("x\\\"y", true), ("error", false), ("a\nb", false)]
    {
        assert_eq!(matched(pattern, &event("you", filler)), is_matched.then_some("you"), "{filler}");
    }
}

#[test]
fn pattern_allows_another_counter_of_the_same_length() {
    let event = |count: &str| {
        format!("data: {{\"sequence_number\":{count},\"content_index\":0,\"delta\":\"Hi\"}}\n\n")
    };
    let first = event("98");
    let pattern = pattern(&first).unwrap();
    for (count, is_matched) in
        [("98", true), ("99", true), ("100", false), ("9", false), ("9 ", false), ("-1", false)]
    {
        assert_eq!(matched(pattern, &event(count)), is_matched.then_some("Hi"), "{count}");
    }
    let mut template = Template::default();
    template.keep(pattern, Part::Text);
    assert_eq!(matched(template.pattern().unwrap().0, &event("99")), Some("Hi"));
}

#[test]
fn pattern_compares_a_counter_that_belongs_to_the_anchor() {
    let event = |count: u8| format!("data: {{\"sequence_number\":{count},\"delta\":\"Hi\"}}\n\n");
    let first = event(98);
    let pattern = pattern(&first).unwrap();
    assert_eq!(matched(pattern, &first), Some("Hi"));
    assert_eq!(matched(pattern, &event(99)), None);
}

#[test]
fn pattern_takes_an_event_line_and_no_other() {
    for (head, is_taken) in [
        ("data: ", true),
        ("data:", true),
        ("event: delta\ndata: ", true),
        ("event:delta\ndata:", true),
        ("event: delta\r\ndata: ", false),
        ("event: a\nevent: b\ndata: ", false),
        ("id: 1\ndata: ", false),
        (": x\ndata: ", false),
        ("\ndata: ", false),
    ] {
        let event = format!("{head}{{\"delta\":\"Hi\"}}\n\n");
        let text = event.find("Hi").unwrap();
        let pattern = Pattern::of(event.as_bytes(), head.len()..event.len() - 2, text..text + 2);
        assert_eq!(pattern.is_some(), is_taken, "{head}");
    }
}

#[test]
fn pattern_takes_only_one_data_line_and_a_value() {
    for event in [
        "id: 1\ndata: {\"delta\":\"Hi\"}\n\n",
        "data: {\"delta\":\"Hi\"}\r\n\r\n",
        "data: {\"Hi\":1}\n\n",
        "data: {\"delta\":\"Hi\" }\n\n",
    ] {
        let data = event.find('{').unwrap()..event.find('}').unwrap() + 1;
        let text = event.find("Hi").unwrap();
        assert!(Pattern::of(event.as_bytes(), data, text..text + 2).is_none(), "{event}");
    }
}

#[test]
fn template_keeps_a_pattern_up_to_its_limit() {
    let mut template = Template::default();
    assert!(template.pattern().is_none());
    for event in [
        "data: {\"delta\":\"Hi\"}\n\n".to_owned(),
        "data: {\"delta\":\"Hi\",\"obfuscation\":\"abc\"}\n\n".to_owned(),
    ] {
        template.keep(pattern(&event).unwrap(), Part::Text);
        let (kept, part) = template.pattern().unwrap();
        assert_eq!((matched(kept, &event), part), (Some("Hi"), Part::Text));
    }
    template.forget();
    assert!(template.pattern().is_none());
    let large = format!("data: {{\"x\":\"{}\",\"delta\":\"Hi\"}}\n\n", "x".repeat(512));
    template.keep(pattern(&large).unwrap(), Part::Text);
    assert!(template.pattern().is_none());
}
