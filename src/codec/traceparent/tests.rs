use super::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";
const ALL: Sampling = Sampling { threshold: 0 };

fn headers(lines: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::default();
    lines.iter().for_each(|(name, value)| headers.append(name.as_bytes(), value.as_bytes()));
    headers
}

fn of(lines: &[(&str, &str)]) -> SpanContext {
    SpanContext::of(&headers(lines), [7; 16], [9; 8], ALL)
}

#[test]
fn a_valid_parent_is_gone_on_with() {
    let span = of(&[
        ("traceparent", &format!("00-{TRACE}-{SPAN}-01")),
        ("tracestate", "a=1"),
        ("tracestate", "b=2"),
    ]);
    assert_eq!((span.trace_id, span.trace().as_str()), (hex::decode(TRACE.as_bytes()).unwrap(), TRACE));
    assert_eq!((span.span_id, span.parent_id), ([9; 8], hex::decode(SPAN.as_bytes())));
    assert_eq!((span.is_sampled(), &*span.state), (true, "a=1,b=2"));
    assert_eq!(span.traceparent(), format!("00-{TRACE}-0909090909090909-01"));
}

#[test]
fn the_parent_says_whether_the_span_is_recorded() {
    for (flags, sampled, out) in
        [("00", false, "00"), ("02", false, "02"), ("03", true, "03"), ("fd", true, "01")]
    {
        let span = of(&[("traceparent", &format!("00-{TRACE}-{SPAN}-{flags}"))]);
        assert_eq!(span.is_sampled(), sampled, "{flags}");
        assert!(span.traceparent().ends_with(&format!("-{out}")), "unknown flags are not passed: {flags}");
    }
}

#[test]
fn later_versions_are_read_as_far_as_they_are_known() {
    for (text, is_valid) in [
        (format!("01-{TRACE}-{SPAN}-01"), true),
        (format!("cc-{TRACE}-{SPAN}-01-what-will-be"), true),
        (format!("cc-{TRACE}-{SPAN}-01.what"), false),
        (format!("00-{TRACE}-{SPAN}-01-what-will-be"), false),
        (format!("ff-{TRACE}-{SPAN}-01"), false),
    ] {
        let span = of(&[("traceparent", &text)]);
        assert_eq!(span.parent_id.is_some(), is_valid, "{text}");
        assert!(span.traceparent().starts_with("00-"), "what is written is version 0");
    }
}

#[test]
fn invalid_header_is_ignored() {
    let valid = format!("00-{TRACE}-{SPAN}-01");
    let mut wrong = vec![
        String::new(),
        format!("00-{}-{SPAN}-01", "0".repeat(32)),
        format!("00-{TRACE}-{}-01", "0".repeat(16)),
        valid.to_uppercase(),
        valid.replace('-', "_"),
        format!("{valid},{valid}"),
    ];
    wrong.extend((0..valid.len()).map(|end| valid[..end].to_owned()));
    wrong.extend((0..valid.len()).map(|at| format!("{}g{}", &valid[..at], &valid[at + 1..])));
    for text in wrong {
        let span = of(&[("traceparent", &text), ("tracestate", "a=1")]);
        assert_eq!((span.trace_id, span.parent_id), ([7; 16], None), "{text:?}");
        assert_eq!(&*span.state, "", "a state without a trace says nothing: {text:?}");
    }
    assert_eq!(of(&[("traceparent", &valid), ("traceparent", &valid)]).parent_id, None, "two are none");
}

#[test]
fn the_header_takes_its_place_and_the_others_keep_theirs() {
    let names = |headers: &Headers| {
        headers.iter().map(|field| String::from_utf8(field.name().to_vec()).unwrap()).collect::<Vec<_>>()
    };
    let valid = format!("00-{TRACE}-{SPAN}-01");
    let mut client =
        headers(&[("a", "1"), ("traceparent", &valid), ("b", "2"), ("tracestate", "x=y"), ("c", "3")]);
    let span = SpanContext::of(&client, [7; 16], [9; 8], ALL);
    span.put_on(&mut client);
    assert_eq!(names(&client), ["a", "traceparent", "b", "tracestate", "c"]);
    assert_eq!(client.get(KnownName::Traceparent), Some(span.traceparent().as_bytes()));
    assert_eq!(client.get(KnownName::Tracestate), Some(&b"x=y"[..]));

    let mut client = headers(&[("a", "1"), ("tracestate", "x=y"), ("b", "2"), ("c", "3"), ("b", "4")]);
    let span = SpanContext::of(&client, [7; 16], [9; 8], ALL);
    span.put_on(&mut client);
    assert_eq!(names(&client), ["a", "b", "c", "b", "traceparent"]);
}

#[test]
fn untrusted_client_does_not_decide_whether_span_is_recorded() {
    for (flags, share, sampled) in
        [("01", 0.0, "00"), ("00", 1.0, "01"), ("03", 0.0, "02"), ("02", 1.0, "03")]
    {
        let parent = format!("00-{TRACE}-{SPAN}-{flags}");
        let mut span = of(&[("traceparent", &parent)]);
        span.sample(&[0xfe; 16], Sampling::new(share));
        assert_eq!(span.traceparent(), format!("00-{TRACE}-0909090909090909-{sampled}"), "{flags} {share}");
    }
}

#[test]
fn a_share_of_the_traces_is_recorded() {
    let taken = |share| {
        let sampling = Sampling::new(share);
        let id = |number: u64| {
            let mut id = [0xff; 16];
            id[8..].copy_from_slice(&(number << 46).to_be_bytes());
            id
        };
        (0..1024).filter(|&number| sampling.takes(&id(number))).count()
    };
    assert_eq!([0.0, 0.25, 0.5, 1.0].map(taken), [0, 256, 512, 1024]);
    assert_eq!(taken(2.0), 1024);
}
