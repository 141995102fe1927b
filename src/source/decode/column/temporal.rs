//! Dates, times and timestamps: PostgreSQL and Vertica count from 2000-01-01, Arrow from 1970-01-01.
//!
//! Unless the request asks otherwise, infinity is stored as the highest value of its type, and -infinity as
//! the negative of that value. DuckDB reads these two values as infinities, and nobody takes them for
//! calendar days. PostgreSQL itself uses a value lower by one for -infinity.

use std::marker::PhantomData;

use arrow::array::ArrowNativeTypeOp;
use arrow::datatypes::{ArrowPrimitiveType, Date32Type, Time64MicrosecondType, TimestampMicrosecondType};

use super::fixed::{Decode, primitive};
use super::{Builder, Misfit};
use crate::message::setting::InfinityMode;

/// Days between the two epochs.
const EPOCH_DAYS: i32 = 10_957;
/// Microseconds between the two epochs.
const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * DAY_MICROS;
pub(super) const DAY_MICROS: i64 = 86_400_000_000;
/// The last moment of a leap second.
pub(super) const LAST_TIME: i64 = DAY_MICROS + 999_999;
/// The Julian day of 1970-01-01.
pub(super) const EPOCH_JULIAN: i64 = 2_440_588;
/// The Julian day of 2000-01-01.
pub(super) const Y2000_JULIAN: i64 = EPOCH_JULIAN + EPOCH_DAYS as i64;

/// A builder of dates or timestamps. Plans of version 1 have no mode. They store -infinity as the lowest
/// value.
pub(super) fn infinite<D: Decode<W>, const W: usize>(mode: Option<InfinityMode>) -> Box<dyn Builder> {
    match mode {
        Some(InfinityMode::Max) => primitive::<D, W>(),
        Some(InfinityMode::Null) => primitive::<Finite<D, false>, W>(),
        Some(InfinityMode::Text) => primitive::<Finite<D, true>, W>(),
        None => primitive::<Lowest<D>, W>(),
    }
}

/// Which infinity a value is, if any. PostgreSQL uses the lowest and the highest value of each type. In Vertica
/// the lowest 64-bit value stands for NULL, so that -infinity is the one above it (`TimestampUDxShared.h` of
/// its SDK). PostgreSQL has no timestamp there.
#[inline]
fn infinity(bytes: &[u8]) -> Option<Infinity> {
    match bytes {
        [0x7f, rest @ ..] if rest.iter().all(|byte| *byte == 0xff) => Some(Infinity::Positive),
        [0x80, rest @ ..] if rest.iter().all(|byte| *byte == 0) => Some(Infinity::Negative),
        [0x80, 0, 0, 0, 0, 0, 0, 1] => Some(Infinity::Negative),
        _ => None,
    }
}

#[derive(PartialEq, Eq)]
enum Infinity {
    Positive,
    Negative,
}

/// Values of `D`, where -infinity is the lowest value of the type.
struct Lowest<D>(PhantomData<D>);

impl<D: Decode<W>, const W: usize> Decode<W> for Lowest<D> {
    type Arrow = D::Arrow;
    const ZONE: Option<&'static str> = D::ZONE;

    #[inline]
    fn decode(bytes: [u8; W]) -> Result<<Self::Arrow as ArrowPrimitiveType>::Native, Misfit> {
        match infinity(&bytes) {
            Some(Infinity::Negative) => Ok(ArrowNativeTypeOp::MIN_TOTAL_ORDER),
            Some(Infinity::Positive) | None => D::decode(bytes),
        }
    }
}

/// Finite values of `D`. Infinite ones do not fit, or become NULL.
struct Finite<D, const UNFIT: bool>(PhantomData<D>);

impl<D: Decode<W>, const W: usize, const UNFIT: bool> Decode<W> for Finite<D, UNFIT> {
    type Arrow = D::Arrow;
    const ZONE: Option<&'static str> = D::ZONE;

    #[inline]
    fn decode(bytes: [u8; W]) -> Result<<Self::Arrow as ArrowPrimitiveType>::Native, Misfit> {
        match infinity(&bytes) {
            None => D::decode(bytes),
            Some(_) if UNFIT => Err(Misfit::Unfit("a date or timestamp is infinite")),
            Some(_) => Err(Misfit::Absent),
        }
    }
}

