//! Compares the event-stream decoder with a naive one.
//!
//! The property: at every split the decoder passes to its sink exactly the results of a naive
//! reading of the whole text (events, comments, unknown fields, and the data of events that are too
//! large, joined), ends at the same position, and counts as many skipped events. Borrowed data does
//! lie in the pushed slice. The property holds for a limit that nothing reaches and for a small
//! one.

use memchr::memmem;

use crate::codec::sse::{Event, EventDecoder, EventHandler, LIMIT, Position};

/// Small enough that fuzzed lines exceed it.
const SMALL: usize = 24;

/// The largest number of two-way splits that are tried.
const CUTS: usize = 64;

/// Checks the property for one input.
pub fn sse(data: &[u8]) {
    for limit in [LIMIT, SMALL] {
        let expected = naive(data, limit);
        for pieces in cuts(data) {
            let mut decoder = EventDecoder::with_limit(limit);
            let mut heard = Listener::default();
            for piece in &pieces {
                heard.piece = piece;
                decoder.push(piece, &mut heard);
            }
            let outcome = Outcome {
                heard: heard.heard,
                skipped: decoder.skipped(),
                retry: decoder.retry(),
                position: decoder.position(),
            };
            assert_eq!(outcome, expected, "limit {limit}, pieces {pieces:?}");
        }
    }
}

/// Splits of an input: whole, byte by byte, in two at many places, in pieces as long as its own bytes
/// say, and behind blank lines, one by one and two by two.
pub(super) fn cuts(data: &[u8]) -> Vec<Vec<&[u8]>> {
    let step = data.len().div_ceil(CUTS).max(1);
    let mut cuts = vec![vec![data], data.chunks(1).collect()];
    cuts.extend((0..data.len()).step_by(step).map(|at| vec![&data[..at], &data[at..]]));
    let mut ragged = Vec::new();
    let mut rest = data;
    while let Some(&first) = rest.first() {
        let (piece, after) = rest.split_at(usize::from(first % 32).min(rest.len() - 1) + 1);
        ragged.push(piece);
        rest = after;
    }
    cuts.push(ragged);
    for lines in [1, 2] {
        let ends = memmem::find_iter(data, b"\n\n").map(|at| at + 2).skip(lines - 1).step_by(lines);
        let mut from = 0;
        let pieces = ends.chain([data.len()]).map(|end| &data[std::mem::replace(&mut from, end)..end]);
        cuts.push(pieces.collect());
    }
    cuts
}

#[derive(Debug, PartialEq)]
struct Outcome {
    heard: Vec<Heard>,
    skipped: u64,
    retry: Option<u64>,
    position: Position,
}

#[derive(Debug, PartialEq)]
enum Heard {
    Event { name: Vec<u8>, data: Vec<u8>, id: Vec<u8> },
    Comment(Vec<u8>),
    Unknown(Vec<u8>, Vec<u8>),
    Skipped(Vec<u8>),
}

#[derive(Default)]
struct Listener<'a> {
    piece: &'a [u8],
    oversize: Vec<u8>,
    heard: Vec<Heard>,
}

impl EventHandler for Listener<'_> {
    fn event(&mut self, event: Event<'_>) {
        if let Some(at) = event.at {
            assert_eq!(&self.piece[at..at + event.data.len()], event.data);
        }
        let Event { name, data, id, .. } = event;
        self.heard.push(Heard::Event { name: name.to_vec(), data: data.to_vec(), id: id.to_vec() });
    }

    fn comment(&mut self, text: &[u8]) {
        self.heard.push(Heard::Comment(text.to_vec()));
    }

    fn unknown_field(&mut self, name: &[u8], value: &[u8]) {
        self.heard.push(Heard::Unknown(name.to_vec(), value.to_vec()));
    }

    fn oversize(&mut self, piece: &[u8]) {
        self.oversize.extend_from_slice(piece);
    }

    fn oversize_end(&mut self) {
        let data = std::mem::take(&mut self.oversize);
        self.heard.push(Heard::Skipped(data));
    }
}

