//! Texts made from values of a fixed width, as the server would show them.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringBuilder};
use arrow::error::ArrowError;

use super::fixed::WIDTH;
use super::temporal::DAY_MICROS;
use super::{Builder, Faults, Fields, Misfit};

/// Appends the text of a value.
type Render = fn(&[u8], &mut String) -> Result<(), Misfit>;

struct Rendered {
    render: Render,
    text: String,
    values: StringBuilder,
    faults: Faults,
}

fn rendered(render: Render) -> Box<dyn Builder> {
    let (text, values) = (String::new(), StringBuilder::new());
    Box::new(Rendered { render, text, values, faults: Faults::default() })
}

/// A builder of texts from UUIDs.
pub(super) fn uuid() -> Box<dyn Builder> {
    rendered(|field, text| {
        let value = field.try_into().map_err(|_| WIDTH)?;
        let mut buffer = uuid::Uuid::encode_buffer();
        text.push_str(uuid::Uuid::from_bytes(value).hyphenated().encode_lower(&mut buffer));
        Ok(())
    })
}

/// A builder of texts from times without time zone.
pub(super) fn time() -> Box<dyn Builder> {
    rendered(|field, text| {
        let micros = i64::from_be_bytes(field.try_into().map_err(|_| WIDTH)?);
        if !(0..=DAY_MICROS).contains(&micros) {
            return Err(Misfit::Foreign("a time is outside the day"));
        }
        let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        // Writing to a text cannot fail.
        let _ = write!(text, "{hours:02}:{minutes:02}:{:02}", seconds % 60);
        if fraction > 0 {
            let _ = write!(text, ".{fraction:06}");
            text.truncate(text.trim_end_matches('0').len());
        }
        Ok(())
    })
}

impl Builder for Rendered {
    fn append(&mut self, fields: Fields<'_>) {
        for field in fields.iter() {
            self.text.clear();
            match field.map(|field| (self.render)(field, &mut self.text)) {
                Some(Ok(())) => self.values.append_value(&self.text),
                Some(Err(misfit)) => {
                    self.faults.note(misfit);
                    self.values.append_null();
                }
                None => self.values.append_null(),
            }
        }
    }

    fn is_unfit(&self) -> bool {
        self.faults.unfit.is_some()
    }

    fn finish(&mut self) -> Result<(ArrayRef, Faults), ArrowError> {
        Ok((Arc::new(self.values.finish()), std::mem::take(&mut self.faults)))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::*;

    /// The text of one value, or its faults.
    fn text(mut builder: Box<dyn Builder>, value: &[u8]) -> (Option<String>, Faults) {
        let length = (value.len() as u32).to_be_bytes();
        let raw = [&length, value].concat();
        builder.append(Fields { raw: &raw, starts: &[0] });
        let (array, faults) = builder.finish().expect("an array");
        let array = array.as_string::<i32>();
        (array.iter().next().flatten().map(str::to_owned), faults)
    }

    #[test]
    fn times_are_as_the_server_shows_them() {
        for (micros, expected) in [
            (0, "00:00:00"),
            (1, "00:00:00.000001"),
            (3_723_000_000, "01:02:03"),
            (3_723_450_000, "01:02:03.45"),
            (DAY_MICROS - 1, "23:59:59.999999"),
            (DAY_MICROS, "24:00:00"),
        ] {
            let (found, faults) = text(time(), &i64::to_be_bytes(micros));
            assert_eq!((found.as_deref(), faults), (Some(expected), Faults::default()));
        }
        for wrong in [-1, DAY_MICROS + 1] {
            let (found, faults) = text(time(), &i64::to_be_bytes(wrong));
            assert!(found.is_none() && faults.foreign.is_some());
        }
    }

    #[test]
    fn uuids_are_as_the_server_shows_them() {
        let (found, _) = text(uuid(), &0x0123_4567_89ab_cdef_fedc_ba98_7654_3210_u128.to_be_bytes());
        assert_eq!(found.as_deref(), Some("01234567-89ab-cdef-fedc-ba9876543210"));
        assert!(text(uuid(), &[1; 15]).1.foreign.is_some());
    }
}