/// `date`.
pub(super) struct Date;

impl Decode<4> for Date {
    type Arrow = Date32Type;

    #[inline]
    fn decode(bytes: [u8; 4]) -> Result<i32, Misfit> {
        match i32::from_be_bytes(bytes) {
            i32::MIN => Ok(-i32::MAX),
            i32::MAX => Ok(i32::MAX),
            days => match days.checked_add(EPOCH_DAYS) {
                Some(days) if days != i32::MAX && days != -i32::MAX => Ok(days),
                _ => Err(Misfit::Unfit("a date is beyond the range of 32-bit days")),
            },
        }
    }
}

/// A date by its Julian day, which begins at midnight here. Vertica's dates reach far beyond 32-bit days.
pub(super) struct JulianDate;

impl Decode<8> for JulianDate {
    type Arrow = Date32Type;

    #[inline]
    fn decode(bytes: [u8; 8]) -> Result<i32, Misfit> {
        let days =
            i64::from_be_bytes(bytes).checked_sub(EPOCH_JULIAN).and_then(|days| i32::try_from(days).ok());
        // Readers take the highest value and its negative for infinity.
        let days = days.filter(|days| *days != i32::MAX && *days != -i32::MAX);
        days.ok_or(Misfit::Unfit("a date is beyond the range of 32-bit days"))
    }
}

/// `time`. Vertica allows a leap second at the end of the day.
pub(super) struct Time;

impl Decode<8> for Time {
    type Arrow = Time64MicrosecondType;

    #[inline]
    fn decode(bytes: [u8; 8]) -> Result<i64, Misfit> {
        match i64::from_be_bytes(bytes) {
            micros @ 0..DAY_MICROS => Ok(micros),
            DAY_MICROS..=LAST_TIME => Err(Misfit::Unfit("a time from 24:00:00 on is no time of a day")),
            _ => Err(Misfit::Foreign("a time is outside the day")),
        }
    }
}

#[inline]
fn timestamp(bytes: [u8; 8]) -> Result<i64, Misfit> {
    let micros = i64::from_be_bytes(bytes);
    // The infinities follow one another: the highest value, the lowest, and the one above the lowest.
    if micros.wrapping_sub(i64::MAX) as u64 <= 2 {
        return Ok(if micros == i64::MAX { i64::MAX } else { -i64::MAX });
    }
    match micros.checked_add(EPOCH_MICROS) {
        Some(micros) if micros != i64::MAX && micros != -i64::MAX => Ok(micros),
        _ => Err(Misfit::Unfit("a timestamp is beyond the range of 64-bit microseconds")),
    }
}

/// `timestamp`.
pub(super) struct Timestamp;

impl Decode<8> for Timestamp {
    type Arrow = TimestampMicrosecondType;

    #[inline]
    fn decode(bytes: [u8; 8]) -> Result<i64, Misfit> {
        timestamp(bytes)
    }
}

/// `timestamp with time zone`.
pub(super) struct TimestampTz;

impl Decode<8> for TimestampTz {
    type Arrow = TimestampMicrosecondType;
    const ZONE: Option<&'static str> = Some("UTC");

