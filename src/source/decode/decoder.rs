//! Turns the bytes of a COPY stream into record batches of the planned schema.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::batch::Batches;
use super::column::StreamColumn;
use super::frame::{Frames, Malformed};
use crate::message::request::OnUnfit;
use crate::source::{ErrorKind, SourceError};

/// Decodes one binary COPY stream.
///
/// Pass it each piece that arrives, then ask for batches until there is none. At the end of the stream, call
/// `finish`. If a value does not fit under [`OnUnfit::Text`], the rest of the stream is only checked. There
/// are no more batches, and the stream ends with one error that names all columns with such values.
pub struct CopyDecoder {
    frames: Frames,
    /// Rows of the block that are already decoded.
    taken: usize,
    batches: Batches,
}

impl CopyDecoder {
    /// A decoder of rows with these columns. `key` names the key columns, for reports about rows.
    #[must_use]
    pub fn new(columns: &[StreamColumn], key: &[String], on_unfit: OnUnfit) -> Self {
        let batches = Batches::new(columns.iter().map(|column| (column, false)), key, on_unfit);
        Self { frames: Frames::new(columns.len()), taken: 0, batches }
    }

    /// The schema of the batches.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        self.batches.schema()
    }

    /// Rows read so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.frames.total_rows()
    }

    /// Bytes received so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.frames.bytes()
    }

    /// Takes the next piece of the stream, of any size.
    pub fn take(&mut self, piece: Vec<u8>) {
        self.frames.take(piece);
    }

    /// The next batch, or `None` if more bytes are needed. Call it after each piece until it returns `None`,
    /// so that memory stays bounded.
    ///
    /// # Errors
    /// When the stream does not match the plan, or values do not fit.
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        if self.taken == 0 && !self.frames.ready() {
            return Ok(None);
        }
        self.full_batch()
    }

    /// The next batch of the remaining rows after the end of the stream, or `None` after the last one.
    ///
    /// # Errors
    /// When the trailer is missing, when something follows it, or when values did not fit.
    pub fn finish(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        if let Some(batch) = self.full_batch()? {
            return Ok(Some(batch));
        }
        if !self.frames.ended() {
            return Err(SourceError::transient(
                "copy_truncated",
                format!("the COPY stream ended without its trailer after {} rows", self.rows()),
            ));
        }
        let batch = if self.batches.is_empty() { None } else { self.batches.take()? };
        self.batches.end()?;
        Ok(batch)
    }

    /// The next full batch, or `None` if more bytes are needed.
    fn full_batch(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        loop {
            // Rows that remain from the last block come first.
            let more = self.taken > 0 || self.frames.scan(self.batches.left()).map_err(malformed)?;
            self.decode_block();
            if self.batches.is_full() {
                let batch = self.batches.take()?;
                if batch.is_some() {
                    return Ok(batch);
                }
            } else if !more {
                return Ok(None);
            }
        }
    }

    /// Decodes rows of the block until the batch is full.
    fn decode_block(&mut self) {
        let block = self.frames.block();
        self.taken = self.batches.append(block, self.taken);
        if self.taken == block.rows {
            self.taken = 0;
            self.frames.consume();
        }
    }
}

fn malformed(error: Malformed) -> SourceError {
    let kind = match error {
        Malformed::Fields { .. } => ErrorKind::Changed,
        Malformed::Row { .. }
        | Malformed::Signature
        | Malformed::Flags(_)
        | Malformed::Extension(_)
        | Malformed::Length { .. }
        | Malformed::AfterTrailer => ErrorKind::Permanent,
    };
    SourceError::of(kind, "copy_malformed", error.to_string())
}

#[cfg(test)]
mod tests;