/// The standard's algorithm, in its order, over the whole stream at once.
fn naive(data: &[u8], limit: usize) -> Outcome {
    // Every line end becomes LF, in a text without an LF in any other place.
    let mut lines = vec![Vec::new()];
    for (i, &byte) in data.iter().enumerate() {
        match byte {
            b'\n' if i > 0 && data[i - 1] == b'\r' => {}
            b'\n' | b'\r' => lines.push(Vec::new()),
            _ => lines.last_mut().expect("there is one").push(byte),
        }
    }
    // The standard discards an unfinished event, but a long data line has been given up before.
    let unfinished = lines.pop().expect("there is one");
    let mut heard = Vec::new();
    let (mut name, mut values, mut id) = (Vec::new(), None::<Vec<u8>>, Vec::new());
    let (mut retry, mut skipped, mut large, mut has_id) = (None, 0, false, false);
    for (i, line) in lines.iter().enumerate() {
        let too_long = line.len() > limit;
        let line = if i == 0 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
        let colon = line.iter().position(|&b| b == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match &line[..colon] {
            b"" if line.is_empty() => {
                match values.take() {
                    values if large => {
                        skipped += 1;
                        heard.push(Heard::Skipped(values.unwrap_or_default()));
                    }
                    Some(data) => {
                        let name = if name.is_empty() { b"message".to_vec() } else { name };
                        heard.push(Heard::Event { name, data, id: id.clone() });
                    }
                    None => {}
                }
                (name, large, has_id) = (Vec::new(), false, false);
            }
            b"data" => {
                let data = match values.take() {
                    Some(data) => [&data, &b"\n"[..], value].concat(),
                    None => value.to_vec(),
                };
                large |= too_long || data.len() > limit;
                values = Some(data);
            }
            b"event" | b"id" if too_long || value.len() > 4096 => large = true,
            _ if too_long => {}
            b"" => heard.push(Heard::Comment(line[1..].to_vec())),
            b"event" => name = value.to_vec(),
            b"id" if value.contains(&0) => {}
            b"id" => (id, has_id) = (value.to_vec(), true),
            b"retry" if value.iter().all(u8::is_ascii_digit) => {
                retry = String::from_utf8_lossy(value).parse().ok().or(retry);
            }
            b"retry" => {}
            unknown => heard.push(Heard::Unknown(unknown.to_vec(), value.to_vec())),
        }
    }
    let position = if !unfinished.is_empty() {
        Position::InLine
    } else if values.is_some() || has_id || large || !name.is_empty() {
        Position::InEvent
    } else {
        Position::BetweenEvents
    };
    Outcome { heard, skipped, retry, position }
}

/// Runs each seed of a target, and mutations of it, through `property`.
#[cfg(test)]
pub(super) fn run_seeds(target: &str, words: &[&[u8]], property: fn(&[u8])) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(!files.is_empty(), "{target} has no seeds");
    files.sort();
    let mut random = fastrand::Rng::with_seed(7);
    for file in files {
        let seed = std::fs::read(file).unwrap();
        property(&seed);
        for _ in 0..40 {
            let mut changed = seed.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(0..=changed.len());
                let end = (at + random.usize(0..6)).min(changed.len());
                changed.splice(at..end, words[random.usize(0..words.len())].iter().copied());
            }
            property(&changed);
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_property_holds_for_the_seeds_and_their_neighbours() {
        let words: [&[u8]; 14] = [
            b"\n",
            b"\r",
            b"\r\n",
            b"\n\n",
            b":",
            b"data:",
            b"data: ",
            b"event: x\n",
            b"id: 1\n",
            b"id:\0\n",
            b"retry: 9\n",
            b"\xef\xbb\xbf",
            b"\xff",
            b"",
        ];
        super::run_seeds("sse", &words, super::sse);
    }
}
