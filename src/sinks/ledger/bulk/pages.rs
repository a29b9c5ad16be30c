//! B-trees of a table and of an index (sqlite.org/fileformat2.html#b_tree_pages), written once and
//! from left to right.

use super::rows::{integer, put_varint};

/// The size of a page. A row that does not fit into one is not written this way.
pub(super) const PAGE: usize = 8192;

/// The largest database, for the memory that it takes. A full queue of records needs half of it.
const MOST: usize = 64 << 20;

/// The children of an inner page: a cell of an index has at most 26 bytes with its pointer.
const CHILDREN: usize = 256;

/// The entries of an index's page, which have at most 22 bytes with their pointers.
const ENTRIES: usize = 256;

const TABLE_INNER: u8 = 0x05;
const TABLE_LEAF: u8 = 0x0d;
const INDEX_INNER: u8 = 0x02;
const INDEX_LEAF: u8 = 0x0a;

/// The table, as its rows come.
pub(super) struct Table<'i> {
    image: &'i mut Vec<u8>,
    leaf: Page,
    /// The key of the last row.
    last: i64,
    leaves: Vec<Node>,
}

/// A finished page, and what its parent needs.
struct Node {
    page: u32,
    /// The part of the parent's cell after the page's number: the last key of a table's page, the
    /// entry after an index's.
    after: Cell,
}

/// A short cell of an inner page or of an index.
#[derive(Clone, Copy, Default)]
struct Cell {
    bytes: [u8; 32],
    size: usize,
}

impl Cell {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.size]
    }

    fn put_varint(&mut self, value: u64) {
        self.size += put_varint(&mut self.bytes[self.size..], value);
    }
}

impl<'i> Table<'i> {
    /// A table whose pages follow those of `image`.
    pub(super) fn begin(image: &'i mut Vec<u8>) -> Self {
        let leaf = Page::begin(image, TABLE_LEAF);
        Self { image, leaf, last: 0, leaves: Vec::new() }
    }

    /// Appends a row, which consists of these parts. `None` if it does not fit into a page, or if
    /// the database would be too large.
    pub(super) fn push(&mut self, key: i64, [header, body]: [&[u8]; 2]) -> Option<()> {
        let mut sizes = Cell::default();
        sizes.put_varint((header.len() + body.len()) as u64);
        sizes.put_varint(key.cast_unsigned());
        let cell = [sizes.bytes(), header, body];
        if !self.leaf.push(self.image, cell) {
            if self.image.len() > MOST {
                return None;
            }
            let full = std::mem::replace(&mut self.leaf, Page::begin(self.image, TABLE_LEAF));
            self.leaves.push(node(full, self.image, self.last));
            if !self.leaf.push(self.image, cell) {
                return None;
            }
        }
        self.last = key;
        Some(())
    }

    /// Ends the table, whose first page has the number `root`.
    pub(super) fn end(mut self, root: u32) {
        self.leaves.push(node(self.leaf, self.image, self.last));
        grow(self.image, self.leaves, TABLE_INNER, root);
    }
}

/// A page of a table whose last row has this key.
fn node(page: Page, image: &mut [u8], last: i64) -> Node {
    let mut after = Cell::default();
    after.put_varint(last.cast_unsigned());
    Node { page: page.end(image), after }
}

/// Writes an index, whose first page has the number `root`. The entries are integers with the keys
/// of their rows, in this order.
pub(super) fn put_index(image: &mut Vec<u8>, root: u32, entries: &[(i64, i64)]) {
    // Between two leaves, an entry is in the inner page.
    let count = (entries.len() + 1).div_ceil(ENTRIES + 1);
    let mut in_leaves = entries.len() + 1 - count;
    let mut entries = entries.iter();
    let mut leaves = Vec::with_capacity(count);
    for left in (1..=count).rev() {
        let mut leaf = Page::begin(image, INDEX_LEAF);
        let size = in_leaves.div_ceil(left);
        in_leaves -= size;
        for entry in entries.by_ref().take(size) {
            leaf.push(image, [index_cell(entry).bytes()]);
        }
        let after = entries.next().map(index_cell).unwrap_or_default();
        leaves.push(Node { page: leaf.end(image), after });
    }
    grow(image, leaves, INDEX_INNER, root);
}

fn index_cell(&(value, key): &(i64, i64)) -> Cell {
    let [(value_type, value, value_size), (key_type, key, key_size)] = [value, key].map(integer);
    let size = 4 + value_size + key_size;
    let mut bytes = [0; 32];
    // The sizes of the entry and of its header, then the types of both integers.
    bytes[..4].copy_from_slice(&[size as u8 - 1, 3, value_type, key_type]);
    bytes[4..12].copy_from_slice(&value);
    bytes[4 + value_size..12 + value_size].copy_from_slice(&key);
    Cell { bytes, size }
}

/// Writes the inner pages over these, level by level, and moves the last one to its place.
fn grow(image: &mut Vec<u8>, mut nodes: Vec<Node>, kind: u8, root: u32) {
    while nodes.len() > 1 {
        let mut rest = &*nodes;
        let mut parents = Vec::new();
        for left in (1..=rest.len().div_ceil(CHILDREN)).rev() {
            let (children, others) = rest.split_at(rest.len().div_ceil(left));
            rest = others;
            let Some((last, children)) = children.split_last() else { continue };
            let mut inner = Page::begin(image, kind);
            for child in children {
                inner.push(image, [&child.page.to_be_bytes(), child.after.bytes()]);
            }
            inner.set_last(image, last.page);
            parents.push(Node { page: inner.end(image), after: last.after });
        }
        nodes = parents;
    }
    let top = image.len() - PAGE;
    image.copy_within(top.., (root as usize - 1) * PAGE);
    image.truncate(top);
}

/// A page that is being filled: its cells from its end on, the pointers to them after its header.
struct Page {
    /// Its place in the image.
    at: usize,
    /// The end of its header, or of the pointers.
    pointers: usize,
    /// The beginning of its cells.
    cells: usize,
    count: u16,
}

impl Page {
    fn begin(image: &mut Vec<u8>, kind: u8) -> Self {
        let at = image.len();
        image.resize(at + PAGE, 0);
        image[at] = kind;
        let pointers = if matches!(kind, TABLE_INNER | INDEX_INNER) { 12 } else { 8 };
        Self { at, pointers, cells: PAGE, count: 0 }
    }

    /// Appends a cell. Returns false if it does not fit.
    fn push<const N: usize>(&mut self, image: &mut [u8], cell: [&[u8]; N]) -> bool {
        let size: usize = cell.iter().map(|part| part.len()).sum();
        if self.pointers + 2 + size > self.cells {
            return false;
        }
        let page = &mut image[self.at..self.at + PAGE];
        self.cells -= size;
        let mut to = self.cells;
        for part in cell {
            page[to..to + part.len()].copy_from_slice(part);
            to += part.len();
        }
        page[self.pointers..self.pointers + 2].copy_from_slice(&(self.cells as u16).to_be_bytes());
        self.pointers += 2;
        self.count += 1;
        true
    }

    /// Sets the last child of an inner page.
    fn set_last(&self, image: &mut [u8], child: u32) {
        image[self.at + 8..self.at + 12].copy_from_slice(&child.to_be_bytes());
    }

    /// Writes the header. Returns the page's number.
    fn end(self, image: &mut [u8]) -> u32 {
        image[self.at + 3..self.at + 5].copy_from_slice(&self.count.to_be_bytes());
        image[self.at + 5..self.at + 7].copy_from_slice(&(self.cells as u16).to_be_bytes());
        (self.at / PAGE) as u32 + 1
    }
}
