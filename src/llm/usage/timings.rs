//! The counts of llama.cpp's server, which it sends without `include_usage`: `timings`, beside the
//! last choice of a stream.
//!
//! The input is the sum of the cached and the newly read tokens (`cache_n` + `prompt_n`), the
//! output `predicted_n`. No other count is computed here. Usage takes precedence over `timings`.

use super::counts::Usage;
use super::report::count;
use crate::codec::json::Cursor;

/// Reads the object. `None` unless it has both counts: other services use the name for other
/// things.
pub(super) fn read(object: &[u8]) -> Option<Usage> {
    let (mut cache, mut prompt, mut predicted) = (None, None, None);
    let mut cursor = Cursor::new(object);
    cursor.expect(b'{').ok()?;
    let mut is_first = true;
    while let Some((key, value)) = cursor.member(std::mem::take(&mut is_first)).ok()? {
        match key.spelled() {
            b"cache_n" => cache = count(&object[value]),
            b"prompt_n" => prompt = count(&object[value]),
            b"predicted_n" => predicted = count(&object[value]),
            _ => {}
        }
    }
    Some(Usage {
        input_tokens: Some(prompt?.saturating_add(cache.unwrap_or(0))),
        output_tokens: Some(predicted?),
        cached_input_tokens: cache,
        ..Usage::default()
    })
}

/// Returns true if a `system_fingerprint`, quotes included, is a build of llama.cpp, such as
/// `b7010-c27efd2bd`: the build number and the beginning of the commit's hash.
pub(super) fn is_llama_cpp(fingerprint: &[u8]) -> bool {
    let inside = fingerprint.strip_prefix(b"\"b").and_then(|rest| rest.strip_suffix(b"\""));
    let parts =
        inside.and_then(|inside| inside.split_at_checked(inside.iter().position(|&byte| byte == b'-')?));
    parts.is_some_and(|(number, commit)| {
        let commit = &commit[1..];
        !number.is_empty()
            && number.iter().all(u8::is_ascii_digit)
            && commit.len() >= 7
            && commit.iter().all(u8::is_ascii_hexdigit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timings_are_read_only_with_both_counts() {
        let usage = |input, output, cached| {
            Some(Usage {
                input_tokens: Some(input),
                output_tokens: Some(output),
                cached_input_tokens: cached,
                ..Usage::default()
            })
        };
        for (object, expected) in [
            (r#"{"cache_n":83,"prompt_n":1,"prompt_ms":8.9,"predicted_n":57}"#, usage(84, 57, Some(83))),
            (r#"{"prompt_n":5,"predicted_n":0}"#, usage(5, 0, None)),
            (r#"{"prompt_n":5}"#, None),
            (r#"{"cache_n":5,"predicted_n":1}"#, None),
            (r#"{"prompt_n":"x","predicted_n":1}"#, None),
            ("[]", None),
            ("null", None),
        ] {
            assert_eq!(read(object.as_bytes()), expected, "{object}");
        }
    }

    #[test]
    fn llama_cpp_is_recognised_by_its_fingerprint() {
        for (fingerprint, expected) in [
            ("\"b7010-c27efd2bd\"", true),
            ("\"b1-0123456\"", true),
            ("\"fp_44709d6fcb\"", false),
            ("\"b7010\"", false),
            ("\"b-c27efd2bd\"", false),
            ("\"b7010-c27\"", false),
            ("\"\"", false),
            ("null", false),
        ] {
            assert_eq!(is_llama_cpp(fingerprint.as_bytes()), expected, "{fingerprint}");
        }
    }
}
