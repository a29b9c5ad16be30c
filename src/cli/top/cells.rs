//! Lines of cells, each at its own column, and tables of them that fit a width.
//!
//! A cell never has a character that a terminal would interpret, and never reaches beyond the
//! width. Since the screen places each cell by its column, a name that a terminal draws wider than
//! Unicode says moves nothing else.

use crate::sinks::ledger::output::numbers::{name, shortened, width_of};

/// The width below which a column is left out for the sake of names.
const MIN_NAME: usize = 8;

/// The space between columns.
const GAP: usize = 2;

/// The look of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    #[default]
    Plain,
    Strong,
    Faint,
    /// Near a limit.
    Near,
    /// Over it, or out.
    Bad,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) column: usize,
    pub(super) text: String,
    pub(super) tone: Tone,
}

/// A line of a terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line(Vec<Cell>);

impl Line {
    /// A line with a text at its beginning.
    pub(super) fn of(text: &str, tone: Tone) -> Self {
        Self::default().with(0, text, tone)
    }

    /// Adds a cell, which must begin behind the others.
    #[must_use]
    pub(super) fn with(mut self, column: usize, text: &str, tone: Tone) -> Self {
        if !text.is_empty() {
            self.0.push(Cell { column, text: name(text), tone });
        }
        self
    }

    /// Adds a text that ends with the width, if it has room.
    #[must_use]
    pub(super) fn with_end(self, text: &str, tone: Tone, width: usize) -> Self {
        match width.checked_sub(width_of(&name(text))) {
            Some(column) if column >= self.width() + GAP => self.with(column, text, tone),
            _ => self,
        }
    }

    pub(super) fn cells(&self) -> &[Cell] {
        &self.0
    }

    fn width(&self) -> usize {
        self.0.last().map_or(0, |cell| cell.column + width_of(&cell.text))
    }

