use super::*;

/// The fields of a form, the same at every split.
fn read(body: &[u8]) -> Fields {
    let pieces = |pieces: &[&[u8]]| {
        let mut form = Form::new(b"B");
        pieces.iter().for_each(|piece| form.push(piece));
        form.end();
        form.fields().clone()
    };
    let whole = pieces(&[body]);
    for at in 0..=body.len() {
        assert_eq!(
            pieces(&[&body[..at], &body[at..]]),
            whole,
            "cut at {at}: {:?}",
            String::from_utf8_lossy(body)
        );
    }
    assert_eq!(pieces(&body.chunks(1).collect::<Vec<_>>()), whole, "byte by byte");
    if let (Some(span), Some(model)) = (&whole.model_span, &whole.model) {
        assert_eq!(String::from_utf8_lossy(&body[span.clone()]), *model);
    }
    whole
}

fn part(name: &str, value: &str) -> String {
    format!("--B\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

fn file(data: &str) -> String {
    format!(
        "--B\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\ncontent-type: audio/wav\r\n\r\n{data}\r\n"
    )
}

fn model(body: &str) -> Option<String> {
    read(body.as_bytes()).model
}

#[test]
fn fields_are_read_before_and_behind_files() {
    let data = "RIFF\r\n--\r\n--A\r\n-\r\n\r\n--B.\r\n--BB\r\n--B-\r\r\n\n--Bx";
    let fields = part("model", "whisper-1") + &part("user", "u") + &part("stream", "true") + &part("x", "y");
    for body in [fields.clone() + &file(data), file(data) + &fields, file("") + &fields + &file(data)] {
        let said = read((body + "--B--\r\nepilogue\r\n" + &part("model", "no")).as_bytes());
        assert_eq!((said.model.as_deref(), said.user(), said.stream), (Some("whisper-1"), Some("u"), true));
        assert!(said.has_model() && !said.model_is_duplicate);
    }
}

#[test]
fn values_are_whole_whatever_stands_in_them() {
    for value in
        ["m", "a/b:c", "--", "--A", "\r\n", "a\r\nb", "a\n--B.\r\nb", "--Bc", "\r\n--C", "\u{e9}", " m "]
    {
        assert_eq!(model(&(part("model", value) + "--B--")).as_deref(), Some(value), "{value:?}");
    }
    assert_eq!(model(&(part("model", "") + "--B--")), None);
    assert_eq!(
        model("--B\r\ncontent-disposition: form-data; name=model\r\n\r\n--B--"),
        None,
        "no line break"
    );
}

#[test]
fn liberal_spellings_are_taken() {
    for body in [
        "--B\ncontent-disposition: form-data; name=\"model\"\n\nm\n--B--\n",
        "preamble\r\n--Bx\r\n--B \t\r\ncontent-disposition: form-data; name=model\r\n\r\nm\r\n--B--",
        "\r\n--B\r\ncontent-disposition: form-data; name=model\r\n\r\nm\r\n--B",
        "--B\r\ncontent-disposition: form-data; name=model\r\n\r\nm\r\n--B  \r\n",
    ] {
        assert_eq!(model(body).as_deref(), Some("m"), "{body:?}");
    }
}

#[test]
fn form_that_breaks_off_says_what_it_said_so_far() {
    let whole = file("data") + &part("model", "whisper-1");
    let begin = whole.find("whisper").unwrap();
    for end in 0..whole.len() {
        let value = &whole[begin.min(end)..end.min(begin + "whisper-1".len())];
        // A carriage return at the end may be the value's.
        let value = if end == whole.len() - 1 { "whisper-1\r" } else { value };
        assert_eq!(model(&whole[..end]).unwrap_or_default(), value, "{end}");
    }
}

#[test]
fn first_of_several_models_counts_and_is_marked_as_repeated() {
    let said = read((part("model", "a") + &part("model", "b") + "--B--").as_bytes());
    assert_eq!((said.model.as_deref(), said.model_is_duplicate), (Some("a"), true));
    // A file of that name is not a field.
    let named = file("x").replace("\"file\"", "\"model\"");
    let said = read((named + &part("model", "b") + "--B--").as_bytes());
    assert_eq!((said.model.as_deref(), said.model_is_duplicate), (Some("b"), false));
}

#[test]
fn field_beyond_its_limit_is_not_kept() {
    let long = "m".repeat(MAX_VALUE);
    assert_eq!(model(&(part("model", &long) + "--B--")), Some(long.clone()));
    for length in [1, 20, 5000] {
        let said = read((part("model", &(long.clone() + &"m".repeat(length))) + "--B--").as_bytes());
        assert_eq!((said.model.as_deref(), said.has_model()), (None, true), "{length}");
    }
    let head = |length| format!("--B\r\nx: {}\r\n", "x".repeat(length));
    let disposition = "content-disposition: form-data; name=model\r\n\r\nm\r\n--B--";
    assert_eq!(model(&(head(MAX_HEAD - 100) + disposition)).as_deref(), Some("m"));
    assert_eq!(model(&(head(MAX_HEAD) + disposition)), None);
}
