//! Dates, times and timestamps: PostgreSQL counts from 2000-01-01, Arrow from
//! 1970-01-01.
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

/// Which infinity a value is, if any. PostgreSQL uses the lowest and the highest value of each type.
#[inline]
fn infinity(bytes: &[u8]) -> Option<Infinity> {
    match bytes {
        [0x7f, rest @ ..] if rest.iter().all(|byte| *byte == 0xff) => Some(Infinity::Positive),
        [0x80, rest @ ..] if rest.iter().all(|byte| *byte == 0) => Some(Infinity::Negative),
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

/// `time`.
pub(super) struct Time;

impl Decode<8> for Time {
    type Arrow = Time64MicrosecondType;

    #[inline]
    fn decode(bytes: [u8; 8]) -> Result<i64, Misfit> {
        match i64::from_be_bytes(bytes) {
            micros @ 0..DAY_MICROS => Ok(micros),
            DAY_MICROS => Err(Misfit::Unfit("the time 24:00:00 is no time of a day")),
            _ => Err(Misfit::Foreign("a time is outside the day")),
        }
    }
}

#[inline]
fn timestamp(bytes: [u8; 8]) -> Result<i64, Misfit> {
    match i64::from_be_bytes(bytes) {
        i64::MIN => Ok(-i64::MAX),
        i64::MAX => Ok(i64::MAX),
        micros => match micros.checked_add(EPOCH_MICROS) {
            Some(micros) if micros != i64::MAX && micros != -i64::MAX => Ok(micros),
            _ => Err(Misfit::Unfit("a timestamp is beyond the range of 64-bit microseconds")),
        },
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
        assert!(matches!(Time::decode(DAY_MICROS.to_be_bytes()), Err(Misfit::Unfit(_))));
        assert_eq!(Time::decode((DAY_MICROS - 1).to_be_bytes()), Ok(DAY_MICROS - 1));
        assert!(matches!(Time::decode((-1_i64).to_be_bytes()), Err(Misfit::Foreign(_))));
    }
}
