//! The chunked coding: RFC 9112 section 7.1.

use std::ops::Range;

use http::HeaderMap;

use super::body::Decoded;
use super::error::ProtocolError;
use super::trailers::Trailers;

/// The largest number of bytes between a chunk's size and the end of its line.
pub const MAX_CHUNK_LINE: usize = 4 * 1024;

/// The bytes of extensions that every body may have. Beyond them, a body may have as many as it has
/// payload: a stream of days may sign each chunk, but no peer can keep us busy with extensions
/// alone.
pub const EXTENSIONS_FREE: u64 = 16 * 1024;

/// The largest number of digits of a size: those of a `u64`, including leading zeros.
const MAX_DIGITS: u8 = 16;

/// Decodes chunks.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    state: State,
    /// The payload so far, which allows as many bytes of extensions.
    payload: u64,
    /// The extensions so far, of lines that have ended.
    extensions: u64,
    trailers: Trailers,
}

/// The role of the next byte.
#[derive(Clone, Copy, Debug)]
enum State {
    /// A digit of a chunk's size, or the byte after it.
    Size { size: u64, digits: u8 },
    /// Part of an extension, or of the spaces before it, or the CR that ends them.
    Extension { size: u64, seen: usize, named: bool },
    /// The LF of the size's line.
    SizeLineFeed { size: u64 },
    /// A chunk's data. `left` is not 0.
    Data { left: u64 },
    /// The line end after a chunk's data.
    DataReturn,
    /// The LF after [`State::DataReturn`].
    DataLineFeed,
    /// Part of a trailer, or of the empty line that ends the body.
    Trailer,
    /// The bytes after the body.
    Done,
    /// The bytes after an error.
    Failed(ProtocolError),
}

impl Default for State {
    fn default() -> Self {
        Self::Size { size: 0, digits: 0 }
    }
}

impl Chunked {
    pub(super) fn decode(&mut self, buf: &mut [u8]) -> Result<Decoded, ProtocolError> {
        if let (State::Size { digits: 0, .. }, Some(data)) = (self.state, whole_chunk(buf)) {
            self.payload += data.len() as u64;
            return Ok(Decoded { data, consumed: buf.len() });
        }
        let (mut data, mut at) = (0..0, 0);
        match self.run(buf, &mut at, &mut data) {
            Ok(()) => Ok(Decoded { data, consumed: at }),
            Err(error) => {
                self.state = State::Failed(error);
                if data.is_empty() { Err(error) } else { Ok(Decoded { data, consumed: buf.len() }) }
            }
        }
    }

