//! A text message.

/// A text message of a server in one frame.
pub fn text_frame(text: &str) -> Vec<u8> {
    let length = text.len();
    let mut frame = vec![0x81];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..=125), _) => frame.push(length),
        (_, Ok(length)) => {
            frame.push(126);
            frame.extend(length.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(text.as_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::super::{FrameHandler, Frames};
    use super::*;

    #[derive(Default)]
    struct Read(Vec<u8>);

    impl FrameHandler for Read {
        fn data(&mut self, is_text: bool, piece: &[u8]) {
            assert!(is_text);
            self.0.extend_from_slice(piece);
        }
    }

    #[test]
    fn written_message_of_any_length_is_read() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 100_000] {
            let (mut frames, mut read) = (Frames::new(), Read::default());
            frames.push(&text_frame(&"x".repeat(length)), &mut read).unwrap();
            assert!(frames.is_between_messages() && read.0.len() == length, "{length}");
        }
    }
}
