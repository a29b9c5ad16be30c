//! Columns of text, in the width of a terminal.

use std::collections::HashMap;

use crate::sinks::ledger::output::numbers::{shortened, width_of};

/// The length up to which names are whole if dropping less important columns makes enough room.
const NAME: usize = 32;

/// The width of names at which more important columns are dropped.
const SHORT_NAME: usize = 16;

/// The smallest width of names.
const MIN_NAME: usize = 8;

/// The space between columns.
const GAP: &str = "  ";

/// A column of names.
pub(super) struct NameColumn {
    pub(super) head: String,
    /// One cell for each line.
    pub(super) cells: Vec<String>,
    /// The number of cells that are names, from the first. The others are never shortened.
    pub(super) names: usize,
}

/// A column of numbers.
pub(super) struct Column {
    pub(super) head: String,
    pub(super) rank: Rank,
    /// One cell for each line.
    pub(super) cells: Vec<String>,
}

/// The order in which columns are dropped for names, the last first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Always,
    /// Dropped only if names would be shorter than [`SHORT_NAME`].
    Main,
    First,
    Second,
    Last,
}

/// Names on the left, numbers on the right. Also returns the heads of the dropped columns.
///
/// If names must be shortened, no two become equal: instead the lines become wider.
pub(super) fn layout(
    names: Vec<NameColumn>,
    columns: Vec<Column>,
    width: Option<usize>,
) -> (String, Vec<String>) {
    let ranks = [(Rank::Last, NAME), (Rank::Second, NAME), (Rank::First, NAME), (Rank::Main, SHORT_NAME)];
    let needs: Vec<_> = names.iter().map(NameWidths::of).collect();
    let fits = |(rank, name): &(Rank, usize)| {
        let wanted: usize = needs.iter().map(|width| width.whole.min(*name).max(width.least)).sum();
        room(&columns, *rank, names.len(), width).is_none_or(|room| wanted <= room)
    };
    let rank = ranks.into_iter().find(fits).map_or(Rank::Always, |(rank, _)| rank);
    let room = room(&columns, rank, names.len(), width);
    let widths = widths(&needs, room.unwrap_or(usize::MAX));
    let (shown, left_out): (Vec<_>, Vec<_>) = columns.into_iter().partition(|column| column.rank <= rank);
    let lines = names.first().map(|column| column.cells.len()).or_else(|| Some(shown.first()?.cells.len()));
    let shown: Vec<_> =
        shown.into_iter().map(|column| (widest(&column.head, &column.cells), column)).collect();
    let mut text = String::new();
    // The heads, then the cells.
    for line in std::iter::once(None).chain((0..lines.unwrap_or(0)).map(Some)) {
        let left = names.iter().zip(&widths).map(|(column, width)| {
            let cell = shortened(line.map_or(&column.head, |line| &column.cells[line]), *width);
            let padding = " ".repeat(width.saturating_sub(width_of(&cell)));
            cell + &padding
        });
        let right = shown.iter().map(|(width, column)| {
            let cell = line.map_or(&column.head, |line| &column.cells[line]);
            format!("{cell:>width$}")
        });
        text += left.chain(right).collect::<Vec<_>>().join(GAP).trim_end();
        text.push('\n');
    }
    (text, left_out.into_iter().map(|column| column.head).collect())
}

fn widest(head: &str, cells: &[String]) -> usize {
    cells.iter().map(|cell| width_of(cell)).chain([width_of(head)]).max().unwrap_or(0)
}

/// The width that columns up to the rank leave to names. `None`: unlimited.
fn room(columns: &[Column], rank: Rank, names: usize, width: Option<usize>) -> Option<usize> {
    let shown = columns.iter().filter(|column| column.rank <= rank);
    let widths: Vec<_> = shown.map(|column| widest(&column.head, &column.cells)).collect();
    let gaps = GAP.len() * (names + widths.len()).saturating_sub(1);
    width.map(|width| width.saturating_sub(widths.iter().sum::<usize>() + gaps))
}

/// The possible widths of a column of names.
struct NameWidths {
    /// The width of whole names.
    whole: usize,
    /// The smallest width at which all names differ; other cells are whole.
    least: usize,
}

impl NameWidths {
    fn of(column: &NameColumn) -> Self {
        let NameColumn { head, cells, names } = column;
        let whole = widest(head, cells);
        let floor = widest("", &cells[*names..]).max(MIN_NAME);
        let is_distinct = |width: usize| {
            let mut known = HashMap::new();
            cells.iter().all(|cell| *known.entry(shortened(cell, width)).or_insert(cell) == cell)
        };
        // Widths are tried from the largest down: names may differ at a width and be equal at a
        // larger one.
        let mut least = widest("", cells);
        while least > floor && is_distinct(least - 1) {
            least -= 1;
        }
        Self { whole, least: least.max(floor).min(whole) }
    }
}

/// The width of each column of names. The widest is shortened first, as long as its names differ.
fn widths(needs: &[NameWidths], room: usize) -> Vec<usize> {
    let mut widths: Vec<_> = needs.iter().map(|width| width.whole).collect();
    while widths.iter().sum::<usize>() > room {
        let candidates = widths.iter_mut().zip(needs).filter(|(width, need)| **width > need.least);
        let Some((width, _)) = candidates.max_by_key(|(width, _)| **width) else { break };
        *width -= 1;
    }
    widths
}
