//! Texts made from values of a fixed width, as the server would show them.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringBuilder};
use arrow::error::ArrowError;

use super::fixed::WIDTH;
use super::temporal::{DAY_MICROS, LAST_TIME};
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
        if !(0..=LAST_TIME).contains(&micros) {
            return Err(Misfit::Foreign("a time is outside the day"));
        }
        clock(micros, text);
        Ok(())
    })
}

/// Seconds of a day.
const DAY: i64 = 86_400;

/// A builder of texts from times with time zone. The upper 40 bits are microseconds of the day in UTC, which
/// need not lie within one day. The lower 24 bits are the seconds by which the zone lies west of it, plus a day
/// (`TimestampUDxShared.h` of Vertica's SDK; `deserializer.py: load_timetz_binary` of `vertica-python`).
pub(super) fn time_tz() -> Box<dyn Builder> {
    rendered(|field, text| {
        let value = i64::from_be_bytes(field.try_into().map_err(|_| WIDTH)?);
        let west = (value & 0xff_ffff) - DAY;
        if west.abs() >= DAY {
            return Err(Misfit::Foreign("a time zone is more than a day away"));
        }
        clock(((value >> 24) - west * 1_000_000).rem_euclid(DAY_MICROS), text);
        let (sign, zone) = (if west > 0 { '-' } else { '+' }, west.abs());
        // Writing to a text cannot fail.
        let _ = write!(text, "{sign}{:02}", zone / 3600);
        if zone % 3600 > 0 {
            let _ = write!(text, ":{:02}", zone / 60 % 60);
        }
        if zone % 60 > 0 {
            let _ = write!(text, ":{:02}", zone % 60);
        }
        Ok(())
    })
}

/// Appends a time of the day, without zeros at the end of the fraction.
fn clock(micros: i64, text: &mut String) {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let _ = write!(text, "{hours:02}:{minutes:02}:{:02}", seconds % 60);
    if fraction > 0 {
        let _ = write!(text, ".{fraction:06}");
        text.truncate(text.trim_end_matches('0').len());
    }
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
        let (leap, _) = text(time(), &LAST_TIME.to_be_bytes());
        assert_eq!(leap.as_deref(), Some("24:00:00.999999"));
        for wrong in [-1, LAST_TIME + 1] {
            let (found, faults) = text(time(), &i64::to_be_bytes(wrong));
            assert!(found.is_none() && faults.foreign.is_some());
        }
    }

    /// A time with zone as the SDK packs it.
    fn packed(local: i64, west: i64) -> [u8; 8] {
        (((local + west * 1_000_000) << 24) | (west + DAY)).to_be_bytes()
    }

    #[test]
    fn times_with_zones_are_as_the_server_shows_them() {
        const HOUR: i64 = 3_600_000_000;
        for (local, west, expected) in [
            (0, 0, "00:00:00+00"),
            (DAY_MICROS - 1, 1800, "23:59:59.999999-00:30"),
            (22 * HOUR + 1, -(6 * 3600 + 1800), "22:00:00.000001+06:30"),
            (0, 14 * 3600, "00:00:00-14"),
            (0, -14 * 3600, "00:00:00+14"),
            (23 * HOUR, -14 * 3600, "23:00:00+14"),
            (HOUR, 18_808, "01:00:00-05:13:28"),
            // Times wrap at the end of the day.
            (DAY_MICROS, 0, "00:00:00+00"),
        ] {
            let (found, faults) = text(time_tz(), &packed(local, west));
            assert_eq!((found.as_deref(), faults), (Some(expected), Faults::default()));
        }
        for wrong in [0_i64, -1] {
            assert!(text(time_tz(), &wrong.to_be_bytes()).1.foreign.is_some());
        }
        assert!(text(time_tz(), &[0; 12]).1.foreign.is_some());
    }

    proptest::proptest! {
        #[test]
        fn a_time_and_its_zone_come_back(local in 0..DAY_MICROS, west in -(16 * 3600_i64)..16 * 3600) {
            let (found, _) = text(time_tz(), &packed(local, west));
            let found = found.expect("a text");
            let (clock, zone) = found.split_at(found.find(['+', '-']).expect("a zone"));
            let (whole, fraction) = clock.split_once('.').unwrap_or((clock, ""));
            let seconds = |text: &str| {
                text.split(':').zip([3600, 60, 1]).map(|(part, unit)| unit * part.parse::<i64>().expect("digits")).sum::<i64>()
            };
            let micros: i64 = format!("{fraction:0<6}").parse().expect("digits");
            proptest::prop_assert_eq!(seconds(whole) * 1_000_000 + micros, local);
            let sign = if zone.starts_with('-') { 1 } else { -1 };
            proptest::prop_assert_eq!(sign * seconds(&zone[1..]), west);
        }
    }

    #[test]
    fn uuids_are_as_the_server_shows_them() {
        let (found, _) = text(uuid(), &0x0123_4567_89ab_cdef_fedc_ba98_7654_3210_u128.to_be_bytes());
        assert_eq!(found.as_deref(), Some("01234567-89ab-cdef-fedc-ba9876543210"));
        assert!(text(uuid(), &[1; 15]).1.foreign.is_some());
    }
}
