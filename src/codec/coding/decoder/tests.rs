use std::io::Write;

use flate2::Compression;

use super::*;
use crate::codec::coding::MAX_CODINGS;
use crate::codec::coding::zstd::WINDOW_LOG_MAX;

#[path = "../../../../tests/harness/encoders.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests of the proxy use more of it")]
mod encoders;

const ALL: [Coding; 4] = [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];

/// `pieces` as a server encodes them, each followed by a flush.
fn encode(coding: Coding, pieces: &[&[u8]]) -> Vec<Vec<u8>> {
    encoders::encode(&coding.to_string(), pieces)
}

fn whole(coding: Coding, text: &[u8]) -> Vec<u8> {
    encoders::whole(&coding.to_string(), text)
}

fn bare_deflate(text: &[u8]) -> Vec<u8> {
    encoders::whole("bare deflate", text)
}

/// The decoded `pieces`, and whether they are complete.
fn decode(codings: &[Coding], pieces: &[&[u8]]) -> Result<(Vec<u8>, bool), DecodeError> {
    let mut decoder = ContentDecoder::new(codings);
    let mut text = Vec::new();
    for piece in pieces {
        decoder.push(piece, &mut |piece| text.extend_from_slice(piece))?;
    }
    Ok((text, decoder.is_complete()))
}

fn at_every_split(codings: &[Coding], encoded: &[u8], text: &[u8]) {
    let expected = Ok((text.to_vec(), true));
    assert_eq!(decode(codings, &[encoded]), expected, "{codings:?} whole");
    let bytes: Vec<&[u8]> = encoded.chunks(1).collect();
    assert_eq!(decode(codings, &bytes), expected, "{codings:?} byte by byte");
    for at in 0..encoded.len() {
        let (a, b) = encoded.split_at(at);
        assert_eq!(decode(codings, &[a, b]), expected, "{codings:?} split at {at}");
    }
}

const TEXT: &[u8] =
    b"data: {\"choices\":[{\"delta\":{\"content\":\"Hello, hello, hello\"}}]}\n\ndata: [DONE]\n\n";

#[test]
fn every_coding_is_undone_at_every_split() {
    for coding in ALL {
        for text in [TEXT, b"", b"x"] {
            at_every_split(&[coding], &whole(coding, text), text);
        }
    }
    at_every_split(&[Coding::Deflate], &bare_deflate(TEXT), TEXT);
    at_every_split(&[Coding::Deflate], &bare_deflate(b""), b"");
}

#[test]
fn flushed_bytes_are_available_at_once() {
    for coding in ALL {
        let pieces: Vec<&[u8]> = TEXT.split_inclusive(|&byte| byte == b'\n').collect();
        let mut decoder = ContentDecoder::new(&[coding]);
        for (encoded, piece) in encode(coding, &pieces).iter().zip(&pieces) {
            let mut text = Vec::new();
            decoder.push(encoded, &mut |piece| text.extend_from_slice(piece)).unwrap();
            assert_eq!(text, *piece, "{coding}");
            assert!(!decoder.is_complete(), "{coding}");
        }
    }
}

#[test]
fn codings_in_a_row_are_undone_from_the_last_to_the_first() {
    let twice = whole(Coding::Brotli, &whole(Coding::Gzip, TEXT));
    at_every_split(&[Coding::Gzip, Coding::Brotli], &twice, TEXT);
    let codings = [Coding::Zstd; MAX_CODINGS];
    let encoded = codings.iter().fold(TEXT.to_vec(), |text, coding| whole(*coding, &text));
    at_every_split(&codings, &encoded, TEXT);
}

#[test]
fn gzip_members_and_zstd_frames_concatenate_and_skip_padding() {
    for coding in [Coding::Gzip, Coding::Zstd] {
        let both = [whole(coding, b"Hello "), whole(coding, b""), whole(coding, TEXT)].concat();
        at_every_split(&[coding], &both, &[b"Hello ", TEXT].concat());
    }
    for (coding, padding) in
        [(Coding::Gzip, &b"\0\0\0\0"[..]), (Coding::Deflate, b"\n"), (Coding::Brotli, b"xyz")]
    {
        at_every_split(&[coding], &[&whole(coding, TEXT), padding].concat(), TEXT);
    }
}

