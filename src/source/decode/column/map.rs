//! `hstore`: text to text.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, MapArray, NullBufferBuilder, StructArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef};
use arrow::error::ArrowError;

use super::walk::Walk;
use super::{Builder, Faults, Fields, Misfit, text};
use crate::relation::ColumnType;

const FOREIGN: Misfit = Misfit::Foreign("a field is not the binary form of an hstore");

struct Map {
    entries: FieldRef,
    keys: Box<dyn Builder>,
    values: Box<dyn Builder>,
    starts: [Vec<u32>; 2],
    /// Number of pairs so far.
    total: usize,
    offsets: Vec<i32>,
    validity: NullBufferBuilder,
    faults: Faults,
}

/// A builder of maps from text to text.
pub(super) fn map() -> Box<dyn Builder> {
    let DataType::Map(entries, _) = ColumnType::Map.data_type() else { unreachable!("it is a map") };
    Box::new(Map {
        entries,
        keys: text::text(),
        values: text::text(),
        starts: [Vec::new(), Vec::new()],
        total: 0,
        offsets: vec![0],
        validity: NullBufferBuilder::new(0),
        faults: Faults::default(),
    })
}

impl Map {
    /// Stores where keys and values of one map start.
    fn split(&mut self, mut walk: Walk<'_>) -> Option<()> {
        for _ in 0..usize::try_from(walk.word()?).ok()? {
            let (key, null) = walk.nested()?;
            let (value, _) = walk.nested()?;
            if null {
                return None;
            }
            self.starts[0].push(key);
            self.starts[1].push(value);
        }
        walk.is_done().then_some(())
    }
}

impl Builder for Map {
    fn append(&mut self, fields: Fields<'_>) {
        self.starts.iter_mut().for_each(Vec::clear);
        for &start in fields.starts {
            let before = self.starts[0].len();
            let field = fields.get(start);
            let taken = field.is_some_and(|field| self.split(Walk::new(start, field)).is_some());
            if !taken {
                self.starts.iter_mut().for_each(|starts| starts.truncate(before));
                if field.is_some() {
                    self.faults.note(FOREIGN);
                }
            }
            self.validity.append(taken);
            // If an offset overflows i32, it gets smaller than the one before, and `finish` refuses that.
            self.offsets.push((self.total + self.starts[0].len()) as i32);
        }
        self.total += self.starts[0].len();
        let [keys, values] = &self.starts;
        self.keys.append(Fields { raw: fields.raw, starts: keys });
        self.values.append(Fields { raw: fields.raw, starts: values });
    }

    fn is_unfit(&self) -> bool {
        self.faults.unfit.is_some() || self.keys.is_unfit() || self.values.is_unfit()
    }

    fn finish(&mut self) -> Result<(ArrayRef, Faults), ArrowError> {
        let total = std::mem::take(&mut self.total);
        if i32::try_from(total).is_err() {
            return Err(ArrowError::OffsetOverflowError(total));
        }
        let mut all = std::mem::take(&mut self.faults);
        let (keys, faults) = self.keys.finish()?;
        if keys.null_count() > 0 {
            // A key must not become NULL, even if `on_unfit` asks for NULL.
            return Err(ArrowError::InvalidArgumentError("a key of an hstore is not UTF-8".into()));
        }
        all.merge(faults);
        let (values, faults) = self.values.finish()?;
        all.merge(faults);
        let DataType::Struct(fields) = self.entries.data_type() else { unreachable!("entries are structs") };
        let entries = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
        let offsets = OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(&mut self.offsets, vec![0])));
        let array = MapArray::try_new(self.entries.clone(), offsets, entries, self.validity.finish(), false)?;
        Ok((Arc::new(array), all))
    }
}
