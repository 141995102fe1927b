//! Rows that wait for their partition on disk, because memory has no room for them.
//!
//! They are in a file without a name, in frames of a few rows of one partition. Each frame says where the frame
//! before it is, so memory does not depend on their number (I8). The file goes when it is closed, whatever ends
//! the process.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use parquet::errors::ParquetError;

use crate::write::WriteError;

/// Where the frame before a frame is: its position and its length. Zeros mean that there is none.
const HEAD: usize = 16;

#[derive(Clone, Copy, Default)]
struct Frame {
    at: u64,
    bytes: u64,
}

pub(super) struct Spill {
    file: File,
    /// What errors call the file.
    shown: PathBuf,
    end: u64,
    schema: SchemaRef,
    converter: RowConverter,
    /// The last frame of each partition.
    last: Vec<Frame>,
}

impl Spill {
    /// `file` is empty, and only this spill has it.
    pub(super) fn new(file: File, shown: PathBuf, schema: SchemaRef) -> Result<Self, WriteError> {
        let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone()));
        let converter = RowConverter::new(fields.collect()).map_err(|e| broken(&shown, &e))?;
        Ok(Self { file, shown, end: 0, schema, converter, last: Vec::new() })
    }

    /// Puts rows of a partition aside. They are few: a frame is encoded in memory.
    pub(super) fn push(&mut self, partition: usize, rows: &RecordBatch) -> Result<(), WriteError> {
        let encoded = self.converter.convert_columns(rows.columns()).map_err(|e| broken(&self.shown, &e))?;
        let mut plain = Vec::new();
        for row in &encoded {
            plain.extend_from_slice(&(row.as_ref().len() as u64).to_le_bytes());
            plain.extend_from_slice(row.as_ref());
        }
        drop(encoded);
        if self.last.len() <= partition {
            self.last.resize_with(partition + 1, Frame::default);
        }
        let before = self.last[partition];
        let mut frame = Vec::with_capacity(HEAD + plain.len() / 2);
        frame.extend_from_slice(&before.at.to_le_bytes());
        frame.extend_from_slice(&before.bytes.to_le_bytes());
        frame.extend_from_slice(&lz4_flex::block::compress_prepend_size(&plain));
        self.file.write_all_at(&frame, self.end).map_err(|e| WriteError::storage(&self.shown, e))?;
        self.last[partition] = Frame { at: self.end, bytes: frame.len() as u64 };
        self.end += frame.len() as u64;
        Ok(())
    }

    /// The rows of a partition that were put aside last, which are forgotten then.
    pub(super) fn pop(&mut self, partition: usize) -> Result<Option<RecordBatch>, WriteError> {
        let Some(frame) = self.last.get(partition).copied().filter(|frame| frame.bytes > 0) else {
            return Ok(None);
        };
        let mut bytes = vec![0; usize::try_from(frame.bytes).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut bytes, frame.at).map_err(|e| WriteError::storage(&self.shown, e))?;
        let (head, packed) = bytes.split_at(HEAD);
        let (at, length) = head.split_at(HEAD / 2);
        self.last[partition] = Frame { at: number(at), bytes: number(length) };
        let plain =
            lz4_flex::block::decompress_size_prepended(packed).map_err(|e| broken(&self.shown, &e))?;
        drop(bytes);
        let (parser, mut rows, mut rest) = (self.converter.parser(), Vec::new(), plain.as_slice());
        while let Some((length, more)) = rest.split_first_chunk::<{ size_of::<u64>() }>() {
            let (row, more) = more.split_at(usize::try_from(number(length)).unwrap_or(usize::MAX));
            rows.push(parser.parse(row));
            rest = more;
        }
        let columns = self.converter.convert_rows(rows).map_err(|e| broken(&self.shown, &e))?;
        RecordBatch::try_new(self.schema.clone(), columns).map(Some).map_err(|e| broken(&self.shown, &e))
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn broken(shown: &Path, why: &dyn std::fmt::Display) -> WriteError {
    WriteError::Encode { path: shown.to_owned(), source: ParquetError::General(why.to_string()) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        Array, ArrayRef, AsArray, Decimal256Array, FixedSizeBinaryArray, FixedSizeListArray, Float64Array,
        ListArray, MapArray, StringArray, StructArray,
    };
    use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int32Type, Schema, i256};

    use super::*;

    /// One column of each layout that files may have, with NULLs.
    fn columns() -> Vec<ArrayRef> {
        let numbers = [Some(vec![Some(1), None]), None, Some(vec![])];
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(numbers);
        let points = [Some(vec![Some(0.5), Some(-1.0)]), None, Some(vec![Some(f32::MIN), Some(f32::MAX)])];
        let points = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(points, 2);
        let words = StringArray::from(vec!["", "a", "b"]);
        let map = MapArray::new_from_strings(["k", "l", "k"].into_iter(), &words, &[0, 2, 2, 3]);
        let field = |name: &str, ty: DataType| Arc::new(Field::new(name, ty, true));
        let inner: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), None, Some("")]));
        let composite = StructArray::from(vec![
            (field("n", inner.data_type().clone()), inner),
            (field("l", lists.data_type().clone()), Arc::new(lists.clone()) as ArrayRef),
        ]);
        let uuids = FixedSizeBinaryArray::try_from_sparse_iter_with_size(
            [Some([7; 16]), None, Some([0; 16])].into_iter(),
            16,
        );
        let decimals = [Some(i256::MIN + i256::ONE), None, Some(i256::from_i128(-1))];
        let decimals = Decimal256Array::from_iter(decimals).with_precision_and_scale(76, 5);
        vec![
            Arc::new(Float64Array::from(vec![Some(-0.0), Some(f64::from_bits(0x7FF8_0000_0000_0123)), None])),
            Arc::new(lists),
            Arc::new(points),
            Arc::new(map.expect("a map")),
            Arc::new(composite),
            Arc::new(uuids.expect("uuids")),
            Arc::new(decimals.expect("decimals")),
        ]
    }

    #[test]
    fn rows_come_back_as_they_were_last_frame_first() {
        let columns = columns();
        let fields: Vec<_> = columns.iter().map(|c| Field::new("c", c.data_type().clone(), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let rows = RecordBatch::try_new(schema.clone(), columns).expect("rows");
        let path = std::env::temp_dir().join(format!("adu-spill-{}", uuid::Uuid::new_v4()));
        let file = File::options().read(true).write(true).create_new(true).open(&path).expect("a file");
        std::fs::remove_file(&path).expect("removed");
        let mut spill = Spill::new(file, path, schema).expect("a spill");
        for partition in [1, 0, 1] {
            spill.push(partition, &rows).expect("pushed");
            spill.push(partition, &rows.slice(partition, 1)).expect("pushed");
        }
        for expected in [rows.slice(1, 1), rows.clone(), rows.slice(1, 1), rows.clone()] {
            let back = spill.pop(1).expect("popped").expect("there");
            assert_eq!(back, expected);
            // Bit by bit, however arrays are compared.
            let bits = |batch: &RecordBatch| -> Vec<Option<u64>> {
                batch.column(0).as_primitive::<Float64Type>().iter().map(|v| v.map(f64::to_bits)).collect()
            };
            assert_eq!(bits(&back), bits(&expected));
        }
        assert!(spill.pop(1).expect("popped").is_none());
        assert_eq!(spill.pop(0).expect("popped"), Some(rows.slice(0, 1)));
        assert_eq!(spill.pop(0).expect("popped"), Some(rows));
        assert!(spill.pop(0).expect("popped").is_none() && spill.pop(9).expect("popped").is_none());
    }
}
