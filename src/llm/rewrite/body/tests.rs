use super::*;

fn seen(body: &str) -> Peek<'_> {
    peek(body.as_bytes()).unwrap_or_else(|_| panic!("{body} is an object"))
}

/// The body after `set_model`, in one piece.
fn with_model(body: &str, model: &str) -> String {
    let bytes = Bytes::copy_from_slice(body.as_bytes());
    let edited = Edited::new(&bytes, [set_model(&bytes, &seen(body), model)]);
    let length = edited.len();
    let whole = edited.pieces().concat();
    assert_eq!(whole.len(), length, "the announced length of {body}");
    String::from_utf8(whole).unwrap()
}

#[test]
fn a_request_is_seen_as_it_is() {
    let body = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"\"model\":\"x\"","model":"y"}],
        "stream" : true, "stream_options":{"include_usage":true},"user":"u1"}"#;
    let peek = seen(body);
    assert_eq!(peek.model.as_deref(), Some("gpt-4o"));
    assert_eq!(&body[peek.model_span.clone().unwrap()], "\"gpt-4o\"");
    assert!(peek.stream && !peek.model_is_duplicate);
    assert_eq!(peek.include_usage, Some(true));
    assert_eq!(&body[peek.stream_options.clone().unwrap()], "{\"include_usage\":true}");
    assert_eq!(peek.user.as_deref(), Some("u1"));
    assert!(matches!(peek.model, Some(Cow::Borrowed(_))), "nothing to decode, nothing to allocate");
}

