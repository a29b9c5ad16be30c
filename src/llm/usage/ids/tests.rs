use super::*;

/// The ids of a response that comes in these pieces, with a plus before those of its own.
fn passed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let (mut reader, mut ids) = (IdReader::default(), Vec::new());
    for piece in pieces {
        reader.push(piece, &mut |found| {
            ids.push(format!("{}{}", if found.is_own { "+" } else { "" }, found.id));
        });
    }
    ids
}

fn named(body: &str) -> Vec<String> {
    let mut ids = Vec::new();
    named_ids(body.as_bytes(), |id| ids.push(id.to_owned())).unwrap();
    ids
}

const RESPONSE: &str = r#"{"id":"resp_0001","object":"response","conversation":{"id":"conv_0001"},
    "previous_response_id":"resp_0000","metadata":{"id":"resp_evil","file_id":"file-evil"},
    "tools":[{"type":"function","parameters":{"properties":{"file_id":{"default":"file-evil"}}}},
             {"type":"file_search","vector_store_ids":["vs_00001","vs_00002"]}],
    "output":[{"id":"rs_00001","type":"reasoning","encrypted_content":"gAAAAAB\/1"},
              {"id":"msg_0001","content":[{"text":"see \"id\":\"resp_text\"",
               "annotations":[{"file_id":"cfile_01","container_id":"cntr_001"}]}]}],
    "usage":{"input_tokens":1}}"#;

const RESPONSE_IDS: [&str; 10] = [
    "+resp_0001",
    "conv_0001",
    "resp_0000",
    "vs_00001",
    "vs_00002",
    "+rs_00001",
    "+gAAAAAB/1",
    "+msg_0001",
    "cfile_01",
    "cntr_001",
];

const STREAM: &str = "event: response.created\n\
    data: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_0001\",\"output\":[]}}\n\n\
    event: response.output_item.done\n\
    data: {\"type\":\"response.output_item.done\",\"item\":{\"id\":\"rs_00001\",\"encrypted_content\":\"gAAAAAB1\"}}\n\n\
    data: {\"type\":\"response.output_text.delta\",\"item_id\":\"msg_0001\",\"id\":\"delta_01\"}\n\n\
    event: response.completed\r\n\
    data: {\"response\":{\"id\":\"resp_0001\",\r\n\
    data: \"output\":[{\"id\":\"msg_0001\"}]}}\r\n\r\n\
    data: [DONE]\n\n";

const STREAM_IDS: [&str; 5] = ["+resp_0001", "+rs_00001", "+gAAAAAB1", "+resp_0001", "+msg_0001"];

#[test]
fn ids_of_a_response_are_found_by_their_keys() {
    assert_eq!(passed([RESPONSE.as_bytes()]), RESPONSE_IDS);
    assert_eq!(passed([format!("\u{feff}\n {RESPONSE}").as_bytes()]), RESPONSE_IDS);
    assert_eq!(passed([STREAM.as_bytes()]), STREAM_IDS);
}

#[test]
fn objects_of_lists_and_references_are_not_the_responses_own() {
    let list =
        r#"{"object":"list","data":[{"id":"file-0001"},{"id":"batch_01","output_file_id":"file-0002"}]}"#;
    assert_eq!(passed([list.as_bytes()]), ["file-0001", "batch_01", "file-0002"]);
    let batch = r#"{"id":"batch_01","input_file_id":"file-0001","output_file_id":null,"errors":{"data":[]}}"#;
    assert_eq!(passed([batch.as_bytes()]), ["+batch_01", "file-0001"]);
}

#[test]
fn ids_do_not_depend_on_splits() {
    for text in [RESPONSE, STREAM] {
        let (bytes, whole) = (text.as_bytes(), passed([text.as_bytes()]));
        assert_eq!(passed(bytes.chunks(1)), whole);
        for at in 0..bytes.len() {
            assert_eq!(passed([&bytes[..at], &bytes[at..]]), whole, "{at}");
        }
    }
}

#[test]
fn other_texts_have_no_ids() {
    for text in
        ["", "  ", "\u{feff}", "<html>\"id\":\"resp_0001\"</html>", "{\"id\":\"resp_0001", "[]", "\"id\""]
    {
        assert_eq!(passed([text.as_bytes()]), [""; 0], "{text}");
    }
    // A text that breaks off has the ids before the break.
    assert_eq!(passed([&b"{\"id\":\"resp_0001\",\"output\":[{"[..]]), ["+resp_0001"]);
    assert_eq!(passed([&b"{\"id\":\"short\",\"file_id\":7}"[..]]), [""; 0]);
    assert_eq!(passed([&b"{\"id\":\"msg_1\",\"file_id\":\"file-\"}"[..]]), [""; 0]);
    assert_eq!(passed([&b"{\"id\":\"resp_1\",\"file_id\":\"file-2\"}"[..]]), ["+resp_1", "file-2"]);
}

