//! The entries of an hour as bytes.
//!
//! A block begins with the version of its form, then a list of texts, then the entries. A key
//! refers to texts by their place in the list, from 1; 0 is none. Counts that are unknown or 0 are left
//! out, as a mask of bits says.

use std::collections::HashMap;

use super::key::{Key, NUMBERS, TEXTS};
use super::tally::{TOKENS, Tally};
use super::varint::{put, take, take_long};
use crate::llm::price::{Billable, Reported};
use crate::llm::usage::ToolKind;

/// The form of the bytes.
const FORM: u8 = 1;

/// The bits of the mask behind those of tokens.
const SECONDS: u64 = 1 << TOKENS;
const REPORTED: u64 = SECONDS << 1;
const BILLED: u32 = TOKENS as u32 + 2;

/// The numbers of [`Billable`].
const USES: usize = 5 + ToolKind::COUNT;

fn uses(billable: &Billable) -> [u64; USES] {
    let Billable { input, cached_input, cache_write, cache_write_1h, output, tool_calls } = billable;
    let mut uses = [0; USES];
    uses[..5].copy_from_slice(&[*input, *cached_input, *cache_write, *cache_write_1h, *output]);
    uses[5..].copy_from_slice(tool_calls);
    uses
}

fn billable(uses: &[u64; USES]) -> Billable {
    let [input, cached_input, cache_write, cache_write_1h, output, tool_calls @ ..] = *uses;
    Billable { input, cached_input, cache_write, cache_write_1h, output, tool_calls }
}

/// The bytes of entries, in their order.
pub(super) fn encode<'a>(entries: &[(Key<'a>, &Tally)]) -> Vec<u8> {
    let mut places: HashMap<&'a [u8], u128> = HashMap::new();
    let (mut texts, mut body) = (Vec::new(), Vec::new());
    for (key, tally) in entries {
        for text in key.texts {
            let place = text.map_or(0, |text| {
                let next = places.len() as u128 + 1;
                *places.entry(text).or_insert_with(|| {
                    put(&mut texts, text.len() as u128);
                    texts.extend_from_slice(text);
                    next
                })
            });
            put(&mut body, place);
        }
        key.numbers.iter().for_each(|number| put(&mut body, (*number).into()));
        put_tally(&mut body, tally);
    }
    let mut bytes = vec![FORM];
    put(&mut bytes, places.len() as u128);
    bytes.extend(texts);
    put(&mut bytes, entries.len() as u128);
    bytes.extend(body);
    bytes
}

fn put_tally(body: &mut Vec<u8>, tally: &Tally) {
    let uses = uses(&tally.billable);
    let mut mask = 0;
    for (bit, count) in tally.tokens.iter().enumerate() {
        mask |= u64::from(count.is_some()) << bit;
    }
    if tally.billed_seconds.is_some() {
        mask |= SECONDS;
    }
    if tally.reported_cost.is_some() {
        mask |= REPORTED;
    }
    for (bit, count) in (BILLED..).zip(uses) {
        mask |= u64::from(count > 0) << bit;
    }
    put(body, mask.into());
    put(body, tally.requests.into());
    tally.tokens.iter().flatten().for_each(|count| put(body, (*count).into()));
    if let Some(seconds) = tally.billed_seconds {
        body.extend_from_slice(&seconds.to_le_bytes());
    }
    if let Some(cost) = tally.reported_cost {
        put(body, cost.smallest());
    }
    uses.iter().filter(|count| **count > 0).for_each(|count| put(body, (*count).into()));
    put(body, tally.times.len() as u128);
    let mut last = 0;
    for (class, count) in &tally.times {
        put(body, (class - last).into());
        put(body, (*count).into());
        last = *class;
    }
}

/// A block that is being read.
pub(in crate::sinks::ledger) struct Block<'a> {
    texts: Vec<&'a [u8]>,
    left: u64,
    bytes: &'a [u8],
}

