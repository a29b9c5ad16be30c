//! Compares the trace context with the form of a `traceparent`.
//!
//! Input: the value of `traceparent`, and after a line break that of `tracestate`.

use http::HeaderValue;

use crate::codec::head::{Headers, KnownName};
use crate::codec::traceparent::{Sampling, SpanContext};

/// The header that is sent is always valid, parses as the same trace, and has the client's trace
/// exactly if that is valid.
pub fn traceparent(data: &[u8]) {
    let (parent, state) = data.split_at(data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len()));
    let mut headers = Headers::default();
    for (name, value) in [("traceparent", parent), ("tracestate", state.get(1..).unwrap_or_default())] {
        if HeaderValue::from_bytes(value).is_err() {
            return;
        }
        headers.append(name.as_bytes(), value);
    }
    let sampling = Sampling::new(0.5);
    let span = SpanContext::of(&headers, [7; 16], [9; 8], sampling);
    assert_eq!(span.parent_id.is_some(), is_valid(parent), "{parent:?}");

    span.put_on(&mut headers);
    let sent = headers.get(KnownName::Traceparent).expect("it was put on");
    assert!(is_valid(sent), "{sent:?}");
    assert_eq!(headers.has(KnownName::Tracestate), span.parent_id.is_some());
    let child = SpanContext::of(&headers, [1; 16], [2; 8], sampling);
    assert_eq!(
        (child.trace_id, child.parent_id, child.flags),
        (span.trace_id, Some(span.span_id), span.flags)
    );
    assert_eq!(child.state, span.state);
}

/// Section 3.2, implemented independently.
fn is_valid(value: &[u8]) -> bool {
    let fields: Vec<_> = value.split(|&byte| byte == b'-').collect();
    let [version, trace, span, flags, more @ ..] = fields.as_slice() else { return false };
    let is_hex = |field: &[u8], digits: usize| {
        field.len() == digits
            && field.iter().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte))
    };
    let is_zero = |field: &[u8]| field.iter().all(|&byte| byte == b'0');
    is_hex(version, 2)
        && *version != b"ff"
        && (more.is_empty() || *version != b"00")
        && is_hex(trace, 32)
        && !is_zero(trace)
        && is_hex(span, 16)
        && !is_zero(span)
        && is_hex(flags, 2)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_seeds_and_every_cut_of_them_pass() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/traceparent");
        for entry in std::fs::read_dir(seeds).expect("the seeds are in the repository") {
            let seed = std::fs::read(entry.unwrap().path()).unwrap();
            for end in 0..=seed.len() {
                super::traceparent(&seed[..end]);
            }
        }
    }
}
