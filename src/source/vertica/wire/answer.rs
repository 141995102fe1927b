//! The whole result of a statement: for questions with small answers.

use std::ops::Range;

use super::backend::{Malformed, Reader};
use super::description::{Described, Description, oid};
use crate::config::Advice;
use crate::source::SourceError;

/// Most bytes of all rows of an answer.
const MOST_BYTES: usize = 1 << 30;

/// All rows of a result.
#[derive(Debug, Default)]
pub(in super::super) struct Answer {
    description: Description,
    /// Action and object, for errors.
    what: String,
    data: Vec<u8>,
    /// Where the fields of all rows lie in `data`; `None` is NULL.
    fields: Vec<Option<Range<u32>>>,
    rows: usize,
}

/// One row of an [`Answer`].
#[derive(Clone, Copy)]
pub(in super::super) struct Row<'a> {
    answer: &'a Answer,
    first: usize,
}

impl Answer {
    pub(super) fn new(description: Description, what: &str) -> Self {
        Self { description, what: what.to_owned(), ..Self::default() }
    }

    /// Adds the body of a DataRow.
    pub(super) fn push(&mut self, body: &[u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(body);
        if usize::from(reader.u16()?) != self.description.columns.len() {
            return Err(Malformed("a row does not have the columns of its result"));
        }
        for _ in 0..self.description.columns.len() {
            let field = match reader.i32()? {
                -1 => None,
                length => {
                    let length =
                        usize::try_from(length).map_err(|_| Malformed("a field has a negative length"))?;
                    let start = self.data.len();
                    self.data.extend_from_slice(reader.take(length)?);
                    if self.data.len() > MOST_BYTES {
                        return Err(Malformed("the answer to a question has more than 1 GiB"));
                    }
                    Some(start as u32..self.data.len() as u32)
                }
            };
            self.fields.push(field);
        }
        if !reader.is_done() {
            return Err(Malformed("a row is longer than its fields"));
        }
        self.rows += 1;
        Ok(())
    }

    /// The rows, in order.
    pub(in super::super) fn rows(&self) -> impl ExactSizeIterator<Item = Row<'_>> {
        let width = self.description.columns.len();
        (0..self.rows).map(move |row| Row { answer: self, first: row * width })
    }

    fn unexpected(&self, column: usize, why: &str) -> SourceError {
        let name =
            self.description.columns.get(column).map(|column| column.name.as_str()).unwrap_or_default();
        let message = format!("{}: the answer's column {name:?} ({}) {why}", self.what, column + 1);
        SourceError::permanent("protocol", message).with_remedy(Advice::NotVertica)
    }
}

impl<'a> Row<'a> {
    /// The description and bytes of a field; `None` for NULL.
    fn field(&self, column: usize) -> Result<(&'a Described, Option<&'a [u8]>), SourceError> {
        let answer = self.answer;
        let described = answer.description.columns.get(column);
        let described = described.ok_or_else(|| answer.unexpected(column, "is missing"))?;
        let range = answer.fields.get(self.first + column).and_then(Clone::clone);
        // The ranges were made with the data.
        Ok((described, range.and_then(|range| answer.data.get(range.start as usize..range.end as usize))))
    }

    /// A value of a text type.
    pub(in super::super) fn text(&self, column: usize) -> Result<Option<&'a str>, SourceError> {
        let (described, field) = self.field(column)?;
        let Some(field) = field else { return Ok(None) };
        let is_text = matches!(described.oid, oid::CHAR | oid::VARCHAR | oid::LONG_VARCHAR | oid::UNKNOWN);
        if described.binary && !is_text {
            return Err(self.answer.unexpected(column, "is no text"));
        }
        let text = std::str::from_utf8(field);
        text.map(Some).map_err(|_| self.answer.unexpected(column, "is not UTF-8"))
    }

    /// A whole number, also of a numeric, a float or a text: the manual calls some numbers of the catalogue VARCHAR.
    pub(in super::super) fn int(&self, column: usize) -> Result<Option<i64>, SourceError> {
        let (described, field) = self.field(column)?;
        let Some(field) = field else { return Ok(None) };
        let as_text = || std::str::from_utf8(field).ok().and_then(|text| text.trim().parse().ok());
        let value = if described.binary {
            match described.oid {
                oid::VARCHAR => as_text(),
                oid::INT8 => field.try_into().ok().map(i64::from_be_bytes),
                oid::NUMERIC => whole(field, described.precision_and_scale().1),
                oid::FLOAT8 => field.try_into().ok().map(f64::from_be_bytes).and_then(exact),
                _ => None,
            }
        } else {
            as_text()
        };
        value.map(Some).ok_or_else(|| self.answer.unexpected(column, "is no whole number of 64 bits"))
    }

    /// A boolean.
    pub(in super::super) fn bool(&self, column: usize) -> Result<Option<bool>, SourceError> {
        let (described, field) = self.field(column)?;
        let Some(field) = field else { return Ok(None) };
        match (described.oid, field) {
            (oid::BOOL, [0] | b"f") => Ok(Some(false)),
            (oid::BOOL, [1] | b"t") => Ok(Some(true)),
            _ => Err(self.answer.unexpected(column, "is no boolean")),
        }
    }
}

/// The value of a numeric, if it is whole.
fn whole(field: &[u8], scale: u32) -> Option<i64> {
    let (high, low) = field.split_at_checked(field.len().saturating_sub(16))?;
    let negative = field.first()? & 0x80 != 0;
    let sign = if negative { 0xff } else { 0 };
    if high.iter().any(|byte| *byte != sign) {
        return None;
    }
    let mut bytes = [sign; 16];
    bytes[16 - low.len()..].copy_from_slice(low);
    let value = i128::from_be_bytes(bytes);
    if (value < 0) != negative {
        return None;
    }
    let power = 10_i128.checked_pow(scale)?;
    if value % power != 0 { None } else { i64::try_from(value / power).ok() }
}

/// A float, if it is a whole number that a float can hold exactly.
fn exact(value: f64) -> Option<i64> {
    const MOST: f64 = (1_i64 << 53) as f64;
    (value.trunc() == value && value.abs() <= MOST).then_some(value as i64)
}
