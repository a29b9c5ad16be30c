//! Compares the classification of a body by its first bytes with the rule applied to the whole
//! body.

use crate::llm::usage::{Content, Sniff};

/// The length of an input that is used: each is split everywhere.
const LENGTH: usize = 96;

const MARK: &[u8] = b"\xef\xbb\xbf";
const FIELDS: [&[u8]; 4] = [b"data:", b"event:", b"id:", b"retry:"];

/// Input: a body. At every split the class is that of [`naive`], and the skipped and kept parts of
/// the pieces before the deciding one are all of their bytes.
pub fn sniff(data: &[u8]) {
    let body = &data[..data.len().min(LENGTH)];
    for says_events in [false, true] {
        let expected = naive(body, says_events);
        let shown = body.escape_ascii();
        assert_eq!(sniffed(&[body], says_events), expected, "{shown}");
        let bytes: Vec<_> = body.chunks(1).collect();
        assert_eq!(sniffed(&bytes, says_events), expected, "{shown} byte by byte");
        for at in 0..=body.len() {
            for after in at..=body.len().min(at + 4) {
                let pieces = [&body[..at], &body[at..after], b"", &body[after..]];
                assert_eq!(sniffed(&pieces, says_events), expected, "{shown} cut at {at} and {after}");
            }
        }
    }
}

/// The class of a body, and the offset of its content. `None` if its bytes do not tell.
fn naive(body: &[u8], says_events: bool) -> Option<(usize, Content)> {
    // The beginning of a mark is skipped too: its bytes may have passed before the next one shows
    // that it is incomplete.
    let mark = MARK.iter().zip(body).take_while(|(mark, byte)| mark == byte).count();
    let rest = body[mark..].trim_ascii_start();
    let content = match rest.first()? {
        b'{' | b'[' => Content::Json,
        b'<' => Content::Other,
        _ if says_events => Content::Events,
        b':' => Content::Events,
        _ if FIELDS.iter().any(|field| rest.starts_with(field)) => Content::Events,
        _ if FIELDS.iter().any(|field| field.starts_with(rest)) => return None,
        _ => Content::Other,
    };
    Some((body.len() - rest.len(), content))
}

/// The result for a body in pieces.
fn sniffed(pieces: &[&[u8]], says_events: bool) -> Option<(usize, Content)> {
    let mut sniff = Sniff::new(says_events);
    let (mut skipped, mut come) = (0, 0);
    for piece in pieces {
        let (more, content) = sniff.push(piece);
        skipped += more;
        if let Some(content) = content {
            assert_eq!(come, skipped - more + sniff.word().len(), "of {pieces:?}");
            return Some((skipped, content));
        }
        come += piece.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_decide_at_every_cut() {
        let bodies = [
            "",
            "data: {}\n\n",
            "data:{}\n\n",
            "event: x\ndata: y\n\n",
            "id: 1\n",
            "retry: 3\n",
            ": ping\n\n",
            ":",
            "data",
            "dat",
            "even",
            "database",
            "{\"a\":1}",
            "[{\"error\":{}}]",
            "<html>",
            "Internal Server Error",
            "i",
            "re",
            "retr",
            "x",
            "1\n00:00",
            "\u{fffd}data: x",
        ];
        for body in bodies {
            for before in ["", "\u{feff}", "\n\n", "\r\n \t", "\u{feff}\n", "\u{feff}\u{feff}", " \u{feff}"] {
                sniff(format!("{before}{body}").as_bytes());
            }
        }
        sniff(b"\xef\xbb");
        sniff(b"\xef\xbbdata: x");
    }

    #[test]
    fn any_short_body_is_judged_as_the_naive_rule_does() {
        let mut random = fastrand::Rng::with_seed(7);
        let alphabet = b"dataeventidretry:: {[<\n\r\xef\xbb\xbf";
        for _ in 0..3_000 {
            let length = random.usize(0..9);
            let body: Vec<u8> = (0..length).map(|_| alphabet[random.usize(..alphabet.len())]).collect();
            sniff(&body);
        }
    }

    #[test]
    fn the_seeds_pass() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/sniff");
        for entry in std::fs::read_dir(seeds).expect("the seeds are in the repository") {
            sniff(&std::fs::read(entry.unwrap().path()).unwrap());
        }
    }
}
