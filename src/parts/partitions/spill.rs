//! Rows that wait for their partition on disk, because memory has no room for them.
//!
//! They are in a file without a name, in frames of a few rows of one partition: a record batch as Arrow's IPC
//! has it, compressed. Each frame says where the one before it is and which checksum that one has, so memory has only
//! the last frame of each partition (I8), and a byte that comes back as another one is found. The file goes when it is
//! closed, whatever ends the process.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::FileDecoder;
use arrow::ipc::writer::{
    DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions, write_message,
};
use arrow::ipc::{Block, MetadataVersion};
use sha2::{Digest, Sha256};

use crate::write::WriteError;

/// Bytes of what a frame says of the one before it.
const LINK: usize = 16 + SUM;
/// Bytes of the size of a message without its data.
const META: usize = 4;
const SUM: usize = 32;

/// Where a frame is, and its checksum. A frame without bytes is none.
#[derive(Clone, Copy, Default)]
struct Frame {
    at: u64,
    bytes: u64,
    sum: [u8; SUM],
}

pub(super) struct Spill {
    file: File,
    /// What errors call the file.
    shown: PathBuf,
    end: u64,
    /// Bytes of the longest frame.
    longest: u64,
    schema: SchemaRef,
    /// The last frame of each partition.
    last: Vec<Frame>,
}

/// The frames of a partition, from the last one to the first.
pub(super) struct Frames(Vec<Frame>);

impl Spill {
    /// `file` is empty, and only this spill has it.
    pub(super) fn new(file: File, shown: PathBuf, schema: SchemaRef) -> Self {
        Self { file, shown, end: 0, longest: 0, schema, last: Vec::new() }
    }

    /// Puts rows of a partition on disk. They are few: a frame is made in memory.
    pub(super) fn push(&mut self, partition: usize, rows: &RecordBatch) -> Result<(), WriteError> {
        if self.last.len() <= partition {
            self.last.resize_with(partition + 1, Frame::default);
        }
        let (meta, message) = message(rows).map_err(|e| self.failed(io::Error::other(e)))?;
        let mut frame = self.last[partition].link().to_vec();
        frame.extend_from_slice(&meta.to_le_bytes());
        frame.extend_from_slice(&lz4_flex::block::compress_prepend_size(&message));
        self.file.write_all_at(&frame, self.end).map_err(|e| self.failed(e))?;
        let (bytes, sum) = (frame.len() as u64, Sha256::digest(&frame).into());
        self.last[partition] = Frame { at: self.end, bytes, sum };
        self.end += bytes;
        self.longest = self.longest.max(bytes);
        Ok(())
    }

    /// The frames of a partition. They are checked when they are read.
    pub(super) fn frames(&self, partition: usize) -> Result<Frames, WriteError> {
        let mut frames = Vec::new();
        let mut next = self.last.get(partition).copied().unwrap_or_default();
        while next.bytes > 0 {
            // Frames are written one after the other.
            let before = frames.last().map_or(self.end, |after: &Frame| after.at);
            let is_before = next.at.checked_add(next.bytes).is_some_and(|end| end <= before);
            if !is_before || !(LINK as u64..=self.longest).contains(&next.bytes) {
                return Err(self.failed(changed()));
            }
            frames.push(next);
            let mut link = [0; LINK];
            self.file.read_exact_at(&mut link, next.at).map_err(|e| self.failed(e))?;
            next = Frame::of(&link);
        }
        Ok(Frames(frames))
    }

    /// The rows of the first frame that is left.
    pub(super) fn next(&self, frames: &mut Frames) -> Result<Option<RecordBatch>, WriteError> {
        let Some(frame) = frames.0.pop() else { return Ok(None) };
        let mut bytes = vec![0; usize::try_from(frame.bytes).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut bytes, frame.at).map_err(|e| self.failed(e))?;
        if <[u8; SUM]>::from(Sha256::digest(&bytes)) != frame.sum {
            return Err(self.failed(changed()));
        }
        self.rows(&bytes[LINK..]).map(Some).map_err(|e| self.failed(io::Error::other(e)))
    }

