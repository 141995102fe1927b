//! Whether a table can be partitioned as the request asks.

use crate::message::event::ErrorReport;
use crate::message::pattern::qualified;
use crate::plan::choose::ChosenTable;
use crate::relation::{Column, hive};

/// Which columns the files leave out.
///
/// # Errors
/// When readers would not get the columns back. The report names table, column and remedy.
pub(super) fn partition_by(
    asked: &[String],
    chosen: &ChosenTable<'_>,
    columns: &[Column],
) -> Result<Vec<String>, ErrorReport> {
    let table = qualified(&chosen.relation.schema, &chosen.relation.name);
    let refuse = |code: &str, what: String, remedy: &str| {
        let message = format!("{table} cannot be partitioned as output.partition_by says: {what}");
        Err(ErrorReport::permanent(code, message, remedy))
    };
    for name in asked {
        let Some((column, surveyed)) = columns.iter().zip(&chosen.columns).find(|(c, _)| c.name == *name)
        else {
            return refuse(
                "no_such_column",
                format!("it has no column {name:?}, or the column is not exported"),
                "name a column that is exported, or export this table by a request of its own",
            );
        };
        if !hive::is_column(name) {
            return refuse(
                "partition_column",
                format!(
                    "readers would not get back the name of column {name:?} from the names of directories"
                ),
                "use a column whose name has none of \"#%'*/:=?\\{[]^ and begins with a letter, or rename it in a view",
            );
        }
        if !surveyed.canonical || !hive::is_nameable(&column.ty) {
            return refuse(
                "partition_type",
                format!(
                    "column {name:?} is of type {}, whose values have no unique text",
                    column.source_type
                ),
                "use a column of type text, char, enum, integer, date, boolean or uuid, or cast it to one in a view",
            );
        }
        let other = columns.iter().find(|c| c.name != *name && c.name.to_lowercase() == name.to_lowercase());
        if let Some(other) = other {
            return refuse(
                "partition_column",
                format!("many readers cannot tell the columns {name:?} and {:?} apart", other.name),
                "rename one of the two in a view, or leave it out by `columns`",
            );
        }
    }
    if columns.len() <= asked.len() && !asked.is_empty() {
        return refuse(
            "partition_column",
            format!("no column would be left for the files beside {}", asked.join(", ")),
            "leave a column out of output.partition_by",
        );
    }
    Ok(asked.to_vec())
}
