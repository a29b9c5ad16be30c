//! Columns of text, in the width of a terminal.

use std::collections::HashMap;

use crate::sinks::ledger::output::numbers::shortened;

/// Names that are no longer than this are shown whole wherever columns that others can do without
/// leave room for them.
const NAME: usize = 32;

/// Names get this much before columns that are worth more than whole names give way.
const SHORT_NAME: usize = 16;

/// Names get at least this much.
const MIN_NAME: usize = 8;

/// Between columns.
const GAP: &str = "  ";

/// A column of numbers.
pub(super) struct Column {
    pub(super) head: String,
    pub(super) rank: Rank,
    /// One for each line.
    pub(super) cells: Vec<String>,
}

/// Which columns give way to names, the last first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Always,
    /// Gives way only where names would be shorter than [`SHORT_NAME`].
    Main,
    First,
    Second,
    Last,
}

/// Names to the left, numbers to the right; and the heads of the columns that found no room.
///
/// Where names have to be shortened, no two become the same: rather the lines become wider.
pub(super) fn layout(
    names: Vec<(String, Vec<String>)>,
    columns: Vec<Column>,
    width: Option<usize>,
) -> (String, Vec<String>) {
    let ranks = [(Rank::Last, NAME), (Rank::Second, NAME), (Rank::First, NAME), (Rank::Main, SHORT_NAME)];
    let whole: Vec<_> = names.iter().map(|(head, cells)| widest(head, cells)).collect();
    let fits = |(rank, name): &(Rank, usize)| {
        let wanted: usize = whole.iter().map(|width| (*width).min(*name)).sum();
        room(&columns, *rank, names.len(), width).is_none_or(|room| wanted <= room)
    };
    let rank = ranks.into_iter().find(fits).map_or(Rank::Always, |(rank, _)| rank);
    let room = room(&columns, rank, names.len(), width);
    let widths = widths(&names, &whole, room.unwrap_or(usize::MAX));
    let (shown, left_out): (Vec<_>, Vec<_>) = columns.into_iter().partition(|column| column.rank <= rank);
    let lines = names.first().map(|(_, cells)| cells.len()).or_else(|| Some(shown.first()?.cells.len()));
    let mut text = String::new();
    // The heads, then the cells.
    for line in std::iter::once(None).chain((0..lines.unwrap_or(0)).map(Some)) {
        let left = names.iter().zip(&widths).map(|((head, cells), width)| {
            let cell = line.map_or(head, |line| &cells[line]);
            format!("{:<width$}", shortened(cell, *width), width = width)
        });
        let right = shown.iter().map(|column| {
            let cell = line.map_or(&column.head, |line| &column.cells[line]);
            format!("{cell:>width$}", width = widest(&column.head, &column.cells))
        });
        text += left.chain(right).collect::<Vec<_>>().join(GAP).trim_end();
        text.push('\n');
    }
    (text, left_out.into_iter().map(|column| column.head).collect())
}

fn length(text: &str) -> usize {
    text.chars().count()
}

fn widest(head: &str, cells: &[String]) -> usize {
    cells.iter().map(|cell| length(cell)).chain([length(head)]).max().unwrap_or(0)
}

/// The width that columns up to the rank leave to names; `None`: as much as they need.
fn room(columns: &[Column], rank: Rank, names: usize, width: Option<usize>) -> Option<usize> {
    let shown = columns.iter().filter(|column| column.rank <= rank);
    let widths: Vec<_> = shown.map(|column| widest(&column.head, &column.cells)).collect();
    let gaps = GAP.len() * (names + widths.len()).saturating_sub(1);
    width.map(|width| width.saturating_sub(widths.iter().sum::<usize>() + gaps))
}

/// How wide each column of names is. The widest gives way first, as long as its names stay
/// different.
fn widths(names: &[(String, Vec<String>)], whole: &[usize], room: usize) -> Vec<usize> {
    let mut widths = whole.to_vec();
    let mut least: Vec<_> = names.iter().map(|(_, cells)| least(cells)).collect();
    least.iter_mut().zip(whole).for_each(|(least, whole)| *least = (*least).min(*whole));
    while widths.iter().sum::<usize>() > room {
        let candidates = widths.iter_mut().zip(&least).filter(|(width, least)| **width > **least);
        let Some((width, _)) = candidates.max_by_key(|(width, _)| **width) else { break };
        *width -= 1;
    }
    widths
}

/// The least width from which on all names are different.
fn least(cells: &[String]) -> usize {
    let longest = cells.iter().map(|cell| length(cell)).max().unwrap_or(0);
    let is_distinct = |width: usize| {
        let mut known = HashMap::new();
        cells.iter().all(|cell| *known.entry(shortened(cell, width)).or_insert(cell) == cell)
    };
    // From the top: a width at which they are different may follow one at which they are not.
    let mut least = longest;
    while least > MIN_NAME && is_distinct(least - 1) {
        least -= 1;
    }
    least.max(MIN_NAME)
}
