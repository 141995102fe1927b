//! Rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, NullBufferBuilder, StructArray};
use arrow::datatypes::Fields as ArrowFields;
use arrow::error::ArrowError;

use super::super::{Builder, Faults, Fields, FormAttribute, Misfit, Room, step_of_whole};
use super::scan::{Scan, unescape};
use super::{Made, UNREADABLE};
use crate::message::setting::InfinityMode;

struct Row {
    fields: ArrowFields,
    attributes: Vec<Made>,
    rows: usize,
    validity: NullBufferBuilder,
    faults: Faults,
}

/// A builder of structs from JSON objects with these attributes, in this order.
pub(in super::super) fn row(
    attributes: &[FormAttribute],
    infinity: Option<InfinityMode>,
    room: &Room,
) -> Box<dyn Builder> {
    Box::new(Row {
        fields: attributes
            .iter()
            .map(|attribute| attribute.form.column_type().field(&attribute.name, true))
            .collect(),
        attributes: attributes.iter().map(|attribute| Made::new(&attribute.form, infinity, room)).collect(),
        rows: 0,
        validity: NullBufferBuilder::new(0),
        faults: Faults::default(),
    })
}

impl Row {
    /// Makes the attributes of one value.
    fn split(&mut self, value: &[u8]) -> Result<(), Misfit> {
        let mut made = 0;
        let mut found = Vec::new();
        let split = Scan::new(value).object(|name, value| {
            let (attribute, field) =
                self.attributes.get_mut(made).zip(self.fields.get(made)).ok_or(UNREADABLE)?;
            found.clear();
            unescape(name, &mut found).filter(|()| found == field.name().as_bytes()).ok_or(UNREADABLE)?;
            made += 1;
            attribute.push(value)
        });
        split.unwrap_or(Err(UNREADABLE))?;
        if made == self.attributes.len() { Ok(()) } else { Err(UNREADABLE) }
    }
}

impl Builder for Row {
    fn append(&mut self, fields: Fields<'_>) {
        for field in fields.iter() {
            let marks: Vec<_> = self.attributes.iter().map(Made::mark).collect();
            let taken = match field.map(|field| self.split(field)) {
                Some(Ok(())) => true,
                Some(Err(misfit)) => {
                    self.faults.note(misfit);
                    false
                }
                None => false,
            };
            if !taken {
                for (attribute, mark) in self.attributes.iter_mut().zip(marks) {
                    attribute.back(mark);
                    attribute.push_null();
                }
            }
            self.validity.append(taken);
            self.rows += 1;
            self.attributes.iter_mut().filter(|attribute| attribute.is_full()).for_each(Made::flush);
        }
        self.attributes.iter_mut().for_each(Made::flush);
    }

    fn step(&self) -> usize {
        step_of_whole(
            self.attributes.iter().map(|attribute| attribute.builder.step()).min().unwrap_or(usize::MAX),
        )
    }

    fn is_unfit(&self) -> bool {
        self.faults.unfit.is_some() || self.attributes.iter().any(|attribute| attribute.builder.is_unfit())
    }

    fn finish(&mut self) -> Result<(ArrayRef, Faults), ArrowError> {
        let mut all = std::mem::take(&mut self.faults);
        let mut arrays = Vec::with_capacity(self.attributes.len());
        for attribute in &mut self.attributes {
            let (array, faults) = attribute.builder.finish()?;
            all.merge(faults);
            arrays.push(array);
        }
        let (rows, validity) = (std::mem::take(&mut self.rows), self.validity.finish());
        let array = StructArray::try_new_with_length(self.fields.clone(), arrays, validity, rows)?;
        Ok((Arc::new(array), all))
    }
}
