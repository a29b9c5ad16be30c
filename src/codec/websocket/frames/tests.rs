use super::*;
use crate::fuzzing::websocket as against_naive;

#[derive(Debug, Default, PartialEq)]
struct Heard {
    messages: Vec<(bool, Vec<u8>)>,
    open: Vec<u8>,
    controls: Vec<(Opcode, Vec<u8>)>,
}

impl FrameHandler for Heard {
    fn data(&mut self, _: bool, piece: &[u8]) {
        self.open.extend_from_slice(piece);
    }

    fn message_end(&mut self, is_text: bool) {
        let message = std::mem::take(&mut self.open);
        self.messages.push((is_text, message));
    }

    fn control(&mut self, opcode: Opcode, payload: &[u8]) {
        self.controls.push((opcode, payload.to_vec()));
    }
}

fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let bit = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(bit | length as u8),
        length @ 126..=0xffff => {
            frame.push(bit | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(bit | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(mask.into_iter().flatten());
    let key = mask.unwrap_or_default();
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

fn hear(pieces: &[&[u8]]) -> Result<Heard, FrameError> {
    let (mut frames, mut heard) = (Frames::new(), Heard::default());
    pieces.iter().try_for_each(|piece| frames.push(piece, &mut heard))?;
    Ok(heard)
}

/// A text in three frames with a ping and a pong between them, a binary message, a text of each
/// length, a close.
fn session(mask: Option<[u8; 4]>) -> (Vec<u8>, Heard) {
    let long = vec![b'x'; 300];
    let bytes = [
        frame(0x01, b"Hel", mask),
        frame(0x89, b"ping", mask),
        frame(0x00, b"", mask),
        frame(0x8a, b"", mask),
        frame(0x80, b"lo", mask),
        frame(0x82, &[0, 255], mask),
        frame(0x81, &long, mask),
        frame(0x81, b"", mask),
        frame(0x88, b"\x03\xe8bye", mask),
    ];
    let heard = Heard {
        messages: vec![(true, b"Hello".into()), (false, vec![0, 255]), (true, long), (true, Vec::new())],
        open: Vec::new(),
        controls: vec![
            (Opcode::Ping, b"ping".into()),
            (Opcode::Pong, Vec::new()),
            (Opcode::Close, b"\x03\xe8bye".into()),
        ],
    };
    (bytes.concat(), heard)
}

#[test]
fn a_session_is_read_at_every_split_masked_or_not() {
    for mask in [None, Some([7, 0, 255, 128]), Some([0; 4])] {
        let (bytes, heard) = session(mask);
        assert_eq!(hear(&[&bytes]), Ok(heard), "{mask:?} whole");
        let (_, heard) = session(mask);
        assert_eq!(hear(&bytes.chunks(1).collect::<Vec<_>>()), Ok(heard), "{mask:?} byte by byte");
        for at in 0..bytes.len() {
            let (_, heard) = session(mask);
            let (a, b) = bytes.split_at(at);
            assert_eq!(hear(&[a, b]), Ok(heard), "{mask:?} split at {at}");
        }
    }
}

#[test]
fn every_length_is_read() {
    for length in [125, 126, 127, 1023, 1024, 1025, 0xffff, 0x1_0000, 200_000] {
        let payload: Vec<u8> = (0..length).map(|at| at as u8).collect();
        let bytes = frame(0x82, &payload, Some([1, 2, 3, 4]));
        assert_eq!(hear(&[&bytes]).unwrap().messages, [(false, payload.clone())], "{length}");
        let pieces: Vec<&[u8]> = bytes.chunks(1021).collect();
        assert_eq!(hear(&pieces).unwrap().messages, [(false, payload)], "{length} in pieces");
    }
}

#[test]
fn a_frame_may_only_be_put_between_frames() {
    let (bytes, _) = session(Some([9, 8, 7, 6]));
    let mut frames = Frames::new();
    let mut ends = vec![0];
    for (at, byte) in bytes.iter().enumerate() {
        frames.push(&[*byte], &mut Heard::default()).unwrap();
        if frames.is_between_frames() {
            ends.push(at + 1);
        }
    }
    assert_eq!(ends.len(), 1 + 9, "after each of the frames");
    assert_eq!(ends.last(), Some(&bytes.len()));
}

#[test]
fn invalid_frame_is_an_error_and_stays_one() {
    for (bytes, error) in [
        (&b"\xc1\x00"[..], FrameError::Reserved),
        (b"\x83\x00", FrameError::Opcode),
        (b"\x8b\x00", FrameError::Opcode),
        (b"\x08\x00", FrameError::Control),
        (b"\x89\x7e\x00\x7e", FrameError::Control),
        (b"\x80\x00", FrameError::Order),
        (b"\x01\x00\x01\x00", FrameError::Order),
        (b"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00", FrameError::Length),
    ] {
        let mut frames = Frames::new();
        assert_eq!(frames.push(bytes, &mut Heard::default()), Err(error), "{bytes:?}");
        assert_eq!(frames.push(b"\x81\x00", &mut Heard::default()), Err(error), "{bytes:?}");
        assert!(frames.has_failed() && !frames.is_between_frames());
    }
}

#[test]
fn reader_agrees_with_the_naive_one() {
    for mask in [None, Some([7, 0, 255, 128])] {
        let (bytes, _) = session(mask);
        for step in [1, 2, 3, 7, 100] {
            against_naive(&[&[step], &bytes[..]].concat());
        }
    }
}
