//! The reader of whole JSON texts against the reader of pieces.
//!
//! The property, for any bytes as an event's data and as a body: both readers extract the same
//! values, keep the same output text, and agree on whether the text is complete or refused.

use crate::llm::usage::Scanned;

/// Checks the property for one input.
pub fn whole(data: &[u8]) {
    for keeps_id in [false, true] {
        for is_body in [false, true] {
            let [whole, piece] = [false, true].map(|by_piece| Scanned::of(data, is_body, keeps_id, by_piece));
            assert_eq!(whole, piece, "{:?}", String::from_utf8_lossy(data));
        }
        let piece = Scanned::of(data, false, keeps_id, true);
        let event = Scanned::of_event(data, keeps_id);
        // A number at the end is not complete without the byte behind it.
        let is_number = data.last().is_some_and(u8::is_ascii_digit);
        assert_eq!(event.is_some(), piece.is_complete() && !is_number, "{:?}", String::from_utf8_lossy(data));
        if let Some(event) = event {
            assert_eq!(event, piece, "{:?}", String::from_utf8_lossy(data));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use fastrand::Rng;
    use memchr::memmem;

    use super::whole;
    use crate::fuzzing::usage::decoys;

    const WORDS: [&[u8]; 40] = [
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\"",
        b"\\",
        b" ",
        b"\n",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\\u0061",
        b"\\ud800",
        b"\\u12",
        b"\\x",
        b"null",
        b"nul",
        b"true",
        b"0",
        b"01",
        b"-",
        b"1.",
        b"12.0e1",
        b"\"7\"",
        b"\"usage\":",
        b"\"usage\":{\"prompt_tokens\":3},",
        b"\"us\\u0061ge\":{},",
        b"\"model\":\"m\",",
        b"\"error\":",
        b"\"message\":{\"content\":\"x\",\"reasoning\":\"y\"},",
        b"\"response\":{",
        b"\"choices\":[{",
        b"\"delta\":{\"reasoning\":\"a\",\"reasoning_content\":\"a\"},",
        b"\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1}}}],",
        b"\"output\":[{\"type\":\"web_search_call\"}],",
        b"\"id\":\"r\",\"background\":true,",
        b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
        b"",
    ];

    #[test]
    fn whole_agrees_with_pieces_for_seeds_and_neighbours() {
        super::super::sse::run_seeds("whole", &WORDS, whole);
    }

    #[test]
    fn whole_agrees_with_pieces_at_every_cut_of_the_seeds() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/whole");
        for file in fs::read_dir(folder).unwrap() {
            let seed = fs::read(file.unwrap().path()).unwrap();
            (0..=seed.len()).for_each(|end| whole(&seed[..end]));
        }
    }

    #[test]
    fn whole_agrees_with_pieces_for_random_documents() {
        let mut random = Rng::with_seed(11);
        for _ in 0..3_000 {
            let mut document = decoys::object(&mut random, 4).into_bytes();
            whole(&document);
            let at = random.usize(0..=document.len());
            let end = (at + random.usize(0..4)).min(document.len());
            document.splice(at..end, WORDS[random.usize(0..WORDS.len())].iter().copied());
            whole(&document);
        }
    }

    #[test]
    fn whole_agrees_with_pieces_for_limits_of_nesting_and_length() {
        for depth in [9, 10, 11, 126, 127, 128] {
            whole(&[b"[".repeat(depth), b"]".repeat(depth)].concat());
            whole(&[b"{\"content\":[".repeat(depth), b"]}".repeat(depth)].concat());
            let (begin, end) = (br#"{"choices":[{"delta":{"content":["#, b"]}}]}");
            let inner = [br#"{"reasoning":["#.repeat(depth), b"]}".repeat(depth)].concat();
            whole(&[&begin[..], &inner, end].concat());
        }
        for length in [15, 63, 64, 65, 255, 256, 257, 6143, 6145, 16_380, 16_400] {
            let text = "x".repeat(length);
            for document in [
                format!(r#"{{"model":"{text}"}}"#),
                format!(r#"{{"type":"{text}"}}"#),
                format!(r#"{{"id":"{text}"}}"#),
                format!(r#"{{"error":"{text}"}}"#),
                format!(r#"{{"{text}":1}}"#),
                format!(r#"{{"usage":{{"prompt_tokens":1,"x":"{text}"}}}}"#),
                format!(r#"{{"meta":{{"tokens":{{"input_tokens":1}},"x":"{text}"}}}}"#),
                format!(r#"{{"timings":{{"prompt_n":1,"predicted_n":2,"x":"{text}"}}}}"#),
            ] {
                whole(document.as_bytes());
            }
        }
    }

    #[test]
    #[cfg_attr(not(feature = "slow"), ignore = "slow")]
    #[allow(clippy::print_stderr, reason = "a skipped test says so")]
    fn whole_agrees_with_pieces_for_the_recordings() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus/streams");
        let Ok(files) = fs::read_dir(&folder) else {
            assert!(std::env::var_os("CI").is_none(), "the corpus is missing: {}", folder.display());
            eprintln!("not tested, the corpus is missing: {}", folder.display());
            return;
        };
        let mut random = Rng::with_seed(5);
        for file in files {
            let bytes = fs::read(file.unwrap().path()).unwrap();
            whole(&bytes);
            whole(&bytes[..random.usize(0..=bytes.len())]);
            let mut rest = &bytes[..];
            while let Some(at) = memmem::find(rest, b"data:") {
                rest = &rest[at + 5..];
                let end = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
                whole(rest[..end].trim_ascii());
            }
        }
    }
}
