//! Compares WebSocket frames in pieces with a reader of the whole.
//!
//! Input: a byte that selects the split, and the frames.

use crate::codec::websocket::{FrameError, FrameHandler, Frames, Opcode};

/// The messages of one direction.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    /// Whole messages and control frames, in the order in which they ended.
    ended: Vec<(Option<Opcode>, Vec<u8>)>,
    open: Vec<u8>,
}

impl FrameHandler for Heard {
    fn data(&mut self, _: bool, piece: &[u8]) {
        self.open.extend_from_slice(piece);
    }

    fn message_end(&mut self, _: bool) {
        let message = std::mem::take(&mut self.open);
        self.ended.push((None, message));
    }

    fn control(&mut self, opcode: Opcode, payload: &[u8]) {
        self.ended.push((Some(opcode), payload.to_vec()));
    }
}

/// Both read the same messages, and find the same fault.
pub fn websocket(data: &[u8]) {
    let Some((&step, bytes)) = data.split_first() else { return };
    let (mut frames, mut heard) = (Frames::new(), Heard::default());
    let result = bytes.chunks(usize::from(step).max(1)).try_for_each(|piece| frames.push(piece, &mut heard));
    let (naive, expected) = naive(bytes);
    assert_eq!(result, expected, "another verdict in pieces of {step}");
    assert_eq!(heard, naive, "something else is heard in pieces of {step}");
}

fn naive(mut bytes: &[u8]) -> (Heard, Result<(), FrameError>) {
    let mut heard = Heard::default();
    let mut inside = false;
    loop {
        let [first, second, rest @ ..] = bytes else { return (heard, Ok(())) };
        let size = [0, 2, 8][usize::from((*second & 0x7f).saturating_sub(125)).min(2)];
        let masked = if second & 0x80 == 0 { 0 } else { 4 };
        if rest.len() < size + masked {
            return (heard, Ok(()));
        }
        let mut length = u64::from(second & 0x7f);
        if size > 0 {
            length = rest[..size].iter().fold(0, |length, byte| length * 256 + u64::from(*byte));
        }
        let mask = &rest[size..size + masked];
        let rest = &rest[size + masked..];
        let (opcode, is_final) = (first & 15, first & 0x80 != 0);
        let error = match opcode {
            _ if length > i64::MAX as u64 => Some(FrameError::Length),
            _ if first & 0x70 != 0 => Some(FrameError::Reserved),
            0 if !inside => Some(FrameError::Order),
            1 | 2 if inside => Some(FrameError::Order),
            0..=2 => None,
            8..=10 if !is_final || length > 125 => Some(FrameError::Control),
            8..=10 => None,
            _ => Some(FrameError::Opcode),
        };
        if let Some(error) = error {
            return (heard, Err(error));
        }
        let here = rest.len().min(usize::try_from(length).unwrap_or(usize::MAX));
        let payload: Vec<u8> = rest[..here]
            .iter()
            .enumerate()
            .map(|(at, byte)| byte ^ mask.get(at % 4).copied().unwrap_or(0))
            .collect();
        if opcode <= 2 {
            heard.open.extend_from_slice(&payload);
        }
        if (here as u64) < length {
            return (heard, Ok(()));
        }
        match opcode {
            0..=2 if is_final => heard.message_end(true),
            0..=2 => {}
            8 => heard.control(Opcode::Close, &payload),
            9 => heard.control(Opcode::Ping, &payload),
            _ => heard.control(Opcode::Pong, &payload),
        }
        if opcode <= 2 {
            inside = !is_final;
        }
        bytes = &rest[here..];
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    #[test]
    fn the_seeds_hold() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/websocket");
        let mut count = 0;
        for seed in fs::read_dir(seeds).unwrap() {
            let mut seed = fs::read(seed.unwrap().path()).unwrap();
            for at in 0..seed.len() {
                for turned in [0, 0x01, 0x80, 0xff] {
                    seed[at] ^= turned;
                    super::websocket(&seed);
                    seed[at] ^= turned;
                }
            }
            count += 1;
        }
        assert!(count >= 3, "the seeds are there");
    }
}
