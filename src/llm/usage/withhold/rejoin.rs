//! Restores the `timings` of llama.cpp's server, which with `include_usage` move out of the event
//! with the finish reason and into the usage event.
//!
//! In a stream of that server the rest of the event with a finish reason waits, from the reason on,
//! for the next event, which the server sends with it. If that event is withheld and has `timings`,
//! they are put back as the last member of the object, where the client would have received them.
//! Otherwise the waiting bytes pass unchanged.

use memchr::memmem;

use super::HOLD_LIMIT;
use crate::codec::json::Cursor;

/// The end of the event with the finish reason, while it may have to be changed.
#[derive(Debug, Default)]
pub(super) struct Rejoin {
    at: At,
    /// The waiting bytes: empty, or everything from the finish reason on.
    tail: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// The stream is before a finish reason.
    #[default]
    Before,
    /// The stream is behind the finish reason, inside of its event.
    Inside,
    /// The stream is behind that event.
    Behind,
}

impl Rejoin {
    /// Returns true if the client has the beginning of an event whose rest waits.
    pub(super) fn is_inside_event(&self) -> bool {
        self.at != At::Before
    }

    /// Takes what passes the filter of one event, or of a part of it; `ended`: it is the last part.
    /// Appends to `out` what may go to the client.
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

    /// Releases the waiting bytes.
    pub(super) fn release(&mut self, out: &mut Vec<u8>) {
        self.at = At::Before;
        out.append(&mut self.tail);
    }
}

/// The start of a finish reason that is a string, including its key.
fn finish_reason(part: &[u8]) -> Option<usize> {
    const KEY: &[u8] = b"\"finish_reason\"";
    memmem::find_iter(part, KEY).find(|at| {
        let rest = part[at + KEY.len()..].trim_ascii_start();
        rest.strip_prefix(b":").is_some_and(|rest| rest.trim_ascii_start().starts_with(b"\""))
    })
}

/// The member `timings` of the event's object as written, with a comma before it.
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
