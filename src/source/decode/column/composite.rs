//! Composites.

use std::sync::Arc;

use arrow::array::{ArrayRef, NullBufferBuilder, StructArray};
use arrow::datatypes::Fields as ArrowFields;
use arrow::error::ArrowError;

use super::walk::Walk;
use super::{Builder, Faults, Fields, FormAttribute, Misfit, NOWHERE, Room, step_of_whole};
use crate::message::setting::InfinityMode;

const FOREIGN: Misfit = Misfit::Foreign("a field is not the binary form of the planned composite");

struct Composite {
    fields: ArrowFields,
    attributes: Vec<Box<dyn Builder>>,
    /// The starts of the fields, for each attribute.
    starts: Vec<Vec<u32>>,
    rows: usize,
    validity: NullBufferBuilder,
    faults: Faults,
}

/// A builder of composites.
pub(super) fn composite(
    attributes: &[FormAttribute],
    infinity: Option<InfinityMode>,
    room: &Room,
) -> Box<dyn Builder> {
    Box::new(Composite {
        fields: attributes
            .iter()
            .map(|attribute| attribute.form.column_type().field(&attribute.name, true))
            .collect(),
        attributes: attributes.iter().map(|attribute| attribute.form.builder(infinity, room)).collect(),
        starts: vec![Vec::new(); attributes.len()],
        rows: 0,
        validity: NullBufferBuilder::new(0),
        faults: Faults::default(),
    })
}

impl Composite {
    /// Stores where the attributes of one composite start.
    fn split(&mut self, mut walk: Walk<'_>) -> Option<()> {
        if usize::try_from(walk.word()?) != Ok(self.starts.len()) {
            return None;
        }
        for starts in &mut self.starts {
            let _oid = walk.word()?;
            starts.push(walk.nested()?.0);
        }
        walk.is_done().then_some(())
    }
}

impl Builder for Composite {
    fn append(&mut self, fields: Fields<'_>) {
        self.starts.iter_mut().for_each(Vec::clear);
        for (row, &start) in fields.starts.iter().enumerate() {
            let taken = match fields.get(start) {
                Some(field) => self.split(Walk::new(start, field)).is_some(),
                None => false,
            };
            if !taken {
                if fields.get(start).is_some() {
                    self.faults.note(FOREIGN);
                }
                for starts in &mut self.starts {
                    starts.truncate(row);
                    starts.push(NOWHERE);
                }
            }
            self.validity.append(taken);
        }
        self.rows += fields.starts.len();
        for (attribute, starts) in self.attributes.iter_mut().zip(&self.starts) {
            attribute.append(Fields { raw: fields.raw, starts });
        }
    }

    fn step(&self) -> usize {
        step_of_whole(self.attributes.iter().map(|attribute| attribute.step()).min().unwrap_or(usize::MAX))
    }

    fn is_unfit(&self) -> bool {
        self.faults.unfit.is_some() || self.attributes.iter().any(|attribute| attribute.is_unfit())
    }

    fn finish(&mut self) -> Result<(ArrayRef, Faults), ArrowError> {
        let mut all = std::mem::take(&mut self.faults);
        let mut arrays = Vec::with_capacity(self.attributes.len());
        for attribute in &mut self.attributes {
            let (array, faults) = attribute.finish()?;
            all.merge(faults);
            arrays.push(array);
        }
        let rows = std::mem::take(&mut self.rows);
        let validity = self.validity.finish();
        let array = StructArray::try_new_with_length(self.fields.clone(), arrays, validity, rows)?;
        Ok((Arc::new(array), all))
    }
}
