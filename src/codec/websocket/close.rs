//! The close frame.

/// The payload of a close frame (RFC 6455 section 5.5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The status code. `None` if the frame has none.
    pub code: Option<u16>,
    /// The reason as text; invalid UTF-8 is replaced.
    pub reason: Box<str>,
}

/// The session ended normally.
const NORMAL: u16 = 1000;

/// An endpoint leaves: a server stops, a page is closed.
pub(crate) const GOING_AWAY: u16 = 1001;

/// The message breaks a rule of the receiver.
pub(crate) const POLICY_VIOLATION: u16 = 1008;

/// The other side of the session failed (RFC 6455 section 7.4.1).
pub(crate) const INTERNAL_ERROR: u16 = 1011;

impl Close {
    /// Reads a close frame's payload.
    pub fn read(payload: &[u8]) -> Self {
        match payload {
            [high, low, reason @ ..] => Self {
                code: Some(u16::from_be_bytes([*high, *low])),
                reason: String::from_utf8_lossy(reason).into(),
            },
            _ => Self { code: None, reason: Box::default() },
        }
    }

    /// Returns true if the code means a failure.
    pub fn is_failure(&self) -> bool {
        !matches!(self.code, None | Some(NORMAL | GOING_AWAY))
    }
}

/// The longest reason: a control frame has 125 bytes, and the code takes two.
const MAX_REASON: usize = 123;

/// A close frame with this code. `mask` is required from a client.
pub fn close_frame(code: u16, reason: &str, mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut end = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let payload = [&code.to_be_bytes()[..], &reason.as_bytes()[..end]].concat();
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = vec![0x88, masked | payload.len() as u8];
    frame.extend(mask.into_iter().flatten());
    let key = mask.unwrap_or_default();
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

#[cfg(test)]
mod tests {
    use super::super::{FrameHandler, Frames, Opcode};
    use super::*;

    struct Last(Option<Close>);

    impl FrameHandler for Last {
        fn control(&mut self, opcode: Opcode, payload: &[u8]) {
            assert_eq!(opcode, Opcode::Close);
            self.0 = Some(Close::read(payload));
        }
    }

    #[test]
    fn written_close_frame_is_read_masked_or_not() {
        for mask in [None, Some([1, 2, 3, 250])] {
            for (reason, read) in [("", ""), ("bye", "bye"), (&"é".repeat(100), &"é".repeat(61))] {
                let mut last = Last(None);
                let mut frames = Frames::new();
                frames.push(&close_frame(GOING_AWAY, reason, mask), &mut last).unwrap();
                assert_eq!(last.0, Some(Close { code: Some(1001), reason: read.into() }));
                assert!(frames.is_between_frames());
            }
        }
    }

    #[test]
    fn a_session_fails_by_any_code_but_the_two_good_ones() {
        let close = |code: u16| Close { code: Some(code), reason: Box::default() };
        assert!(!close(1000).is_failure() && !close(1001).is_failure() && !Close::read(b"").is_failure());
        assert!(close(1011).is_failure() && close(4000).is_failure());
        assert_eq!(Close::read(b"\x03"), Close { code: None, reason: Box::default() });
    }
}
