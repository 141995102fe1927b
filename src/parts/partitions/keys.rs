//! Which partition each row of a batch belongs to. The value of a row is taken from its columns once per batch;
//! the name of the directory is made once per partition.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Date32Type, Int16Type, Int32Type, Int64Type, UInt32Type};
use arrow::row::{RowConverter, SortField};
use jiff::ToSpan;
use jiff::civil::Date;
use uuid::Uuid;

use crate::message::pattern::qualified;
use crate::plan::export_plan::PlannedTable;
use crate::relation::hive;
use crate::source::SourceError;

/// Days from 1970-01-01 to 0001-01-01 and to 9999-12-31: not all readers take other dates from names.
const DAYS: std::ops::RangeInclusive<i32> = -719_162..=2_932_896;

pub(super) struct Keys {
    /// `schema.table`, for errors.
    table: String,
    /// Name and position of each column.
    columns: Vec<(String, usize)>,
    converter: RowConverter,
    /// Partitions by the values of their columns, in the converter's form.
    known: HashMap<Box<[u8]>, usize>,
    directories: Vec<String>,
    most: usize,
}

impl Keys {
    pub(super) fn new(table: &PlannedTable, most: u32) -> Result<Self, SourceError> {
        let named = qualified(&table.schema, &table.name);
        let position = |name: &String| table.columns.iter().position(|c| c.name == *name);
        let columns: Option<Vec<_>> =
            table.partition_by.iter().map(|name| Some((name.clone(), position(name)?))).collect();
        let columns = columns.ok_or_else(|| broken(&named, &"a column is not in the plan"))?;
        let fields = columns.iter().map(|(_, at)| SortField::new(table.columns[*at].ty.data_type()));
        let converter = RowConverter::new(fields.collect()).map_err(|e| broken(&named, &e))?;
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Ok(Self { table: named, columns, converter, known: HashMap::new(), directories: Vec::new(), most })
    }

    /// How many partitions are known.
    pub(super) fn len(&self) -> usize {
        self.directories.len()
    }

    /// The directory of a partition, below that of the table.
    pub(super) fn directory(&self, partition: usize) -> &str {
        &self.directories[partition]
    }

    /// The directory of rows that do not exist. It tells readers which columns there would be.
    pub(super) fn of_nothing(&self) -> Result<String, SourceError> {
        self.named(|_| Ok(None))
    }

    /// The partition of each row.
    pub(super) fn of(&mut self, batch: &RecordBatch) -> Result<Vec<usize>, SourceError> {
        let arrays: Vec<ArrayRef> = self.columns.iter().map(|(_, at)| batch.column(*at).clone()).collect();
        let rows = self.converter.convert_columns(&arrays).map_err(|e| broken(&self.table, &e))?;
        let mut partitions = Vec::with_capacity(batch.num_rows());
        for (row, key) in rows.iter().enumerate() {
            // Rows of one partition often follow one another.
            if row > 0 && key == rows.row(row - 1) {
                partitions.push(partitions[row - 1]);
                continue;
            }
            let partition = match self.known.get(key.as_ref()) {
                Some(partition) => *partition,
                None => self.add(key.as_ref().into(), &arrays, row)?,
            };
            partitions.push(partition);
        }
        Ok(partitions)
    }

    fn add(&mut self, key: Box<[u8]>, arrays: &[ArrayRef], row: usize) -> Result<usize, SourceError> {
        let partition = self.directories.len();
        if partition == self.most {
            return Err(self.too_many());
        }
        let directory = self.named(|column| text(&arrays[column], row))?;
        self.directories.push(directory);
        self.known.insert(key, partition);
        Ok(partition)
    }

    /// The directory of these values.
    fn named(
        &self,
        value: impl Fn(usize) -> Result<Option<String>, &'static str>,
    ) -> Result<String, SourceError> {
        let mut levels = Vec::with_capacity(self.columns.len());
        for (index, (column, _)) in self.columns.iter().enumerate() {
            let named = value(index).and_then(|value| {
                hive::directory(column, value.as_deref()).map_err(hive::Unnameable::as_str)
            });
            levels.push(named.map_err(|why| self.unnameable(column, why))?);
        }
        Ok(levels.join("/"))
    }

    fn unnameable(&self, column: &str, why: &str) -> SourceError {
        let message =
            format!("{}: column {column:?} has {why}, so it cannot partition the table", self.table);
        SourceError::permanent("partition_value", message).with_remedy(
            "leave such rows out by `where`, replace the value in a view, or leave the column out of output.partition_by",
        )
    }

    fn too_many(&self) -> SourceError {
        let columns: Vec<&str> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        SourceError::permanent("too_many_partitions", hive::too_many(&self.table, &columns, self.most))
            .with_remedy(hive::FEWER)
    }
}

fn broken(table: &str, why: &dyn std::fmt::Display) -> SourceError {
    SourceError::permanent("partition", format!("{table}: its rows cannot be partitioned: {why}"))
        .with_remedy("leave output.partition_by out, and report this")
}

/// The text of a value; none for NULL.
fn text(array: &ArrayRef, row: usize) -> Result<Option<String>, &'static str> {
    if array.is_null(row) {
        return Ok(None);
    }
    Ok(Some(match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).to_string(),
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::Date32 => date(array.as_primitive::<Date32Type>().value(row))?,
        DataType::FixedSizeBinary(16) => {
            let bytes = array.as_fixed_size_binary().value(row);
            Uuid::from_slice(bytes).map_err(|_| "a uuid of another length")?.to_string()
        }
        _ => return Err("values of a type without one text"),
    }))
}

fn date(days: i32) -> Result<String, &'static str> {
    let date = DAYS.contains(&days).then(|| Date::constant(1970, 1, 1).checked_add(days.days()).ok());
    match date.flatten() {
        Some(date) => Ok(date.to_string()),
        None => Err("a date that is infinite or outside of the years 1 to 9999"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_readers_expect_them() {
        for (days, text) in [(0, "1970-01-01"), (-1, "1969-12-31"), (19_782, "2024-02-29")] {
            assert_eq!(date(days).as_deref(), Ok(text));
        }
        assert_eq!(date(*DAYS.start()).as_deref(), Ok("0001-01-01"));
        assert_eq!(date(*DAYS.end()).as_deref(), Ok("9999-12-31"));
        for days in [DAYS.start() - 1, DAYS.end() + 1, i32::MAX, -i32::MAX] {
            assert!(date(days).is_err(), "{days}");
        }
    }
}
