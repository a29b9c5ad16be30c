use super::*;

const LIMIT: usize = 16;

/// The lines of the pieces as text: `+` continues a long line, `$` ends it.
fn lines(pieces: &[&[u8]]) -> (Vec<String>, Lines) {
    let mut lines = Lines::new(LIMIT);
    let mut found = Vec::new();
    for piece in pieces {
        let mut at = 0;
        while let Some(line) = lines.next(piece, &mut at) {
            let (mark, bytes) = match &line {
                Line::Here { line, end } => {
                    assert_eq!(&piece[end - line.len()..*end], *line);
                    ("", *line)
                }
                Line::Pieced(line) => ("", &line[..]),
                Line::Long(line) => (">", &line[..]),
                Line::More(more) => ("+", *more),
                Line::LongEnd => ("$", &b""[..]),
            };
            found.push(format!("{mark}{}", String::from_utf8_lossy(bytes)));
        }
        assert_eq!(at, piece.len(), "all of a piece is taken");
    }
    (found, lines)
}

#[test]
fn a_line_ends_at_crlf_lf_or_cr_and_at_nothing_else() {
    let (found, rest) = lines(&["a\r\nb\nc\rd\u{2028}e\u{85}f\x0bg\n\n\r\r\nh".as_bytes()]);
    assert_eq!(found, ["a", "b", "c", "d\u{2028}e\u{85}f\x0bg", "", "", ""]);
    assert_eq!(rest.tail(), b"h");
}

#[test]
fn an_lf_after_a_cr_belongs_to_it_also_in_the_next_piece() {
    assert_eq!(lines(&[b"a\r", b"\nb\n"]).0, ["a", "b"]);
    assert_eq!(lines(&[b"a\r", b"", b"\n", b"\n"]).0, ["a", ""]);
    assert_eq!(lines(&[b"a\r", b"b\n"]).0, ["a", "b"]);
}

#[test]
fn line_within_limit_is_whole_and_longer_one_comes_in_pieces() {
    assert_eq!(lines(&[b"0123456789abcdef\nx\n"]).0, ["0123456789abcdef", "x"]);
    assert_eq!(lines(&[b"0123456789abcdef0\nx\n"]).0, [">0123456789abcdef0", "$", "x"]);
    assert_eq!(lines(&[b"0123456789", b"abcdef0", b"12", b"3\r", b"\nx\n"]).0, [
        ">0123456789abcdef0",
        "+12",
        "+3",
        "$",
        "x"
    ]);
    assert_eq!(lines(&[b"0123456789abcdef", b"\n"]).0, ["0123456789abcdef"]);
}

#[test]
fn nothing_is_kept_between_lines() {
    let (_, lines) = lines(&[b"a", b"b\n0123456789abc", b"defg", b"\nx\r"]);
    assert!(!lines.in_line());
    assert_eq!(lines.tail.capacity(), 0);
}