impl<'a> Block<'a> {
    /// Reads the list of texts. `None` if the bytes are no block of this form.
    pub(in crate::sinks::ledger) fn new(bytes: &'a [u8]) -> Option<Self> {
        let (FORM, mut bytes) = bytes.split_first().map(|(form, rest)| (*form, rest))? else { return None };
        let count = take(&mut bytes)?;
        let mut texts = Vec::new();
        for _ in 0..count {
            let length = usize::try_from(take(&mut bytes)?).ok()?;
            let (text, rest) = bytes.split_at_checked(length)?;
            texts.push(text);
            bytes = rest;
        }
        let left = take(&mut bytes)?;
        Some(Self { texts, left, bytes })
    }

    /// Returns true if all entries were read.
    pub(in crate::sinks::ledger) fn is_read(&self) -> bool {
        self.left == 0 && self.bytes.is_empty()
    }

    /// Reads the next entry into `tally`. `None` at the end, and if the bytes are cut or damaged.
    pub(in crate::sinks::ledger) fn next(&mut self, tally: &mut Tally) -> Option<Key<'a>> {
        if self.left == 0 {
            return None;
        }
        let bytes = &mut self.bytes;
        let mut key = Key { texts: [None; TEXTS], numbers: [0; NUMBERS] };
        for text in &mut key.texts {
            if let Some(place) = take(bytes)?.checked_sub(1) {
                *text = Some(*self.texts.get(usize::try_from(place).ok()?)?);
            }
        }
        for number in &mut key.numbers {
            *number = take(bytes)?;
        }
        take_tally(bytes, tally)?;
        self.left -= 1;
        Some(key)
    }
}

fn take_tally(bytes: &mut &[u8], tally: &mut Tally) -> Option<()> {
    let mask = take(bytes)?;
    tally.requests = take(bytes)?;
    for (bit, count) in tally.tokens.iter_mut().enumerate() {
        *count = if (mask >> bit) & 1 == 1 { Some(take(bytes)?) } else { None };
    }
    tally.billed_seconds = None;
    if mask & SECONDS != 0 {
        let (seconds, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        tally.billed_seconds = Some(f64::from_le_bytes(*seconds));
    }
    tally.reported_cost = None;
    if mask & REPORTED != 0 {
        tally.reported_cost = Some(Reported::of_smallest(take_long(bytes)?));
    }
    let mut uses = [0; USES];
    for (bit, count) in (BILLED..).zip(&mut uses) {
        if (mask >> bit) & 1 == 1 {
            *count = take(bytes)?;
        }
    }
    tally.billable = billable(&uses);
    tally.times.clear();
    let mut class = 0_u16;
    for _ in 0..take(bytes)? {
        class = class.checked_add(u16::try_from(take(bytes)?).ok()?)?;
        tally.times.push((class, take(bytes)?));
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::key::Text;
    use super::*;

    fn entries() -> Vec<(Key<'static>, Tally)> {
        let mut key = Key::default();
        key.texts[Text::Client as usize] = Some(b"a");
        key.texts[Text::Model as usize] = Some(b"m");
        key.numbers = [17, 201, 3, 0];
        let mut full = Tally {
            requests: 300,
            tokens: [Some(1), None, Some(0), Some(u64::MAX), None, Some(7), None],
            billed_seconds: Some(0.25),
            reported_cost: Some(Reported::of_smallest(u128::from(u64::MAX) * 3)),
            billable: billable(&std::array::from_fn(|place| place as u64 % 3 * 1000)),
            times: Vec::new(),
        };
        [(9, 1), (4, 500), (9, 2)].into_iter().for_each(|(class, count)| full.add_times(class, count));
        let other = Key { texts: [Some(b"a"); TEXTS], numbers: [0; NUMBERS] };
        vec![(key, full), (other, Tally::default())]
    }

    #[test]
    fn entries_are_read_as_written_and_cut_blocks_are_told() {
        let entries = entries();
        let bytes = encode(&entries.iter().map(|(key, tally)| (*key, tally)).collect::<Vec<_>>());
        for end in 0..=bytes.len() {
            let Some(mut block) = Block::new(&bytes[..end]) else { continue };
            let (mut found, mut tally) = (Vec::new(), Tally::default());
            while let Some(key) = block.next(&mut tally) {
                found.push((key, tally.clone()));
            }
            assert_eq!(block.is_read(), end == bytes.len());
            if block.is_read() {
                assert_eq!(found, entries);
            }
        }
        assert!(Block::new(&[2, 0, 0]).is_none(), "another form");
    }
}