    pub(super) fn failure(&self) -> Option<ProtocolError> {
        if let State::Failed(error) = self.state { Some(error) } else { None }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    pub(super) fn end_of_connection(&self) -> Result<(), ProtocolError> {
        match self.state {
            State::Done => Ok(()),
            State::Failed(error) => Err(error),
            _ => Err(ProtocolError::ChunksCutShort),
        }
    }

    pub(super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    /// Decodes `buf` from `at` on, to its end or the body's, and gathers the payload in `data`.
    fn run(&mut self, buf: &mut [u8], at: &mut usize, data: &mut Range<usize>) -> Result<(), ProtocolError> {
        if let State::Failed(error) = self.state {
            return Err(error);
        }
        while *at < buf.len() {
            let rest = &buf[*at..];
            self.state = match self.state {
                State::Size { size, digits } => {
                    let (used, state) = read_size(rest, size, digits)?;
                    *at += used;
                    state
                }
                State::Extension { size, seen, named } => {
                    *at += 1;
                    self.extension(rest[0], size, seen, named)?
                }
                State::SizeLineFeed { size } => {
                    expect(rest[0] == b'\n', ProtocolError::ChunkSize)?;
                    *at += 1;
                    after_size(size)
                }
                State::Data { left } => {
                    let taken = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                    gather(buf, data, *at..*at + taken);
                    *at += taken;
                    self.payload += taken as u64;
                    match left - taken as u64 {
                        0 => State::DataReturn,
                        left => State::Data { left },
                    }
                }
                // Both bytes at once, as they nearly always come.
                State::DataReturn if rest.starts_with(b"\r\n") => {
                    *at += 2;
                    State::default()
                }
                State::DataReturn => {
                    expect(rest[0] == b'\r', ProtocolError::ChunkEnd)?;
                    *at += 1;
                    State::DataLineFeed
                }
                State::DataLineFeed => {
                    expect(rest[0] == b'\n', ProtocolError::ChunkEnd)?;
                    *at += 1;
                    State::default()
                }
                State::Trailer => {
                    let (used, ended) = self.trailers.read(rest)?;
                    *at += used;
                    if ended { State::Done } else { State::Trailer }
                }
                state @ (State::Done | State::Failed(_)) => {
                    self.state = state;
                    return Ok(());
                }
            };
        }
        Ok(())
    }

    /// Decodes one byte between a chunk's size and the end of its line: spaces, then extensions.
    #[cold]
    fn extension(&mut self, byte: u8, size: u64, seen: usize, named: bool) -> Result<State, ProtocolError> {
        match byte {
            b'\r' => {
                self.extensions += seen as u64;
                expect(
                    self.extensions <= EXTENSIONS_FREE + self.payload,
                    ProtocolError::ChunkExtensionsTooLarge,
                )?;
                return Ok(State::SizeLineFeed { size });
            }
            b'\n' => return Err(ProtocolError::BareLineFeed),
            b'\t' | b' ' => {}
            b';' if !named => {}
            _ if !named => return Err(ProtocolError::ChunkSize),
            _ => expect(!byte.is_ascii_control(), ProtocolError::ChunkExtension)?,
        }
        expect(seen < MAX_CHUNK_LINE, ProtocolError::ChunkExtensionsTooLarge)?;
        Ok(State::Extension { size, seen: seen + 1, named: named || byte == b';' })
    }
}

/// The payload of a buffer that is one chunk with payload, as an event usually arrives.
#[inline]
fn whole_chunk(buf: &[u8]) -> Option<Range<usize>> {
    let Ok((start, State::Data { left })) = read_size(buf, 0, 0) else { return None };
    let end = start.checked_add(usize::try_from(left).ok()?)?;
    (buf.get(end..)? == b"\r\n").then_some(start..end)
}

/// Reads digits, and the line end if it is there. Returns also the number of used bytes.
#[inline]
fn read_size(rest: &[u8], mut size: u64, mut digits: u8) -> Result<(usize, State), ProtocolError> {
    for (used, &byte) in rest.iter().enumerate() {
        let digit = DIGITS[usize::from(byte)];
        if digit == NO_DIGIT {
            expect(digits > 0, ProtocolError::ChunkSize)?;
            return match rest[used..] {
                [b'\r', b'\n', ..] => Ok((used + 2, after_size(size))),
                [b'\r', ..] => Ok((used + 1, State::SizeLineFeed { size })),
                [b'\n', ..] => Err(ProtocolError::BareLineFeed),
                _ => Ok((used, State::Extension { size, seen: 0, named: false })),
            };
        }
        expect(digits < MAX_DIGITS, ProtocolError::ChunkSizeTooLong)?;
        size = size << 4 | u64::from(digit);
        digits += 1;
    }
    Ok((rest.len(), State::Size { size, digits }))
}

/// The state after the line with this size.
fn after_size(size: u64) -> State {
    if size == 0 { State::Trailer } else { State::Data { left: size } }
}

/// Moves a run of payload behind the gathered one. The first run stays in place.
#[inline]
fn gather(buf: &mut [u8], data: &mut Range<usize>, run: Range<usize>) {
    if Range::is_empty(data) {
        *data = run;
        return;
    }
    let end = data.end + run.len();
    buf.copy_within(run, data.end);
    data.end = end;
}

fn expect(holds: bool, error: ProtocolError) -> Result<(), ProtocolError> {
    if holds { Ok(()) } else { Err(error) }
}

const NO_DIGIT: u8 = 0xff;

/// The value of each byte as a hexadecimal digit.
const DIGITS: [u8; 256] = {
    let mut table = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        let digit = b"0123456789abcdef"[value as usize];
        table[digit as usize] = value;
        table[digit.to_ascii_uppercase() as usize] = value;
        value += 1;
    }
    table
};
