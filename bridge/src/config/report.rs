//! What `check-config` says when all is well.

use std::fmt;

/// One setting, as it will be used. A secret's value is `[set]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The setting's key.
    pub key: &'static str,
    /// Its value, on one line.
    pub value: String,
    /// Where it comes from.
    pub source: String,
}

/// Every setting with its value and where it comes from; prints as tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What holds for all servers, or what `[[server]]` tables take when they say nothing themselves.
    pub rows: Vec<Row>,
    /// The settings of each `[[server]]`, by its name.
    pub servers: Vec<(String, Vec<Row>)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = || self.rows.iter().chain(self.servers.iter().flat_map(|(_, rows)| rows));
        let width = |column: fn(&Row) -> &str, heading: &str| {
            all().map(|row| column(row).chars().count()).max().unwrap_or_default().max(heading.len())
        };
        // One long value shall not push every source off the screen.
        const VALUE_WIDTH_MAX: usize = 44;
        let key_width = width(|row| row.key, "setting");
        let value_width = width(|row| &row.value, "value").min(VALUE_WIDTH_MAX);
        let table = |f: &mut fmt::Formatter<'_>, rows: &[Row]| -> fmt::Result {
            writeln!(f, "{:key_width$}  {:value_width$}  from", "setting", "value")?;
            for row in rows {
                writeln!(f, "{:key_width$}  {:value_width$}  {}", row.key, row.value, row.source)?;
            }
            Ok(())
        };
        table(f, &self.rows)?;
        for (name, rows) in &self.servers {
            writeln!(f, "\nserver {name}")?;
            table(f, rows)?;
        }
        Ok(())
    }
}
