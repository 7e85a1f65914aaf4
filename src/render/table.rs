//! Tables of text that fit the terminal they are printed on, and are plain columns anywhere else.
//!
//! Promises: a row is a line; every cell is escaped here, so no caller can forget it.

use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Row, Width};

use super::escape;

/// How a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// Text that may be cut to at least this many characters.
    Text(&'static str, u16),
    /// A number, never cut.
    Number(&'static str),
    /// A short text that is never cut.
    Fixed(&'static str),
}

impl Column {
    fn title(self) -> &'static str {
        match self {
            Column::Text(title, _) | Column::Number(title) | Column::Fixed(title) => title,
        }
    }

    fn alignment(self) -> CellAlignment {
        match self {
            Column::Number(_) => CellAlignment::Right,
            Column::Text(..) | Column::Fixed(_) => CellAlignment::Left,
        }
    }
}

/// Longest cell in characters: nobody reads more, and a hostile name is not to fill a disk.
const MAX_CELL: usize = 300;

/// The table of `rows`, each as long as `columns`, to fit `width` characters; uncut without one.
pub fn table(columns: &[Column], rows: &[Vec<String>], width: Option<u16>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).force_no_tty().set_delimiter('\n');
    table
        .set_header(columns.iter().map(|column| Cell::new(column.title()).set_alignment(column.alignment())));
    for row in rows {
        let cells = row.iter().zip(columns).map(|(text, column)| {
            let text = escape::line(text);
            Cell::new(escape::cut(&text, MAX_CELL)).set_alignment(column.alignment())
        });
        let mut row = Row::from(cells.collect::<Vec<Cell>>());
        row.max_height(1);
        table.add_row(row);
    }
    let longest = table.column_max_content_widths();
    for (column, (of, longest)) in table.column_iter_mut().zip(columns.iter().zip(longest)) {
        column.set_padding((0, 2));
        match of {
            Column::Number(_) | Column::Fixed(_) => {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
            Column::Text(_, least) => {
                column
                    .set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed((*least).min(longest) + 2)));
            }
        }
    }
    match width {
        Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    let mut text = table.trim_fmt();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] =
        &[Column::Text("FUNCTION", 8), Column::Text("MODULE", 4), Column::Number("SAMPLES")];

    fn rows() -> Vec<Vec<String>> {
        let hostile = format!("\u{1b}]0;owned\u{7}\n\u{202e}{}", "x".repeat(10_000));
        [
            ("pi", "libc.so.6", "12"),
            (&hostile, "</script>", "1,234,567"),
            ("日本語の関数名がここにある", "-", "0"),
        ]
        .map(|(a, b, c)| vec![a.to_string(), b.into(), c.into()])
        .into()
    }

    #[test]
    fn a_row_is_a_line_and_fits() {
        for width in [40u16, 60, 80, 200] {
            let text = table(COLUMNS, &rows(), Some(width));
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines.len(), 4, "{text}");
            assert!(lines.iter().all(|line| line.chars().count() <= usize::from(width)), "{width}:\n{text}");
            assert!(lines[1].ends_with("12") && lines[2].contains('…'), "{text}");
            assert!(lines[2].ends_with("1,234,567"), "numbers are not cut: {text}");
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
