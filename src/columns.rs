//! Tables for people: pure.

/// A line for each row, columns as wide as their widest cell, two blanks between them.
pub fn align(rows: impl IntoIterator<Item = Vec<String>>) -> Vec<String> {
    let rows: Vec<Vec<String>> = rows.into_iter().collect();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(i, cell)| format!("{cell:<0$}", width(i).unwrap_or(0)));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligns_columns() {
        let rows = [["host", "peers"], ["h100", "2"], ["a", ""]];
        let lines = align(rows.iter().map(|row| row.iter().map(ToString::to_string).collect()));
        assert_eq!(lines, ["host  peers", "h100  2", "a"]);
    }
}