    /// The line without what is beyond the width.
    #[must_use]
    pub(super) fn cut(mut self, width: usize) -> Self {
        self.0.retain(|cell| cell.column < width);
        for cell in &mut self.0 {
            cell.text = shortened(&cell.text, width - cell.column);
        }
        self
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let mut used = 0;
        for cell in &self.0 {
            text.push_str(&" ".repeat(cell.column.saturating_sub(used)));
            text.push_str(&cell.text);
            used = cell.column.max(used) + width_of(&cell.text);
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// A column of a table.
pub(super) struct Column {
    head: &'static str,
    /// Columns of the highest rank are left out first. Those of rank 0 stay.
    rank: u8,
    is_name: bool,
    cells: Vec<String>,
    tones: Vec<Tone>,
}

impl Column {
    /// Names, which are shortened to the width.
    pub(super) fn names(head: &'static str, rank: u8, cells: impl Iterator<Item = String>) -> Self {
        let cells = cells.map(|cell| name(&cell)).collect();
        Self { head, rank, is_name: true, cells, tones: Vec::new() }
    }

    /// Numbers, which are whole and end in one line.
    pub(super) fn numbers(head: &'static str, rank: u8, cells: impl Iterator<Item = String>) -> Self {
        Self { is_name: false, ..Self::names(head, rank, cells) }
    }

    #[must_use]
    pub(super) fn toned(self, tones: impl Iterator<Item = Tone>) -> Self {
        Self { tones: tones.collect(), ..self }
    }

    /// The width that shows everything.
    fn need(&self) -> usize {
        self.cells.iter().map(|cell| width_of(cell)).chain([width_of(self.head)]).max().unwrap_or(0)
    }

    /// The smallest width.
    fn least(&self) -> usize {
        if self.is_name { self.need().min(MIN_NAME) } else { self.need() }
    }
}

/// The heads, and a line for each row.
pub(super) fn table(mut columns: Vec<Column>, width: usize) -> Vec<Line> {
    let gaps = |columns: &[Column]| GAP * columns.len().saturating_sub(1);
    while columns.iter().map(Column::least).sum::<usize>() + gaps(&columns) > width {
        let Some(rank) = columns.iter().map(|column| column.rank).max().filter(|rank| *rank > 0) else {
            break;
        };
        columns.retain(|column| column.rank < rank);
    }
    let numbers: usize = columns.iter().filter(|column| !column.is_name).map(Column::need).sum();
    let mut names = fair(
        columns.iter().filter(|column| column.is_name).map(Column::need),
        width.saturating_sub(numbers + gaps(&columns)),
    )
    .into_iter();
    let widths: Vec<_> = columns
        .iter()
        .map(|column| if column.is_name { names.next().unwrap_or_default() } else { column.need() })
        .collect();
    let rows = columns.first().map_or(0, |column| column.cells.len());
    let mut lines = Vec::with_capacity(rows + 1);
    for row in std::iter::once(None).chain((0..rows).map(Some)) {
        let mut line = Line::default();
        let mut begin = 0;
        for (column, width) in columns.iter().zip(&widths) {
            let cell = shortened(row.map_or(column.head, |row| &column.cells[row]), *width);
            let padding = if column.is_name { 0 } else { width - width_of(&cell).min(*width) };
            let tone = match row {
                None => Tone::Faint,
                Some(row) => column.tones.get(row).copied().unwrap_or_default(),
            };
            line = line.with(begin + padding, &cell, tone);
            begin += width + GAP;
        }
        lines.push(line.cut(width));
    }
    lines
}

/// Widths for these needs that together have at most `room`: each gets its need, or as much as any
/// other.
fn fair(needs: impl Iterator<Item = usize>, mut room: usize) -> Vec<usize> {
    let mut widths: Vec<_> = needs.collect();
    let mut order: Vec<_> = (0..widths.len()).collect();
    order.sort_by_key(|place| widths[*place]);
    for (done, place) in order.iter().enumerate() {
        let share = room / (widths.len() - done);
        widths[*place] = widths[*place].min(share);
        room -= widths[*place];
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[Line]) -> Vec<String> {
        lines.iter().map(Line::text).collect()
    }

    fn names(head: &'static str, rank: u8, cells: &[&str]) -> Column {
        Column::names(head, rank, cells.iter().map(|cell| (*cell).to_owned()))
    }

    fn numbers(head: &'static str, rank: u8, cells: &[&str]) -> Column {
        Column::numbers(head, rank, cells.iter().map(|cell| (*cell).to_owned()))
    }

    #[test]
    fn table_aligns_names_left_and_numbers_right() {
        let columns = vec![names("WHO", 0, &["ada", "grace"]), numbers("TOKENS", 0, &["7", "1,234"])];
        assert_eq!(texts(&table(columns, 80)), ["WHO    TOKENS", "ada         7", "grace   1,234"]);
    }

    #[test]
    fn narrow_table_leaves_out_columns_by_their_rank() {
        let columns = || {
            vec![
                names("CLIENT", 1, &["a-long-client-name"]),
                names("MODEL", 0, &["gpt-4.1-mini-2025-04-14"]),
                numbers("FIRST", 2, &["340 ms"]),
                numbers("TIME", 0, &["12.3 s"]),
            ]
        };
        assert_eq!(texts(&table(columns(), 34))[1], "a-l…name  gpt…4-14  340 ms  12.3 s");
        assert_eq!(texts(&table(columns(), 26))[0], "CLIENT    MODEL       TIME");
        assert_eq!(texts(&table(columns(), 16)), ["MODEL       TIME", "gpt…4-14  12.3 s"]);
    }

    #[test]
    fn line_never_reaches_beyond_any_width() {
        let odd =
            ["通义千问-max-通义千问", "e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}", "🦀🦀🦀🦀🦀🦀🦀"];
        for width in 0..60 {
            let columns = vec![
                names("A", 0, &odd),
                names("B", 1, &odd),
                numbers("C", 2, &["1", "22", "333"]),
                numbers("D", 0, &["1", "22", "123,456"]),
            ];
            for line in table(columns, width) {
                assert!(width_of(&line.text()) <= width, "{width}: {line:?}");
            }
        }
    }

    #[test]
    fn cell_cannot_control_the_terminal() {
        let line = Line::of("a\u{1b}[2J\r\n", Tone::Plain).with(12, "b\u{202e}c\u{7}", Tone::Bad);
        let plain = line.text();
        assert!(plain.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{plain:?}");
    }

    #[test]
    fn widths_are_shared_fairly() {
        assert_eq!(fair([3, 20, 9].into_iter(), 100), [3, 20, 9]);
        assert_eq!(fair([3, 20, 9].into_iter(), 21), [3, 9, 9]);
        assert_eq!(fair([30, 20].into_iter(), 21), [11, 10]);
    }
}
