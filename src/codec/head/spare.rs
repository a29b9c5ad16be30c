//! Buffers of heads that were dropped, kept for the next heads of the same thread.

use std::cell::RefCell;

use super::Place;
use super::index::Index;

/// The largest number of buffers that a thread keeps.
const MAX_SPARE: usize = 32;

/// The largest buffer that is kept, in bytes: heads are seldom longer.
const MAX_BYTES: usize = 4 * 1024;

/// The largest number of places of fields that are kept.
const MAX_PLACES: usize = 64;

/// The number of places of a new buffer, which is enough for a usual head. The room for bytes is
/// that of the head: thousands of requests wait with theirs.
const NEW_PLACES: usize = 24;

/// The bytes of a head, and data about them.
pub(super) struct Buffer {
    /// The head as it came, and the added lines.
    pub(super) bytes: Vec<u8>,
    pub(super) fields: Vec<Place>,
    /// The index of `fields`.
    pub(super) index: Index,
}

impl Buffer {
    pub(super) const EMPTY: &'static Self =
        &Self { bytes: Vec::new(), fields: Vec::new(), index: Index::EMPTY };
}

thread_local! {
    #[expect(clippy::vec_box, reason = "a head is moved as one pointer")]
    static SPARE: RefCell<Vec<Box<Buffer>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer.
pub(super) fn take() -> Box<Buffer> {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| {
        Box::new(Buffer { bytes: Vec::new(), fields: Vec::with_capacity(NEW_PLACES), index: Index::EMPTY })
    })
}

/// Keeps a buffer, unless it is large or there are enough.
pub(super) fn give_back(mut buffer: Box<Buffer>) {
    if buffer.bytes.capacity() > MAX_BYTES || buffer.fields.capacity() > MAX_PLACES {
        return;
    }
    buffer.bytes.clear();
    buffer.fields.clear();
    buffer.index = Index::EMPTY;
    // At the end of its thread there is no place to keep it.
    let _ = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.len() < MAX_SPARE {
            spare.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_kept_empty_up_to_a_size_and_a_number() {
        SPARE.take();
        let mut used = take();
        used.bytes.extend_from_slice(b"a: b\r\n");
        used.index.note(crate::codec::head::KnownName::Host, 0);
        let kept = used.bytes.as_ptr();
        give_back(used);
        let again = take();
        assert_eq!((again.bytes.as_ptr(), again.bytes.len(), again.index), (kept, 0, Index::EMPTY));

        let mut large = take();
        large.bytes.reserve(MAX_BYTES + 1);
        give_back(large);
        let mut long = take();
        long.fields.reserve(MAX_PLACES + 1);
        give_back(long);
        assert_eq!(SPARE.with_borrow(Vec::len), 0);

        let many: Vec<_> = (0..MAX_SPARE + 3).map(|_| take()).collect();
        many.into_iter().for_each(give_back);
        assert_eq!(SPARE.with_borrow(Vec::len), MAX_SPARE);
    }
}
