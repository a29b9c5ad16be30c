//! Rows in the record format of SQLite (sqlite.org/fileformat2.html#record_format).

use uuid::Uuid;

use super::super::row::Value;

const NULL: u8 = 0;
const REAL: u8 = 7;
const ZERO: u8 = 8;
const ONE: u8 = 9;

/// The type of a text is this and twice its length.
const TEXT: u64 = 13;

/// A row, in buffers that the next one uses again.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// The size of the header, itself included.
    size: Vec<u8>,
    /// The types.
    header: Vec<u8>,
    body: Vec<u8>,
}

impl Row {
    /// Encodes the columns after `seq`, which is the key of the row and null inside it. Columns
    /// that are null at the end are left out, as in rows that are older than a column.
    pub(super) fn encode<'r>(&mut self, values: impl Iterator<Item = Value<'r>>) {
        let Self { size, header, body } = self;
        size.clear();
        header.clear();
        body.clear();
        header.push(NULL);
        let mut filled = header.len();
        for value in values {
            match value {
                Value::Null => {
                    header.push(NULL);
                    continue;
                }
                Value::Integer(number) => put_integer(header, body, number),
                Value::Real(number) => put_real(header, body, number),
                Value::Text(text) => put_text(header, body, text),
                Value::Calls(calls) => put_text(header, body, &calls.to_string()),
                Value::Attempts(group) => match serde_json::to_string(&group.attempts) {
                    Ok(text) => put_text(header, body, &text),
                    Err(_) => header.push(NULL),
                },
                Value::Id(id) => {
                    put_text(header, body, id.hyphenated().encode_lower(&mut Uuid::encode_buffer()));
                }
            }
            filled = header.len();
        }
        header.truncate(filled);
        let own = if filled < 127 { 1 } else { 2 };
        put_varint(size, (filled + own) as u64);
    }

    /// The parts of the row, in their order.
    pub(super) fn parts(&self) -> [&[u8]; 3] {
        [&self.size, &self.header, &self.body]
    }
}

/// An integer in as few bytes as SQLite would give it.
pub(super) fn put_integer(header: &mut Vec<u8>, body: &mut Vec<u8>, number: i64) {
    let bytes = number.to_be_bytes();
    let significant = 65 - if number < 0 { number.leading_ones() } else { number.leading_zeros() };
    let (kind, size) = match significant {
        _ if number == 0 => return header.push(ZERO),
        _ if number == 1 => return header.push(ONE),
        ..=8 => (1, 1),
        9..=16 => (2, 2),
        17..=24 => (3, 3),
        25..=32 => (4, 4),
        33..=48 => (5, 6),
        _ => (6, 8),
    };
    header.push(kind);
    body.extend_from_slice(&bytes[8 - size..]);
}

fn put_real(header: &mut Vec<u8>, body: &mut Vec<u8>, number: f64) {
    // SQLite has no NaN.
    if number.is_nan() {
        return header.push(NULL);
    }
    header.push(REAL);
    body.extend_from_slice(&number.to_be_bytes());
}

fn put_text(header: &mut Vec<u8>, body: &mut Vec<u8>, text: &str) {
    put_varint(header, TEXT + 2 * text.len() as u64);
    body.extend_from_slice(text.as_bytes());
}

/// Seven bits a byte, the high ones first; the ninth byte has eight.
pub(super) fn put_varint(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=0x7f => out.push(value as u8),
        0x80..=0x3fff => out.extend_from_slice(&[(value >> 7) as u8 | 0x80, value as u8 & 0x7f]),
        0x4000..=0x00ff_ffff_ffff_ffff => {
            let groups = (64 - value.leading_zeros()).div_ceil(7);
            let group = |place: u32| (value >> (7 * place)) as u8 & 0x7f;
            out.extend((1..groups).rev().map(|place| group(place) | 0x80));
            out.push(group(0));
        }
        _ => {
            out.extend((0..8).rev().map(|place| (value >> (8 + 7 * place)) as u8 | 0x80));
            out.push(value as u8);
        }
    }
}