    #[inline]
    fn decode(bytes: [u8; 8]) -> Result<i64, Misfit> {
        timestamp(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epochs_meet_at_2000() {
        assert_eq!(Date::decode([0; 4]), Ok(10_957));
        assert_eq!(Timestamp::decode([0; 8]), Ok(946_684_800_000_000));
    }

    #[test]
    fn julian_days_are_days_and_none_beyond_32_bits_is_lost() {
        for (julian, days) in [
            (2_440_588, 0),
            (2_451_545, 10_957),
            // 0001-01-01, and the day before it, 0001-12-31 BC.
            (1_721_426, -719_162),
            (1_721_425, -719_163),
            // 4714-11-24 BC, in which Julian days begin.
            (0, -2_440_588),
            (i64::from(i32::MAX) - 1 + EPOCH_JULIAN, i32::MAX - 1),
            (i64::from(-i32::MAX) + 1 + EPOCH_JULIAN, -i32::MAX + 1),
        ] {
            assert_eq!(JulianDate::decode(i64::to_be_bytes(julian)), Ok(days));
        }
        let edge = i64::from(i32::MAX);
        for beyond in [i64::MIN, i64::MAX, edge + EPOCH_JULIAN, edge + 1 + EPOCH_JULIAN, -edge + EPOCH_JULIAN]
        {
            assert!(matches!(JulianDate::decode(beyond.to_be_bytes()), Err(Misfit::Unfit(_))), "{beyond}");
        }
    }

    /// Vertica's -infinity.
    const MINUS_INFINITY: i64 = -i64::MAX;

    #[test]
    fn vertica_has_minus_infinity_one_above_postgresql() {
        let bytes = MINUS_INFINITY.to_be_bytes();
        assert_eq!(Timestamp::decode(bytes), Ok(-i64::MAX));
        assert_eq!(TimestampTz::decode(bytes), Ok(-i64::MAX));
        assert_eq!(Finite::<Timestamp, false>::decode(bytes), Err(Misfit::Absent));
        assert!(matches!(Finite::<Timestamp, true>::decode(bytes), Err(Misfit::Unfit(_))));
        let above = MINUS_INFINITY + 1;
        assert_eq!(Finite::<Timestamp, true>::decode(above.to_be_bytes()), Ok(above + EPOCH_MICROS));
    }

    #[test]
    fn infinities_are_those_of_duckdb_and_in_old_plans_the_extremes() {
        for (days, found) in [(i32::MIN, -i32::MAX), (i32::MAX, i32::MAX)] {
            assert_eq!(Date::decode(days.to_be_bytes()), Ok(found));
            assert_eq!(Lowest::<Date>::decode(days.to_be_bytes()), Ok(days));
        }
        for (micros, found) in [(i64::MIN, -i64::MAX), (i64::MAX, i64::MAX)] {
            assert_eq!(Timestamp::decode(micros.to_be_bytes()), Ok(found));
            assert_eq!(TimestampTz::decode(micros.to_be_bytes()), Ok(found));
            assert_eq!(Lowest::<TimestampTz>::decode(micros.to_be_bytes()), Ok(micros));
        }
        assert_eq!(Lowest::<Date>::decode([0; 4]), Ok(EPOCH_DAYS));
    }

    #[test]
    fn infinity_is_null_or_unfit_as_asked_for() {
        for days in [i32::MIN, i32::MAX] {
            let bytes = days.to_be_bytes();
            assert_eq!(Finite::<Date, false>::decode(bytes), Err(Misfit::Absent));
            assert!(matches!(Finite::<Date, true>::decode(bytes), Err(Misfit::Unfit(_))));
        }
        for near in [i32::MIN + 1, -1, 0, i32::MAX - EPOCH_DAYS - 1] {
            assert_eq!(Finite::<Date, true>::decode(near.to_be_bytes()), Ok(near + EPOCH_DAYS));
        }
    }

    #[test]
    fn what_is_beyond_the_range_is_unfit() {
        // 294276-12-31, the last day of PostgreSQL's timestamps.
        let last = 9_223_371_331_200_000_000_i64 - 1;
        assert!(matches!(Timestamp::decode(last.to_be_bytes()), Err(Misfit::Unfit(_))));
        // Only infinity may have the value of infinity.
        let collides = i64::MAX - EPOCH_MICROS;
        assert!(matches!(Timestamp::decode(collides.to_be_bytes()), Err(Misfit::Unfit(_))));
        for late in [DAY_MICROS, LAST_TIME] {
            assert!(matches!(Time::decode(late.to_be_bytes()), Err(Misfit::Unfit(_))));
        }
        assert!(matches!(Time::decode((LAST_TIME + 1).to_be_bytes()), Err(Misfit::Foreign(_))));
        assert_eq!(Time::decode((DAY_MICROS - 1).to_be_bytes()), Ok(DAY_MICROS - 1));
        assert!(matches!(Time::decode((-1_i64).to_be_bytes()), Err(Misfit::Foreign(_))));
    }
}
