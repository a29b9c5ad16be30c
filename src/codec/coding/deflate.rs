//! `gzip` and `deflate`: one compression (RFC 1951) in two wrappings, or in none.

use flate2::{Decompress, FlushDecompress, Status};

use super::{Corrupt, Step};

/// The base-2 logarithm of the format's largest window.
const WINDOW_BITS: u8 = 15;

/// The first bytes of a gzip member (RFC 1952 section 2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Inflates a stream, or consecutive members.
#[derive(Debug)]
pub(super) struct Inflate {
    is_gzip: bool,
    at: At,
}

#[derive(Debug)]
enum At {
    /// Waits for the first two bytes, which decide the format. Holds the first one.
    Beginning(Option<u8>),
    Inside(Decompress),
    /// A gzip member has ended, and another may follow.
    BetweenMembers(Option<u8>),
    /// The rest has no meaning: padding, which gzip itself ignores.
    Ended,
}

impl Inflate {
    pub(super) fn gzip() -> Self {
        Self { is_gzip: true, at: At::Beginning(None) }
    }

    pub(super) fn deflate() -> Self {
        Self { is_gzip: false, at: At::Beginning(None) }
    }

    pub(super) fn is_complete(&self) -> bool {
        matches!(self.at, At::BetweenMembers(_) | At::Ended)
    }

    pub(super) fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Step, Corrupt> {
        let first = match &mut self.at {
            At::Inside(_) => return self.inflate(input, out),
            At::Ended => return Ok(Step { read: input.len(), written: 0 }),
            At::Beginning(first) | At::BetweenMembers(first) => first,
        };
        let Some((&byte, _)) = input.split_first() else { return Ok(Step { read: 0, written: 0 }) };
        let Some(first) = *first else {
            *first = Some(byte);
            return Ok(Step { read: 1, written: 0 });
        };
        self.begin([first, byte], out)
    }

    /// Decides the format by the first two bytes, of which the second is new.
    fn begin(&mut self, two: [u8; 2], out: &mut [u8]) -> Result<Step, Corrupt> {
        self.at = match self.at {
            _ if self.is_gzip && two == GZIP_MAGIC => At::Inside(Decompress::new_gzip(WINDOW_BITS)),
            At::BetweenMembers(_) => At::Ended,
            _ if self.is_gzip => return Err(Corrupt),
            _ => At::Inside(Decompress::new(is_zlib(two))),
        };
        let (mut from, mut to) = (0, 0);
        while from < two.len() {
            let Step { read, written } = self.step(&two[from..], &mut out[to..])?;
            from += read;
            to += written;
            if read == 0 {
                return Err(Corrupt);
            }
        }
        Ok(Step { read: 1, written: to })
    }

    fn inflate(&mut self, input: &[u8], out: &mut [u8]) -> Result<Step, Corrupt> {
        let At::Inside(inner) = &mut self.at else { return Err(Corrupt) };
        let (read, written) = (inner.total_in(), inner.total_out());
        let status = inner.decompress(input, out, FlushDecompress::Sync).map_err(|_| Corrupt)?;
        let step = Step {
            read: (inner.total_in() - read) as usize,
            written: (inner.total_out() - written) as usize,
        };
        if status == Status::StreamEnd {
            self.at = if self.is_gzip { At::BetweenMembers(None) } else { At::Ended };
        }
        Ok(step)
    }
}

/// Returns true for RFC 1950's header (section 2.2): the compression method, the window, and the
/// check of both bytes. Without it the data is bare deflate, as some servers send it.
fn is_zlib([first, second]: [u8; 2]) -> bool {
    first & 0x0f == 8 && first >> 4 <= 7 && u16::from_be_bytes([first, second]).is_multiple_of(31)
}
