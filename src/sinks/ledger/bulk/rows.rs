//! Rows in the record format of SQLite (sqlite.org/fileformat2.html#record_format).

use uuid::Uuid;

use super::super::row::Value;
use super::pages::PAGE;

const NULL: u8 = 0;
const REAL: u8 = 7;
const ZERO: u8 = 8;

/// The type of a text is this and twice its length.
const TEXT: usize = 13;

/// The types of integers and their sizes in bytes, by the number of whole bytes that their bits
/// without the sign have.
const INTEGERS: [(u8, usize); 8] = [(1, 1), (2, 2), (3, 3), (4, 4), (5, 6), (5, 6), (6, 8), (6, 8)];

/// The largest number of columns. A type has at most three bytes, as no text is longer than a page.
pub(super) const MAX_COLUMNS: usize = 160;

/// A row, in buffers that the next one uses again. Both have room for one more value.
#[derive(Debug)]
pub(super) struct Row {
    /// The size of the header, itself included, in the first two bytes or in the second alone; then
    /// the types.
    header: [u8; 3 * MAX_COLUMNS + 16],
    from: usize,
    to: usize,
    body: Vec<u8>,
    length: usize,
}

impl Row {
    pub(super) fn new() -> Self {
        Self { header: [0; _], from: 0, to: 0, body: vec![0; PAGE + 8], length: 0 }
    }

    /// Encodes the columns after `seq`, which is the key of the row and null inside it. Columns
    /// that are null at the end are left out, as in rows that are older than a column. `None` if
    /// the row is longer than a page.
    pub(super) fn encode<'r>(&mut self, values: impl Iterator<Item = Value<'r>>) -> Option<()> {
        (self.to, self.length) = (2, 0);
        self.put_type(NULL);
        let mut filled = self.to;
        for value in values {
            match value {
                Value::Null => {
                    self.put_type(NULL);
                    continue;
                }
                Value::Integer(number) => self.put_integer(number),
                Value::Real(number) => self.put_real(number),
                Value::Text(text) => self.put_text(text)?,
                Value::Calls(calls) => self.put_text(&calls.to_string())?,
                Value::Attempts(group) => match serde_json::to_string(&group.attempts) {
                    Ok(text) => self.put_text(&text)?,
                    Err(_) => self.put_type(NULL),
                },
                Value::Id(id) => {
                    self.put_text(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()))?;
                }
            }
            filled = self.to;
            if self.length > PAGE {
                return None;
            }
        }
        self.to = filled;
        let types = self.to - 2;
        if types + 1 < 128 {
            (self.header[1], self.from) = (types as u8 + 1, 1);
        } else {
            let size = types + 2;
            (self.header[0], self.header[1], self.from) = ((size >> 7) as u8 | 0x80, size as u8 & 0x7f, 0);
        }
        Some(())
    }

    /// The header and the values.
    pub(super) fn parts(&self) -> [&[u8]; 2] {
        [&self.header[self.from..self.to], &self.body[..self.length]]
    }

    fn put_type(&mut self, kind: u8) {
        self.header[self.to] = kind;
        self.to += 1;
    }

    /// An integer in as few bytes as SQLite would give it.
    fn put_integer(&mut self, number: i64) {
        let (kind, bytes, size) = integer(number);
        self.put_type(kind);
        self.body[self.length..self.length + 8].copy_from_slice(&bytes);
        self.length += size;
    }

    fn put_real(&mut self, number: f64) {
        // SQLite has no NaN.
        if number.is_nan() {
            return self.put_type(NULL);
        }
        self.put_type(REAL);
        self.body[self.length..self.length + 8].copy_from_slice(&number.to_be_bytes());
        self.length += 8;
    }

    fn put_text(&mut self, text: &str) -> Option<()> {
        let to = self.length + text.len();
        self.body.get_mut(self.length..to)?.copy_from_slice(text.as_bytes());
        self.length = to;
        let kind = (TEXT + 2 * text.len()) as u64;
        if kind < 128 {
            self.put_type(kind as u8);
        } else {
            self.to += put_varint(&mut self.header[self.to..], kind);
        }
        Some(())
    }
}

/// The type of an integer, its bytes, and the number of bytes that count.
pub(super) fn integer(number: i64) -> (u8, [u8; 8], usize) {
    if let 0 | 1 = number {
        return (ZERO + number as u8, [0; 8], 0);
    }
    let bits = 64 - (number ^ (number >> 63)).leading_zeros();
    let (kind, size) = INTEGERS[bits as usize / 8];
    (kind, (number << (64 - 8 * size)).to_be_bytes(), size)
}

/// Seven bits a byte, the high ones first; the ninth byte has eight. Returns the number of bytes.
pub(super) fn put_varint(out: &mut [u8], value: u64) -> usize {
    if value >> 56 != 0 {
        for (place, byte) in out[..8].iter_mut().enumerate() {
            *byte = (value >> (57 - 7 * place)) as u8 | 0x80;
        }
        out[8] = value as u8;
        return 9;
    }
    let size = (64 - value.leading_zeros()).div_ceil(7).max(1) as usize;
    for (place, byte) in out[..size].iter_mut().enumerate() {
        *byte = (value >> (7 * (size - 1 - place))) as u8 | 0x80;
    }
    out[size - 1] &= 0x7f;
    size
}
