//! Tables of text that fit the terminal they are printed on, and are plain columns anywhere else.
//!
//! Promises: a row is a line; every cell is escaped here, so no caller can forget it.

use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Row, Width};

use super::escape;

/// A column: its title, how it stands, and whether it may go where there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    title: &'static str,
    /// Fewest characters of a text that may be cut; none for one that is never cut.
    least: Option<u16>,
    right: bool,
    drop: u8,
}

impl Column {
    /// Text that may be cut to `least` characters, or its title.
    pub const fn text(title: &'static str, least: u16) -> Column {
        Column { title, least: Some(least), right: false, drop: 0 }
    }

    /// A number, never cut.
    pub const fn number(title: &'static str) -> Column {
        Column { title, least: None, right: true, drop: 0 }
    }

    /// A short text that is never cut.
    pub const fn fixed(title: &'static str) -> Column {
        Column { title, least: None, right: false, drop: 0 }
    }

    /// The same, left out where there is no room; the highest `rank` goes first.
    #[must_use]
    pub const fn drops(self, rank: u8) -> Column {
        Column { drop: rank, ..self }
    }

    fn alignment(self) -> CellAlignment {
        if self.right { CellAlignment::Right } else { CellAlignment::Left }
    }
}

/// Blanks between columns.
const GAP: u16 = 2;

/// Longest cell in characters: nobody reads more, and a hostile name is not to fill a disk.
const MAX_CELL: usize = 300;

/// The table of `rows`, each as long as `columns`, to fit `width` characters; whole without one.
pub fn table(columns: &[Column], rows: &[Vec<String>], width: Option<u16>) -> String {
    let shown = |text: &String| escape::cut(&escape::line(text), MAX_CELL).into_owned();
    let mut columns: Vec<(Column, Vec<String>)> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            (*column, rows.iter().map(|row| row.get(at).map(shown).unwrap_or_default()).collect())
        })
        .collect();
    while let Some(worst) =
        width.filter(|width| least_width(&columns) > *width).and_then(|_| droppable(&columns))
    {
        columns.remove(worst);
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).force_no_tty().set_delimiter('\n');
    let cell = |text: &str, column: &Column| Cell::new(text).set_alignment(column.alignment());
    table.set_header(columns.iter().map(|(column, _)| cell(column.title, column)));
    for at in 0..rows.len() {
        let cells =
            columns.iter().map(|(column, cells)| cell(cells.get(at).map_or("", String::as_str), column));
        let mut row = Row::from(cells.collect::<Vec<Cell>>());
        row.max_height(1);
        table.add_row(row);
    }
    for (column, (of, cells)) in table.column_iter_mut().zip(&columns) {
        column.set_padding((0, GAP));
        column.set_constraint(match of.least {
            None => ColumnConstraint::ContentWidth,
            Some(_) => ColumnConstraint::LowerBoundary(Width::Fixed(least_of(of, cells) + GAP)),
        });
    }
    match width {
        // The gap behind the last column is cut off below.
        Some(width) => {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width.saturating_add(GAP))
        }
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    let mut text = table.trim_fmt();
    text.push('\n');
    text
}

/// Characters a column needs at least.
fn least_of(column: &Column, cells: &[String]) -> u16 {
    let longest = cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
    let longest = u16::try_from(longest).unwrap_or(u16::MAX);
    let least = column.least.map_or(longest, |least| least.min(longest));
    least.max(u16::try_from(column.title.len()).unwrap_or(0))
}

fn least_width(columns: &[(Column, Vec<String>)]) -> u16 {
    let each = columns.iter().map(|(column, cells)| least_of(column, cells).saturating_add(GAP));
    each.fold(0, u16::saturating_add).saturating_sub(GAP)
}

fn droppable(columns: &[(Column, Vec<String>)]) -> Option<usize> {
    let candidates = columns.iter().enumerate().filter(|(_, (column, _))| column.drop > 0);
    candidates.max_by_key(|(_, (column, _))| column.drop).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[
        Column::text("FUNCTION", 8),
        Column::text("MODULE", 4),
        Column::number("SAMPLES"),
        Column::fixed("DAY").drops(1),
    ];

    fn rows() -> Vec<Vec<String>> {
        let hostile = format!("\u{1b}]0;owned\u{7}\n\u{202e}{}", "x".repeat(10_000));
        [
            ("pi", "libc.so.6", "12"),
            (&hostile, "</script>", "1,234,567"),
            ("日本語の関数名がここにある", "-", "0"),
        ]
        .map(|(a, b, c)| vec![a.to_string(), b.into(), c.into(), "2026-11-23".into()])
        .into()
    }

    #[test]
    fn a_row_is_a_line_and_fits() {
        for width in [30u16, 40, 60, 80, 200] {
            let text = table(COLUMNS, &rows(), Some(width));
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines.len(), 4, "{text}");
            assert!(lines.iter().all(|line| line.chars().count() <= usize::from(width)), "{width}:\n{text}");
            assert!(lines[1].contains(" 12") && lines[2].contains('…'), "{text}");
            assert!(lines[2].contains("1,234,567"), "numbers are not cut: {text}");
            assert_eq!(lines[1].ends_with("2026-11-23"), width >= 40, "{width}:\n{text}");
        }
    }

    #[test]
    fn nothing_hostile_reaches_the_terminal() {
        for width in [Some(80), None] {
            let text = table(COLUMNS, &rows(), width);
            assert!(!text.contains(|c: char| c != '\n' && (c.is_control() || c == '\u{202e}')), "{text:?}");
            assert!(text.len() < 4_000, "10 kB names are cut");
        }
    }
}
