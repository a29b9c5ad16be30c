//! The verdict on a failure, and the gate before the first event, for any response.
//!
//! Input: two bytes for the status, a byte for the size of the pieces, header lines that end with LF,
//! an empty line, and the body.

use std::time::{Duration, Instant};

use crate::balance::{
    Clock, Closes, Cooldown, Failure, FirstEvent, OutReason, RetryClass, RetryOn, UpstreamError, Verdict,
    cooldown,
};
use crate::codec::head::Headers;
use crate::codec::sse::EventDecoder;

/// The time 2026-01-02T03:04:05Z.
const NOW: Duration = Duration::from_secs(1_767_323_045);

/// Checks that a cool-down is above 0 and at most 10 minutes, that only refused credentials and an
/// exhausted account close an upstream, that relayed responses are never tried again, with any
/// configuration, and that the events of the body, read as a stream, decide the same in any pieces.
pub fn verdict(data: &[u8]) {
    let [high, low, step, rest @ ..] = data else { return };
    let status = u16::from_be_bytes([*high, *low]) % 700;
    let (headers, body) = split(rest);
    let clock = Clock { now: Instant::now(), unix: NOW };
    let error = UpstreamError::parse(body);

    if let Some(Cooldown(pause)) = cooldown(&headers, &error, clock) {
        assert!(!pause.is_zero() && pause <= Duration::from_secs(600), "{pause:?}");
    }
    let response = Failure::Response { status, headers: &headers, error: &error };
    check(&response, clock, status == 401);
    check(&Failure::FirstEvent { error: &error }, clock, false);

    let whole = decide([body]);
    assert_eq!(decide(body.chunks(1)), whole, "byte by byte");
    assert_eq!(decide(body.chunks(usize::from(*step).max(2))), whole, "in pieces");
    if let FirstEvent::Failed(error) = &whole {
        check(&Failure::FirstEvent { error }, clock, false);
    }
}

fn check(failure: &Failure<'_>, clock: Clock, may_refuse_credentials: bool) {
    let verdict = Verdict::of(failure, clock);
    let all = RetryOn::parse(RetryOn::WORDS).unwrap_or(RetryOn::NONE);
    assert_eq!(verdict.may_retry(all), verdict.class != RetryClass::Relay, "{failure:?}");
    assert_eq!(verdict.may_retry(RetryOn::NONE), verdict.class == RetryClass::OtherMember, "{failure:?}");
    match verdict.closes {
        Closes::Upstream(opening) if opening.reason == OutReason::Quota => {}
        Closes::Upstream(_) => assert!(may_refuse_credentials, "{failure:?}"),
        Closes::Connection => panic!("there was a response: {failure:?}"),
        Closes::Nothing | Closes::Run | Closes::Limit(_) | Closes::Model(_) => {}
    }
}

fn decide<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> FirstEvent {
    let (mut decoder, mut decision) = (EventDecoder::new(), FirstEvent::default());
    pieces.into_iter().for_each(|piece| decoder.push(piece, &mut decision));
    decision
}

/// The header lines and the body behind the empty line.
fn split(mut rest: &[u8]) -> (Headers, &[u8]) {
    let mut headers = Headers::default();
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let (line, behind) = (&rest[..end], &rest[end + 1..]);
        rest = behind;
        if line.is_empty() {
            break;
        }
        let colon = memchr::memchr(b':', line).unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default().trim_ascii();
        let name = &line[..colon];
        let is_valid = |byte: &u8| matches!(byte, b' '..=b'~' | 0x80..);
        if (1..100).contains(&name.len()) && name.is_ascii() && value.iter().all(is_valid) {
            headers.append(name, value);
        }
    }
    (headers, rest)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_seeds_and_every_cut_of_them_pass() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/verdict");
        let mut count = 0;
        for entry in std::fs::read_dir(seeds).expect("the seeds are in the repository") {
            let seed = std::fs::read(entry.expect("an entry").path()).expect("a readable seed");
            (0..=seed.len()).for_each(|end| super::verdict(&seed[..end]));
            count += 1;
        }
        assert!(count >= 6, "the seeds were not found");
    }
}