#[test]
fn encrypted_content_counts_by_its_beginning() {
    let content = "g".repeat(5000);
    let whole = format!(r#"{{"output":[{{"encrypted_content":"{content}"}}]}}"#);
    assert_eq!(passed(whole.as_bytes().chunks(7)), [format!("+{}", &content[..MAX_ID])]);
    let item = format!(r#"{{"input":[{{"type":"reasoning","encrypted_content":"{content}"}}]}}"#);
    assert_eq!(named(&item), [&content[..MAX_ID]]);
    let id = format!(r#"{{"id":"{content}"}}"#);
    assert_eq!(passed([id.as_bytes()]), [""; 0], "an id has an end");
}

#[test]
fn message_of_a_session_follows_another() {
    let (mut reader, mut ids) = (IdReader::default(), Vec::new());
    for message in [r#"{"response":{"id":"resp_0001"}}"#, r#"{"response":{"id":"resp_0002"}}"#] {
        reader.push(message.as_bytes(), &mut |found| ids.push(found.id.to_owned()));
        reader.end_text();
    }
    assert_eq!(ids, ["resp_0001", "resp_0002"]);
}

#[test]
fn event_beyond_the_decoders_limit_has_ids() {
    let output = "x".repeat(2 << 20);
    let event = format!("data: {{\"output\":\"{output}\",\"response\":{{\"id\":\"resp_0001\"}}}}\n\n");
    let stream = format!("{event}{STREAM}");
    assert_eq!(passed(stream.as_bytes().chunks(1 << 16))[..2], ["+resp_0001", "+resp_0001"]);
}

#[test]
fn request_names_ids_where_they_refer_to_state() {
    for (body, expected) in [
        (r#"{"previous_response_id":"resp_0001","input":"hi"}"#, &["resp_0001"][..]),
        (r#"{"conversation":"conv_0001"}"#, &["conv_0001"]),
        (r#"{"conversation":{"id":"conv_0001"}}"#, &["conv_0001"]),
        (r#"{"input":[{"type":"item_reference","id":"msg_0001"}]}"#, &["msg_0001"]),
        (
            r#"{"input":[{"id":"msg_0001"},{"id":"rs_00001","type":"reasoning","summary":[]}]}"#,
            &["msg_0001", "rs_00001"],
        ),
        (
            r#"{"input":[{"id":"rs_00001","type":"reasoning","encrypted_content":"gAAAAAB1"}]}"#,
            &["gAAAAAB1", "rs_00001"],
        ),
        (r#"{"input":[{"id":"msg_0001","type":"message","role":"assistant","content":[]}]}"#, &[]),
        (r#"{"input":[{"id":"msg_0001","role":"assistant","content":"hi"}]}"#, &[]),
        (
            r#"{"input":[{"role":"user","content":[{"type":"input_file","file_id":"file-0001"}]}]}"#,
            &["file-0001"],
        ),
        (r#"{"input_file_id":"file-0001","metadata":{"file_id":"file-evil"}}"#, &["file-0001"]),
        (r#"{"file_ids":["file-0001","file-0002"],"name":"n"}"#, &["file-0001", "file-0002"]),
        (
            r#"{"tools":[{"type":"file_search","vector_store_ids":["vs_00001"]},{"container":"cntr_001"},
                {"container":{"type":"auto","file_ids":["file-0001"]}},{"parameters":{"file_id":"file-evil"}}]}"#,
            &["vs_00001", "cntr_001", "file-0001"],
        ),
        (
            r#"{"messages":[{"role":"assistant","audio":{"id":"audio_01"}},{"tool_calls":[{"id":"call_0001"}]}]}"#,
            &["audio_01"],
        ),
        (r#"{"messages":[{"content":[{"type":"tool_use","input":{"file_id":"file-evil"}}]}]}"#, &[]),
        (r#"{"items":[{"type":"item_reference","id":"msg_0001"}]}"#, &["msg_0001"]),
        (r#"{"id":"not-named","user":"user_0001"}"#, &[]),
        (r#"{"previous_response_id":null,"input":["resp_0001"]}"#, &[]),
        ("not JSON", &[]),
    ] {
        assert_eq!(named(body), expected, "{body}");
    }
}

/// A JSON string with each character of `word` as an escape.
fn escaped(word: &str) -> String {
    let escapes: String = word.chars().map(|letter| format!("\\u{:04X}", u32::from(letter))).collect();
    format!("\"{escapes}\"")
}

/// Every string of a text that equals one of `words`, with all characters as escapes.
fn with_escapes(text: &str, words: &[&str]) -> String {
    words.iter().fold(text.to_owned(), |text, word| text.replace(&format!("\"{word}\""), &escaped(word)))
}

#[test]
fn escapes_in_keys_types_and_ids_change_nothing() {
    let words = [
        "id",
        "previous_response_id",
        "conversation",
        "file_id",
        "vector_store_ids",
        "container_id",
        "approval_request_id",
        "output",
        "metadata",
        "parameters",
        "encrypted_content",
        "input",
        "type",
        "item_reference",
        "reasoning",
        "role",
        "resp_0001",
        "msg_0001",
    ];
    assert_eq!(passed([with_escapes(RESPONSE, &words).as_bytes()]), RESPONSE_IDS);
    for (body, expected) in [
        (r#"{"previous_response_id":"resp_0001","input":"hi"}"#, &["resp_0001"][..]),
        (r#"{"input":[{"type":"item_reference","id":"msg_0001"}]}"#, &["msg_0001"]),
        (r#"{"input":[{"id":"msg_0001","type":"message"}]}"#, &[]),
        (r#"{"input":[{"id":"msg_0001","role":"user"}]}"#, &[]),
        (r#"{"file_id":"file-0001","metadata":{"file_id":"file-evil"}}"#, &["file-0001"]),
        (r#"{"input":[{"approval_request_id":"resp_0001"}]}"#, &["resp_0001"]),
    ] {
        let body = with_escapes(body, &words);
        assert_eq!(named(&body), expected, "{body}");
        let mut ids = Vec::new();
        let mut reader = NamedIdReader::default();
        body.as_bytes().chunks(1).for_each(|piece| reader.push(piece, &mut |id| ids.push(id.to_owned())));
        assert_eq!(ids, expected, "{body}");
    }
    assert_eq!(named(r#"{"previous_response_\u0069d":"resp_0001"}"#), ["resp_0001"]);
    let long = "x".repeat(MAX_ID);
    assert_eq!(named(&format!(r#"{{"file_id":{}}}"#, escaped(&long))), [long]);
    assert_eq!(named(&format!(r#"{{"file_id":{}}}"#, escaped(&"x".repeat(MAX_ID + 1)))), [""; 0]);
}

#[test]
fn each_of_several_equal_keys_counts() {
    for (body, expected) in [
        (
            r#"{"previous_response_id":"resp_0001","previous_response_id":"resp_0002"}"#,
            &["resp_0001", "resp_0002"][..],
        ),
        (r#"{"input":"hi","input":[{"type":"item_reference","id":"msg_0001"}]}"#, &["msg_0001"]),
        (r#"{"input":[{"type":"item_reference","id":"msg_0001","type":"message"}]}"#, &["msg_0001"]),
        (r#"{"input":[{"type":"item_reference","id":"msg_0001","id":"x"}]}"#, &["msg_0001"]),
        (
            r#"{"input":[{"type":"item_reference","id":"msg_0001","id":"msg_0002"}]}"#,
            &["msg_0001", "msg_0002"],
        ),
    ] {
        assert_eq!(named(body), expected, "{body}");
    }
}

#[test]
fn bytes_before_a_body_are_skipped_and_a_broken_body_is_refused() {
    let body = br#"{"previous_response_id":"resp_0001"}"#;
    for before in
        [&b""[..], b" \r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\xef\xbb\xbf\n", b"\0", b"\x0c\x0b\xc2\xa0"]
    {
        let text = [before, body].concat();
        for size in [1, text.len()] {
            let (mut reader, mut ids) = (NamedIdReader::default(), Vec::new());
            text.chunks(size).for_each(|piece| reader.push(piece, &mut |id| ids.push(id.to_owned())));
            assert_eq!((ids, reader.is_refused()), (vec!["resp_0001".to_owned()], false), "{before:?}");
        }
    }
    let deep = format!(r#"{{"x":{}{},"file_id":"file-0001"}}"#, "[".repeat(200), "]".repeat(200));
    let utf16: Vec<u8> = "{\"file_id\":1}".encode_utf16().flat_map(u16::to_be_bytes).collect();
    for body in [&b"{\"x\":NaN,"[..], b"{} {", b"{'file_id'", deep.as_bytes(), &utf16, &utf16[1..]] {
        assert_eq!(named_ids(body, |id| panic!("{id}")), Err(NotJson), "{}", body.escape_ascii());
    }
    for body in [&b""[..], b"  ", b"v=0\r\n", b"<html>", b"\"{\""] {
        assert_eq!(named_ids(body, |id| panic!("{id}")), Ok(()), "{}", body.escape_ascii());
    }
}