#[test]
fn a_gzip_header_may_have_a_name_and_a_comment_of_any_length() {
    let long = vec![b'n'; 100_000];
    let mut encoder = flate2::GzBuilder::new()
        .filename(long.clone())
        .comment(long)
        .extra(*b"extra")
        .write(Vec::new(), Compression::fast());
    encoder.write_all(TEXT).unwrap();
    let encoded = encoder.finish().unwrap();
    let pieces: Vec<&[u8]> = encoded.chunks(1000).collect();
    assert_eq!(decode(&[Coding::Gzip], &pieces), Ok((TEXT.to_vec(), true)));
}

#[test]
fn a_cut_is_no_error_but_not_complete() {
    for coding in ALL {
        let encoded = whole(coding, TEXT);
        for at in 0..encoded.len() {
            let (text, complete) = decode(&[coding], &[&encoded[..at]]).unwrap();
            assert!(TEXT.starts_with(&text), "{coding} cut at {at}");
            assert!(!complete, "{coding} cut at {at}");
        }
    }
}

#[test]
fn other_encoding_is_an_error_and_stays_one() {
    for coding in [Coding::Gzip, Coding::Zstd, Coding::Deflate] {
        let mut decoder = ContentDecoder::new(&[coding]);
        let mut nothing = |_: &[u8]| panic!("{coding}: nothing can come of it");
        // A stored block's length, which the first byte of the text begins, does not match its
        // complement.
        assert_eq!(
            decoder.push(b"hello\xff\xff\xff\xff", &mut nothing),
            Err(DecodeError::Corrupt),
            "{coding}"
        );
        assert_eq!(decoder.push(&whole(coding, TEXT), &mut nothing), Err(DecodeError::Corrupt), "{coding}");
    }
    assert_eq!(decode(&[Coding::Brotli], &[&[0xff; 64]]), Err(DecodeError::Corrupt));
}

#[test]
fn windows_beyond_the_codings_own_limits_are_refused() {
    let mut encoder = ::zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(WINDOW_LOG_MAX + 1).unwrap();
    encoder.write_all(TEXT).unwrap();
    encoder.flush().unwrap();
    assert_eq!(decode(&[Coding::Zstd], &[encoder.get_ref()]), Err(DecodeError::Corrupt));

    let params = ::brotli::enc::BrotliEncoderParams { large_window: true, lgwin: 28, ..Default::default() };
    let mut encoded = Vec::new();
    ::brotli::BrotliCompress(&mut &TEXT[..], &mut encoded, &params).unwrap();
    assert_eq!(decode(&[Coding::Brotli], &[&encoded]), Err(DecodeError::Corrupt));
}

/// Enough for every coding: `deflate` shrinks it to a thousandth at best.
const BOMB: usize = 12 << 20;

#[test]
fn a_bomb_is_given_up_before_it_has_cost_much() {
    for coding in ALL {
        let bomb = whole(coding, &vec![0; BOMB]);
        let mut decoder = ContentDecoder::new(&[coding]);
        let mut written = 0;
        let result = bomb
            .chunks(1024)
            .try_for_each(|piece| decoder.push(piece, &mut |piece| written += piece.len() as u64));
        assert_eq!(result, Err(DecodeError::TooLarge), "{coding}");
        let allowed = FREE_OUTPUT + MAX_RATIO * bomb.len() as u64;
        assert!(written <= allowed, "{coding}: {written} of {allowed} bytes");
    }
    // The outer coding's output counts, even if the inner one yields nothing.
    let inner = whole(Coding::Zstd, &vec![0; BOMB]);
    let outer = whole(Coding::Gzip, &inner);
    assert_eq!(decode(&[Coding::Zstd, Coding::Gzip], &[&outer]).unwrap_err(), DecodeError::TooLarge);
}

#[test]
fn short_response_may_repeat_itself_much() {
    let text = vec![b' '; FREE_OUTPUT as usize];
    for coding in ALL {
        assert_eq!(decode(&[coding], &[&whole(coding, &text)]), Ok((text.clone(), true)), "{coding}");
    }
}
