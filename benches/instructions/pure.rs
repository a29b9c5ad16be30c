//! The paths without a socket.

use std::hint::black_box;

use streamgauge::llm::rewrite::body::{Edited, peek, set_model};
use streamgauge::llm::usage::{BodyMeter, Room, StreamMeter};

use super::callgrind::counted;
use super::content::{LAST_EVENTS, chat_events, completion, prompt};

/// The size of a socket read if an upstream is faster than we are.
const READ: usize = 16 << 10;

/// The meter over a stream of this many events and the last two, from a fast upstream.
pub(crate) fn meter_16k(times: usize) {
    let stream = chat_events().take(times).collect::<String>() + LAST_EVENTS;
    meter(&mut stream.as_bytes().chunks(READ));
}

/// Meters events from a slow upstream.
pub(crate) fn meter_event(times: usize) {
    let events: Vec<_> = chat_events().take(times).collect();
    meter(&mut events.iter().map(String::as_bytes).chain([LAST_EVENTS.as_bytes()]));
}

/// The text is kept, as the proxy does until usage is reported.
fn meter(pieces: &mut dyn Iterator<Item = &[u8]>) {
    let pieces: Vec<_> = pieces.collect();
    let room = Room::new(1 << 20);
    let mut tokens = None;
    counted(&mut || {
        let mut meter = StreamMeter::new();
        meter.keep_output(&room);
        for piece in &pieces {
            black_box(meter.push(black_box(piece)));
        }
        tokens = meter.tally().usage.and_then(|usage| usage.total_tokens);
    });
    assert_eq!(tokens, Some(419));
}

/// The meter over responses with one body.
pub(crate) fn meter_body(bodies: usize) {
    let (body, room) = (completion(), Room::new(1 << 20));
    let mut tokens = 0;
    counted(&mut || {
        for _ in 0..bodies {
            let mut meter = BodyMeter::new();
            meter.keep_output(&room);
            meter.push(black_box(body.as_bytes()));
            tokens += meter.finish().usage.and_then(|usage| usage.total_tokens).unwrap_or_default();
        }
    });
    assert_eq!(tokens, 97 * bodies as u64);
}

/// Reading a request's body, and replacing its model.
pub(crate) fn body_edit(bodies: usize) {
    let body = prompt();
    let mut pieces = 0;
    counted(&mut || {
        for _ in 0..bodies {
            let body = black_box(&body);
            let seen = peek(body).unwrap();
            let edited = black_box(Edited::new(body, [set_model(body, &seen, "gpt-4.1-mini")]));
            pieces += edited.pieces().iter().filter(|piece| !piece.is_empty()).count();
        }
    });
    assert_eq!(pieces, 3 * bodies, "what is before the model, the model, and what is behind it");
}