    fn rows(&self, frame: &[u8]) -> Result<RecordBatch, Box<dyn std::error::Error + Send + Sync>> {
        let (meta, packed) = frame.split_first_chunk::<META>().ok_or_else(changed)?;
        let meta = u32::from_le_bytes(*meta);
        let message = Buffer::from_vec(lz4_flex::block::decompress_size_prepended(packed)?);
        let block = Block::new(0, i32::try_from(meta)?, message.len() as i64 - i64::from(meta));
        let decoder = FileDecoder::new(self.schema.clone(), MetadataVersion::V5);
        Ok(decoder.read_record_batch(&block, &message)?.ok_or_else(changed)?)
    }

    fn failed(&self, error: io::Error) -> WriteError {
        WriteError::storage(&self.shown, error)
    }
}

impl Frame {
    fn link(&self) -> [u8; LINK] {
        let mut link = [0; LINK];
        link[..8].copy_from_slice(&self.at.to_le_bytes());
        link[8..16].copy_from_slice(&self.bytes.to_le_bytes());
        link[16..].copy_from_slice(&self.sum);
        link
    }

    fn of(link: &[u8; LINK]) -> Self {
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte));
        let mut sum = [0; SUM];
        sum.copy_from_slice(&link[16..]);
        Self { at: number(&link[..8]), bytes: number(&link[8..16]), sum }
    }
}

/// Rows as a message of Arrow's IPC, and how many of its bytes are not data.
fn message(rows: &RecordBatch) -> Result<(u32, Vec<u8>), Box<dyn std::error::Error + Send + Sync>> {
    let options = IpcWriteOptions::default();
    let (mut dictionaries, mut context) = (DictionaryTracker::new(false), IpcWriteContext::default());
    let (_, encoded) = IpcDataGenerator::default().encode(rows, &mut dictionaries, &options, &mut context)?;
    let mut message = Vec::with_capacity(encoded.ipc_message.len() + encoded.arrow_data.len() + 64);
    let (meta, _) = write_message(&mut message, encoded, &options)?;
    Ok((u32::try_from(meta)?, message))
}

fn changed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the file system did not give back what was written")
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
    fn rows_come_back_in_order_as_they_were_or_not_at_all() {
        let columns = columns();
        let fields: Vec<_> = columns.iter().map(|c| Field::new("c", c.data_type().clone(), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let rows = RecordBatch::try_new(schema.clone(), columns).expect("rows");
        let path = std::env::temp_dir().join(format!("adu-spill-{}", uuid::Uuid::new_v4()));
        let file = File::options().read(true).write(true).create_new(true).open(&path).expect("a file");
        std::fs::remove_file(&path).expect("removed");
        let mut spill = Spill::new(file, path, schema);
        for partition in [1, 0, 1] {
            spill.push(partition, &rows).expect("pushed");
            spill.push(partition, &rows.slice(partition, 1)).expect("pushed");
        }
        let mut frames = spill.frames(1).expect("frames");
        for expected in [rows.clone(), rows.slice(1, 1), rows.clone(), rows.slice(1, 1)] {
            let back = spill.next(&mut frames).expect("read").expect("there");
            assert_eq!(back, expected);
            // Bit by bit, however arrays are compared.
            let bits = |batch: &RecordBatch| -> Vec<Option<u64>> {
                batch.column(0).as_primitive::<Float64Type>().iter().map(|v| v.map(f64::to_bits)).collect()
            };
            assert_eq!(bits(&back), bits(&expected));
        }
        assert!(spill.next(&mut frames).expect("read").is_none());
        assert!(spill.next(&mut spill.frames(9).expect("none")).expect("read").is_none());
        // Whatever byte comes back as another one, no row does.
        for at in 0..spill.end {
            let mut byte = [0];
            spill.file.read_exact_at(&mut byte, at).expect("read");
            for other in [byte[0] ^ 1, byte[0] ^ 0x80, 0, 0xff].into_iter().filter(|other| *other != byte[0])
            {
                spill.file.write_all_at(&[other], at).expect("written");
                let found = (0..2).try_for_each(|partition| {
                    let mut frames = spill.frames(partition)?;
                    while spill.next(&mut frames)?.is_some() {}
                    Ok(())
                });
                let kind = found.map_err(|e| match e {
                    WriteError::Storage { source, .. } => source.kind(),
                    other => panic!("{other}"),
                });
                assert_eq!(kind, Err(io::ErrorKind::InvalidData), "byte {at}");
            }
            spill.file.write_all_at(&byte, at).expect("written");
        }
    }
}
