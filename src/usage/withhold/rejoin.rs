//! llama.cpp's server moves its `timings` when it is asked for usage: out of the event with the
//! finish reason, into the usage event.
//!
//! A client that did not ask gets them where they would have been. So in a stream of that server
//! the rest of the event with a finish reason, from that reason on, waits for the event behind it,
//! which the server sends with it. If that is withheld and has `timings`, they are put back: the
//! last member of the object, as they are in the unasked stream. Anything else lets what waits
//! pass.

use memchr::memmem;

use super::HOLD_LIMIT;
use crate::json::Cursor;

/// The end of the event with the finish reason, as long as it may have to be changed.
#[derive(Debug, Default)]
pub(super) struct Rejoin {
    at: At,
    /// What waits of it: empty, or all from its finish reason on.
    tail: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// No finish reason has come in the event.
    #[default]
    Before,
    /// It has, and the event goes on.
    Inside,
    /// The event has ended.
    Behind,
}

impl Rejoin {
    /// Whether the client has the beginning of an event whose rest waits.
    pub(super) fn is_inside_event(&self) -> bool {
        self.at != At::Before
    }

    /// What passes the filter of one event, or of a part of it that is its last one if it has
    /// `ended`. What may go on to the client is added to `out`.
    pub(super) fn pass(&mut self, passed: &[u8], ended: bool, out: &mut Vec<u8>) {
        if passed.is_empty() {
            return;
        }
        // The rest of a line end that was cut.
        if self.at == At::Behind && passed == b"\n" {
            return self.tail.push(b'\n');
        }
        if self.at == At::Behind || self.tail.len() > HOLD_LIMIT {
            self.release(out);
        }
        match self.at {
            At::Inside => self.tail.extend_from_slice(passed),
            At::Before | At::Behind => {
                let waits = finish_reason(passed).unwrap_or(passed.len());
                out.extend_from_slice(&passed[..waits]);
                self.tail.extend_from_slice(&passed[waits..]);
                if waits < passed.len() {
                    self.at = At::Inside;
                }
            }
        }
        if ended && self.at == At::Inside {
            self.at = At::Behind;
        }
    }

    /// The filter has withheld this event.
    pub(super) fn withheld(&mut self, event: &[u8], out: &mut Vec<u8>) {
        if self.at == At::Behind
            && memmem::find(&self.tail, b"\"timings\"").is_none()
            && let Some(end) = memchr::memrchr(b'}', &self.tail)
            && let Some(member) = timings(event)
        {
            self.tail.splice(end..end, member);
        }
        self.release(out);
    }

    /// What waits passes.
    pub(super) fn release(&mut self, out: &mut Vec<u8>) {
        self.at = At::Before;
        out.append(&mut self.tail);
    }
}

/// Where in a part of an event a finish reason that is a string begins, key and all.
fn finish_reason(part: &[u8]) -> Option<usize> {
    const KEY: &[u8] = b"\"finish_reason\"";
    memmem::find_iter(part, KEY).find(|at| {
        let rest = part[at + KEY.len()..].trim_ascii_start();
        rest.strip_prefix(b":").is_some_and(|rest| rest.trim_ascii_start().starts_with(b"\""))
    })
}

/// The member `timings` of the event's object, as it is written there, with a comma before it.
fn timings(event: &[u8]) -> Option<Vec<u8>> {
    let json = &event[memmem::find(event, b"data:")? + b"data:".len()..];
    let mut cursor = Cursor::new(json);
    cursor.expect(b'{').ok()?;
    let mut is_first = true;
    loop {
        let from = cursor.position();
        let (key, value) = cursor.member(is_first).ok()??;
        if key.spelled() == b"timings" {
            let comma = if is_first { &b","[..] } else { b"" };
            return Some([comma, &json[from..value.end]].concat());
        }
        is_first = false;
    }
}

#[cfg(test)]
mod tests;
