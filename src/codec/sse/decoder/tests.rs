use super::*;

#[derive(Debug, Default)]
struct Log {
    lines: Vec<String>,
    lent: Vec<Option<usize>>,
}

impl EventHandler for Log {
    fn event(&mut self, event: Event<'_>) {
        let text = String::from_utf8_lossy;
        self.lines.push(format!("{} {:?} #{}", text(event.name), event.data_str(), text(event.id)));
        self.lent.push(event.at);
    }
    fn comment(&mut self, text: &[u8]) {
        self.lines.push(format!("comment {:?}", String::from_utf8_lossy(text)));
    }
    fn unknown_field(&mut self, name: &[u8], value: &[u8]) {
        self.lines.push(format!("{} is {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value)));
    }
    fn oversize(&mut self, piece: &[u8]) {
        self.lines.push(format!("piece {:?}", String::from_utf8_lossy(piece)));
    }
    fn oversize_end(&mut self) {
        self.lines.push("too large".into());
    }
}

fn decode_with(mut decoder: EventDecoder, pieces: &[&[u8]]) -> (Log, EventDecoder) {
    let mut log = Log::default();
    pieces.iter().for_each(|piece| decoder.push(piece, &mut log));
    (log, decoder)
}

fn decode(pieces: &[&[u8]]) -> Vec<String> {
    decode_with(EventDecoder::new(), pieces).0.lines
}

#[test]
fn data_lines_are_joined_and_a_type_is_for_one_event() {
    assert_eq!(
        decode(&[b"event: a\ndata: 1\ndata:2\ndata\n\ndata: 3\n\n"]),
        [r#"a "1\n2\n" #"#, r#"message "3" #"#]
    );
}

#[test]
fn the_type_may_come_after_the_data() {
    assert_eq!(decode(&[b"data: 1\nevent: late\n\n"]), [r#"late "1" #"#]);
    assert_eq!(decode(&[b"data: 1\n", b"event: late\n", b"\n"]), [r#"late "1" #"#]);
}

#[test]
fn an_empty_type_takes_the_one_before_it_back() {
    assert_eq!(decode(&[b"event: a\nevent:\ndata: 1\n\n"]), [r#"message "1" #"#]);
    assert_eq!(decode(&[b"event: a\n", b"event:\ndata: 1\n\n"]), [r#"message "1" #"#]);
}

#[test]
fn without_data_there_is_no_event() {
    assert_eq!(decode(&[b"event: a\n\nid: 3\n\ndata: 1\n\n"]), [r#"message "1" #3"#]);
}

#[test]
fn an_unfinished_event_is_discarded() {
    let (log, decoder) = decode_with(EventDecoder::new(), &[b"data: 1\n\ndata: 2\n"]);
    assert_eq!(log.lines.len(), 1);
    assert_eq!(decoder.position(), Position::InEvent);
}

#[test]
fn other_fields_and_comments_are_shown_and_change_nothing() {
    assert_eq!(
        decode(&[b": ping\nerror: {}\ndata: 1\nDATA: 2\n\n"]),
        [r#"comment " ping""#, "error is {}", "DATA is 2", r#"message "1" #"#]
    );
}

#[test]
fn one_byte_order_mark_is_dropped_in_any_pieces() {
    for pieces in [&[&b"\xef\xbb\xbfdata: 1\n\n"[..]][..], &[b"\xef", b"\xbb", b"\xbfdata: 1\n\n"]] {
        assert_eq!(decode(pieces), [r#"message "1" #"#]);
    }
    assert_eq!(decode(&[b"\xef\xbb\xbf\xef\xbb\xbfdata: 1\n\n"]), ["\u{feff}data is 1"]);
}

#[test]
fn lines_that_are_whole_in_the_piece_are_lent() {
    let (log, _) =
        decode_with(EventDecoder::new(), &[b"event: a\r\ndata: 1\r\n\r\ndata:2\n\n", b"data: 3\n", b"\n"]);
    assert_eq!(log.lent, [Some(16), Some(26), None]);
}

#[test]
fn the_position_tells_where_something_may_be_said() {
    for (text, position) in [
        (&b""[..], Position::BetweenEvents),
        (b"data: 1\n\n", Position::BetweenEvents),
        (b"data: 1\r\n\r", Position::BetweenEvents),
        (b": comment\n", Position::BetweenEvents),
        (b"data: 1\r", Position::InEvent),
        (b"event: a\n", Position::InEvent),
        (b"id: 1\n", Position::InEvent),
        (b"d", Position::InLine),
        (b"data: 1\n\n:", Position::InLine),
    ] {
        assert_eq!(
            decode_with(EventDecoder::new(), &[text]).1.position(),
            position,
            "{:?}",
            text.escape_ascii().to_string()
        );
    }
}

#[test]
fn data_beyond_limit_comes_in_pieces_and_next_event_is_whole() {
    let limit = || EventDecoder::with_limit(20);
    let (log, decoder) = decode_with(limit(), &[b"data: 0123456789", b"abcde", b"f\n", b"\ndata: x\n\n"]);
    assert_eq!(log.lines, [r#"piece "0123456789abcde""#, r#"piece "f""#, "too large", r#"message "x" #"#]);
    assert_eq!(decoder.skipped(), 1);

    let (log, decoder) = decode_with(limit(), &[b"data: 0123456789\ndata: 0123456789\ndata: x\n\n"]);
    let pieces = ["0123456789", "\\n", "0123456789", "\\n", "x"].map(|piece| format!("piece \"{piece}\""));
    assert_eq!(log.lines, [&pieces[..], &["too large".to_owned()]].concat());
    assert_eq!(decoder.skipped(), 1);
}

#[test]
fn name_beyond_limit_loses_its_event_but_long_comment_does_not() {
    let name = format!("event: {}\ndata: 1\n\ndata: 2\n\n", "n".repeat(NAME_LIMIT + 1));
    assert_eq!(decode(&[name.as_bytes()]), [r#"piece "1""#, "too large", r#"message "2" #"#]);
    let comment = format!("data: 1\n: {}\n\n", "c".repeat(LIMIT));
    assert_eq!(decode(&[comment.as_bytes()]), [r#"message "1" #"#]);
}

#[test]
fn an_endless_line_is_not_kept() {
    let mut decoder = EventDecoder::new();
    let mut log = Log::default();
    decoder.push(b"event: ", &mut log);
    for _ in 0..64 {
        decoder.push(&[b'x'; LIMIT / 16], &mut log);
        assert!(decoder.lines.tail().len() <= LIMIT);
    }
    assert_eq!(decoder.lines.tail(), b"");
    assert_eq!(decoder.position(), Position::InLine);
}

/// Linear: a search that restarted with every byte would read half a terabyte here.
#[test]
fn a_line_of_the_limit_may_come_byte_by_byte() {
    let mut decoder = EventDecoder::new();
    let mut log = Log::default();
    let event = [b"data:", &vec![b'x'; LIMIT - 5][..], b"\n\n"].concat();
    event.iter().for_each(|byte| decoder.push(std::slice::from_ref(byte), &mut log));
    assert_eq!(log.lines[0].len(), r#"message "" #"#.len() + LIMIT - 5);
    assert_eq!(decoder.skipped(), 0);
}

#[test]
fn a_waiting_decoder_holds_nothing() {
    let pieces = [&b"event: a\nda"[..], b"ta: 1\n", b"data: 2\n", b"\n"];
    let (log, decoder) = decode_with(EventDecoder::new(), &pieces);
    assert_eq!(log.lines, [r#"a "1\n2" #"#]);
    assert_eq!((decoder.name.capacity(), decoder.data.capacity(), decoder.id.capacity()), (0, 0, 0));
}

#[test]
fn event_behind_separator_stands_alone_at_every_cut() {
    for line_end in ["\n", "\r\n", "\r"] {
        let lines =
            ["\u{feff}event: a", "id: 1", "data: x", "data: y", "", ": c", "retry: 5", "data", "", ""];
        let stream = lines.join(line_end);
        for cut in 0..=stream.len() {
            let (begun, decoder) = decode_with(EventDecoder::new(), &[&stream.as_bytes()[..cut]]);
            let whole =
                [&stream.as_bytes()[..cut], decoder.separator(), b"event: ours\ndata: z\n\n"].concat();
            let (log, decoder) = decode_with(EventDecoder::new(), &[&whole]);
            let last = log.lines.last().unwrap();
            assert!(last.starts_with("ours \"z\" #"), "{:?} gives {:?}", &whole[..], log.lines);
            assert!(log.lines.len() - begun.lines.len() <= 3, "the unfinished line and event, and ours");
            assert_eq!(decoder.position(), Position::BetweenEvents);
        }
    }
}