#[test]
fn only_the_top_level_counts() {
    let peek = seen(r#"{"a":{"model":"x","stream":true,"user":"u"},"b":["model","x"],"c":"model"}"#);
    assert_eq!(peek, Peek { open: 1, ..Peek::default() });
}

#[test]
fn keys_and_names_are_read_by_value() {
    let peek = seen(r#"{"mod\u0065l":"gpt\u002d4o","\u0075ser":"\u00e9"}"#);
    assert_eq!(peek.model.as_deref(), Some("gpt-4o"));
    assert_eq!(peek.user.as_deref(), Some("\u{e9}"));
}

#[test]
fn null_and_the_empty_string_name_no_model() {
    for body in [r#"{}"#, r#"{"model":null}"#, r#"{"model":""}"#, r#"{"model":7}"#, r#"{"model":["x"]}"#] {
        assert_eq!(seen(body).model, None, "{body}");
    }
}

#[test]
fn last_of_several_models_counts_and_is_marked_ambiguous() {
    let peek = seen(r#"{"model":"first","mod\u0065l":"last"}"#);
    assert_eq!(peek.model.as_deref(), Some("last"));
    assert!(peek.model_is_duplicate);
    assert!(seen(r#"{"model":"a","model":null}"#).model_is_duplicate);
    assert!(seen(r#"{"model":"a","model":"b","model":"c"}"#).model_is_duplicate);
}

#[test]
fn stream_is_true_or_it_is_not() {
    for (body, stream) in [
        (r#"{"stream":true}"#, true),
        (r#"{"stream":false}"#, false),
        (r#"{"stream":"true"}"#, false),
        (r#"{"stream":1}"#, false),
        (r#"{"stream":null}"#, false),
        (r#"{"stream":true,"stream":false}"#, false),
        (r#"{"stream":false,"stream":true}"#, true),
    ] {
        assert_eq!(seen(body).stream, stream, "{body}");
    }
}

#[test]
fn speech_asks_for_stream_by_its_format() {
    for (body, asks) in [
        (r#"{"input":"a","stream_format":"sse"}"#, true),
        (r#"{"input":"a","stream_format":"audio"}"#, false),
        (r#"{"input":"a","stream_format":null}"#, false),
        (r#"{"stream":true}"#, true),
    ] {
        let seen = seen(body);
        assert_eq!(seen.asks_for_stream(), asks, "{body}");
        assert_eq!(seen.stream, body.contains("true"), "{body}");
    }
}

#[test]
fn include_usage_is_a_boolean_or_unknown() {
    for (options, include_usage) in [
        (r#"{"include_usage":true}"#, Some(true)),
        (r#"{ "x" : [1] , "include_usage" : false }"#, Some(false)),
        (r#"{"include_usage":false,"include_usage":true}"#, Some(true)),
        (r#"{"include_usage":null}"#, None),
        (r#"{"include_obfuscation":true}"#, None),
        (r#"{}"#, None),
        (r#"null"#, None),
        (r#"["include_usage",true]"#, None),
    ] {
        let body = format!("{{\"stream_options\":{options}}}");
        let peek = seen(&body);
        assert_eq!(peek.include_usage, include_usage, "{options}");
        assert_eq!(&body[peek.stream_options.unwrap()], options);
    }
}

#[test]
fn the_safety_identifier_goes_before_the_user() {
    for (body, user) in [
        (r#"{"user":"u","safety_identifier":"s"}"#, Some("s")),
        (r#"{"safety_identifier":"s","user":"u"}"#, Some("s")),
        (r#"{"safety_identifier":null,"user":"u"}"#, Some("u")),
        (r#"{"safety_identifier":"","user":"u"}"#, Some("u")),
        (r#"{"user":{"id":1}}"#, None),
    ] {
        assert_eq!(seen(body).user.as_deref(), user, "{body}");
    }
}

#[test]
fn anthropics_user_is_in_the_metadata() {
    for (body, user) in [
        (r#"{"metadata":{"user_id":"u"}}"#, Some("u")),
        (r#"{"metadata": {"a":{"user_id":"x"}, "user_id" : "u\u0021"} }"#, Some("u!")),
        (r#"{"metadata":{"user_id":"x","user_id":"u"}}"#, Some("u")),
        (r#"{"metadata":{"user_id":""}}"#, None),
        (r#"{"metadata":{"user_id":7}}"#, None),
        (r#"{"metadata":{}}"#, None),
        (r#"{"metadata":null}"#, None),
        (r#"{"metadata":"user_id"}"#, None),
        (r#"{"user_id":"u"}"#, None),
    ] {
        assert_eq!(metadata_user(body.as_bytes(), &seen(body)).as_deref(), user, "{body}");
    }
}

#[test]
fn bounds_of_output_and_stored_input_are_seen_in_passing() {
    for (body, bounds_output, names_stored) in [
        (r#"{"model":"m","messages":[{"max_tokens":1,"n":2,"conversation":"x"}]}"#, false, false),
        (r#"{"n":2}"#, true, false),
        (r#"{"best_of":2}"#, true, false),
        (r#"{"max_tokens":2}"#, true, false),
        (r#"{"max\u005fcompletion_tokens":2}"#, true, false),
        (r#"{"max_output_tokens":2,"previous_response_id":"resp_1"}"#, true, true),
        (r#"{"conversation":{"id":"conv_1"}}"#, false, true),
    ] {
        let peek = seen(body);
        assert_eq!(peek.bounds_output, bounds_output, "{body}");
        assert_eq!(peek.names_stored_input(body.as_bytes()), names_stored, "{body}");
        assert_eq!(output_bounds(body.as_bytes()) != (None, 1), bounds_output, "{body}");
    }
}

#[test]
fn background_requests_are_recognized() {
    for (body, background) in [
        (r#"{"background":true}"#, true),
        (r#"{"background":false}"#, false),
        (r#"{"background":null}"#, false),
        (r#"{}"#, false),
        // Readers may disagree.
        (r#"{"background":true,"background":false}"#, true),
        (r#"{"background":"true"}"#, true),
        (r#"{"metadata":{"background":true}}"#, false),
    ] {
        assert_eq!(seen(body).background, background, "{body}");
    }
}

#[test]
fn body_that_is_not_an_object_has_no_fields() {
    for body in [
        "",
        "null",
        "[{\"model\":\"x\"}]",
        "{\"model\":\"x\"",
        "{\"model\":\"x\"} {}",
        "model=x",
        "\u{feff}",
        "\u{feff}\u{feff}{}",
        "{}\u{feff}",
    ] {
        assert_eq!(peek(body.as_bytes()), Err(NotAnObject), "{body:?}");
    }
}

#[test]
fn a_model_gives_way_and_nothing_else_does() {
    for (body, edited) in [
        (r#"{"model":"fast"}"#, r#"{"model":"gpt-4.1-mini"}"#),
        (
            r#" { "a":1 , "model" : "fast" , "b" : 1.0e0 } "#,
            r#" { "a":1 , "model" : "gpt-4.1-mini" , "b" : 1.0e0 } "#,
        ),
        (r#"{"model":null}"#, r#"{"model":"gpt-4.1-mini"}"#),
        (r#"{"model":""}"#, r#"{"model":"gpt-4.1-mini"}"#),
        (r#"{"mod\u0065l":"f\"st"}"#, r#"{"mod\u0065l":"gpt-4.1-mini"}"#),
        (r#"{"model":"a","model":"b"}"#, r#"{"model":"a","model":"gpt-4.1-mini"}"#),
    ] {
        assert_eq!(with_model(body, "gpt-4.1-mini"), edited);
    }
}

#[test]
fn a_missing_model_is_put_first() {
    for (body, edited) in [
        ("{}", r#"{"model":"m"}"#),
        (" \n{ }", " \n{\"model\":\"m\" }"),
        (r#"{"messages":[]}"#, r#"{"model":"m","messages":[]}"#),
        ("{\n  \"a\": 1\n}", "{\"model\":\"m\",\n  \"a\": 1\n}"),
    ] {
        assert_eq!(with_model(body, "m"), edited);
    }
}

#[test]
fn a_model_that_is_no_name_is_left_to_the_upstream() {
    for body in [r#"{"model":7}"#, r#"{"model":["x"]}"#, r#"{"model":{}}"#, r#"{"model":true}"#] {
        assert_eq!(with_model(body, "m"), body);
    }
}

#[test]
fn a_name_is_written_as_json() {
    assert_eq!(with_model("{}", "a\"\\\n\u{e9}"), "{\"model\":\"a\\\"\\\\\\n\u{e9}\"}");
}

#[test]
fn the_prompt_is_not_copied() {
    let body = Bytes::from(format!("{{\"model\":\"a\",\"prompt\":\"{}\"}}", "x".repeat(1000)));
    let edited = Edited::new(&body, [set_model(&body, &peek(&body).unwrap(), "b")]);
    let tail = edited.pieces().iter().rfind(|piece| !piece.is_empty()).unwrap();
    assert_eq!(tail.as_ptr(), body[body.len() - tail.len()..].as_ptr());
}

/// The body after `ask_for_usage`. `None` if it is not changed.
fn asking(body: &str) -> Option<String> {
    let bytes = Bytes::copy_from_slice(body.as_bytes());
    let splice = ask_for_usage(&bytes, &seen(body))?;
    Some(String::from_utf8(Edited::new(&bytes, [Some(splice)]).pieces().concat()).unwrap())
}

#[test]
fn usage_is_asked_for_by_the_smallest_edit() {
    for (body, expected) in [
        (
            r#"{"model":"m","stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#,
        ),
        (
            "\r\n { \"stream\" : true }\n",
            "\r\n {\"stream_options\":{\"include_usage\":true}, \"stream\" : true }\n",
        ),
        (
            r#"{"stream":true,"stream_options": null }"#,
            r#"{"stream":true,"stream_options": {"include_usage":true} }"#,
        ),
        (
            r#"{"stream":true,"stream_options":{}}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{ }}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true }}"#,
        ),
        (
            r#"{"stream_options":{"include_obfuscation":false},"stream":true}"#,
            r#"{"stream_options":{"include_usage":true,"include_obfuscation":false},"stream":true}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{"a":[{"include_usage":1}],"include_usage" : false , "b":2}}"#,
            r#"{"stream":true,"stream_options":{"a":[{"include_usage":1}],"include_usage" : true , "b":2}}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{"include_usage":null}}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"str\u0065am":true,"stream\u005foptions":{"include\u005fusage":false}}"#,
            r#"{"str\u0065am":true,"stream\u005foptions":{"include\u005fusage":true}}"#,
        ),
    ] {
        assert_eq!(asking(body).as_deref(), Some(expected), "{body}");
    }
}

#[test]
fn a_request_that_asks_or_is_not_clear_is_left_alone() {
    for body in [
        r#"{}"#,
        r#"{"stream":false}"#,
        r#"{"stream":"true"}"#,
        r#"{"stream_options":{}}"#,
        r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        r#"{"stream":true,"stream_options":{"include_usage":"false"}}"#,
        r#"{"stream":true,"stream_options":{"include_usage":0}}"#,
        r#"{"stream":true,"stream_options":{"include_usage":false,"include_usage":false}}"#,
        r#"{"stream":true,"stream_options":[]}"#,
        r#"{"stream":true,"stream_options":true}"#,
        r#"{"stream":true,"stream_options":""}"#,
        r#"{"stream":true,"stream_options":{x}}"#,
        r#"{"stream":true,"stream_options":{},"stream_options":null}"#,
        r#"{"stream":true,"stream":true}"#,
        r#"{"stream":false,"str\u0065am":true}"#,
    ] {
        assert_eq!(asking(body), None, "{body}");
    }
}

#[test]
fn two_edits_go_into_one_body() {
    for (body, expected) in [
        (r#"{"stream":true}"#, r#"{"model":"n","stream_options":{"include_usage":true},"stream":true}"#),
        (
            r#"{"stream":true,"stream_options":{},"model":"m"}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true},"model":"n"}"#,
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":{}}"#,
            r#"{"model":"n","stream":true,"stream_options":{"include_usage":true}}"#,
        ),
    ] {
        let bytes = Bytes::copy_from_slice(body.as_bytes());
        let peek = seen(body);
        let edits = [set_model(&bytes, &peek, "n"), ask_for_usage(&bytes, &peek)];
        assert_eq!(Edited::new(&bytes, edits).pieces().concat(), expected.as_bytes(), "{body}");
    }
}

#[test]
fn a_byte_order_mark_is_passed_over_and_stays() {
    let body = Bytes::from_static(b"\xef\xbb\xbf{\"model\":\"m\"}");
    let seen = peek(&body).unwrap();
    assert_eq!(seen.model.as_deref(), Some("m"));
    let edited = Edited::new(&body, [set_model(&body, &seen, "n")]).pieces().concat();
    assert_eq!(edited, b"\xef\xbb\xbf{\"model\":\"n\"}");
    assert_eq!(without_bom(&body), &body[3..]);
}

#[test]
fn json_in_wide_characters_is_told_by_its_first_bytes() {
    for wide in
        [&b"{\0\"\0"[..], b"\0{\0\"", b"\xff\xfe{\0", b"\xfe\xff\0{", b"\0\0\0{", b"{\0\0\0", b"\0\0\xfe\xff"]
    {
        assert!(is_utf16_or_32(wide), "{wide:?}");
    }
    for narrow in [&b""[..], b"{", b"{}", b"\xef\xbb\xbf{}", b" {", b"\xff{}", b"\0\x01\x02", b"\x08\0"] {
        assert!(!is_utf16_or_32(narrow), "{narrow:?}");
    }
}

#[test]
fn asked_output_is_the_largest_of_all_fields() {
    for (body, asked) in [
        (r#"{"model":"m"}"#, None),
        (r#"{"max_tokens":null}"#, None),
        (r#"{"max_tokens":7}"#, Some(("max_tokens", 7.0))),
        (r#"{"max_tokens":7,"max_completion_tokens":9}"#, Some(("max_completion_tokens", 9.0))),
        (r#"{"max_output_tokens":9,"max_output_tokens":8}"#, Some(("max_output_tokens", 9.0))),
        (r#"{"max_tokens":"9"}"#, Some(("max_tokens", 9.0))),
        (r#"{"max_tokens":9e3}"#, Some(("max_tokens", 9000.0))),
        (r#"{"max\u005ftokens":9}"#, Some(("max_tokens", 9.0))),
        (r#"{"metadata":{"max_tokens":9}}"#, None),
        // The reading of the service is unknown.
        (r#"{"max_tokens":"nan","max_tokens":9}"#, Some(("max_tokens", f64::INFINITY))),
        (r#"{"max_tokens":"\u0039"}"#, Some(("max_tokens", f64::INFINITY))),
        (r#"{"max_tokens":9,"max_tokens":"1_0"}"#, Some(("max_tokens", f64::INFINITY))),
        (r#"{"max_tokens":9,"#, Some(("max_tokens", 9.0))),
        ("[9]", None),
    ] {
        assert_eq!(asked_output(body.as_bytes()), asked, "{body}");
    }
}
