//! `audio/speech`: silence, as a file or in events.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};

use super::directions::Directions;
use super::error::Failure;
use super::ordered::object;
use super::reel::{Event, Reel};
use super::tally::Tokens;

/// A frame of silence, 26 ms: MPEG-1 layer III, 32 kbit/s, 44.1 kHz, one channel; its length is 144
/// * 32,000 / 44,100.
const MP3_HEADER: [u8; 4] = [0xff, 0xfb, 0x10, 0xc4];
const MP3_FRAME: usize = 104;

/// Samples of a second, and the bytes of one.
const RATE: u32 = 24_000;
const SAMPLE: u32 = 2;

/// A piece of PCM: 20 ms.
const PCM_PIECE: usize = (RATE / 50 * SAMPLE) as usize;

/// The largest number of pieces of sound: half an hour.
const MAX_PIECES: u64 = 90_000;

/// A form of sound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Sound {
    Mp3,
    Wav,
    Pcm,
}

impl Sound {
    pub(super) fn named(name: Option<&str>) -> Result<Self, Failure> {
        match name.unwrap_or("mp3") {
            "mp3" => Ok(Self::Mp3),
            "wav" => Ok(Self::Wav),
            "pcm" => Ok(Self::Pcm),
            _ => Err(Failure::parameter("response_format", None, "The simulator speaks mp3, wav and pcm.")),
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Mp3 => "audio/mpeg",
            Self::Wav => "audio/wav",
            Self::Pcm => "audio/pcm",
        }
    }

    fn piece(self) -> Vec<u8> {
        match self {
            Self::Mp3 => {
                let mut frame = MP3_HEADER.to_vec();
                frame.resize(MP3_FRAME, 0);
                frame
            }
            Self::Wav | Self::Pcm => vec![0; PCM_PIECE],
        }
    }

    /// A file with as many pieces as there are events.
    pub(super) fn file(self, directions: &Directions) -> Bytes {
        let sound = self.piece().repeat(pieces(directions) as usize);
        let mut file = BytesMut::with_capacity(sound.len() + 44);
        if self == Self::Wav {
            put_wav_header(&mut file, sound.len() as u32);
        }
        file.put_slice(&sound);
        file.freeze()
    }

    /// The speech in events.
    pub(super) fn reel(self, input_tokens: u64, directions: Directions) -> Reel {
        let audio = STANDARD.encode(self.piece());
        let count = pieces(&directions);
        let delta = || Event::data(&object! { "type": "speech.audio.delta", "audio": audio });
        let mut events: Vec<_> = (0..count).map(|_| delta()).collect();
        let tokens = Tokens { input: input_tokens, output: count };
        let usage = object! {
            "input_tokens": tokens.input, "output_tokens": tokens.output, "total_tokens": tokens.input + tokens.output,
        };
        let done = Event::data(&object! { "type": "speech.audio.done", "usage": usage });
        events.push(done.reporting(Some(tokens)));
        Reel::of_events(events, directions)
    }
}

fn pieces(directions: &Directions) -> u64 {
    directions.events.min(MAX_PIECES)
}

/// RIFF's header of PCM with one channel.
fn put_wav_header(out: &mut BytesMut, length: u32) {
    out.put_slice(b"RIFF");
    out.put_u32_le(36 + length);
    out.put_slice(b"WAVEfmt ");
    out.put_u32_le(16);
    out.put_u16_le(1);
    out.put_u16_le(1);
    out.put_u32_le(RATE);
    out.put_u32_le(RATE * SAMPLE);
    out.put_u16_le(SAMPLE as u16);
    out.put_u16_le(8 * SAMPLE as u16);
    out.put_slice(b"data");
    out.put_u32_le(length);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_what_they_say() {
        let mut directions = Directions::default();
        directions.add("events=3").unwrap();
        let mp3 = Sound::Mp3.file(&directions);
        assert_eq!((mp3.len(), &mp3[104..108]), (312, MP3_HEADER.as_slice()));
        let wav = Sound::Wav.file(&directions);
        assert!(wav.starts_with(b"RIFF") && wav[4..8] == (wav.len() as u32 - 8).to_le_bytes());
        assert_eq!(wav[40..44], (wav.len() as u32 - 44).to_le_bytes());
        assert_eq!(Sound::Pcm.file(&directions).len() + 44, wav.len());
        let reel = Sound::Pcm.reel(2, directions);
        assert_eq!((reel.events.len(), reel.events[3].tokens), (4, Some(Tokens { input: 2, output: 3 })));
    }
}
