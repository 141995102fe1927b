//! Dates, times and timestamps: PostgreSQL counts from 2000-01-01, Arrow from
//! 1970-01-01.
//!
//! Infinity is the extreme value of the type in PostgreSQL and stays so in the
//! files, unless something else was asked for: DuckDB shows the positive one as
//! `infinity`, nobody takes it for a day of the calendar.

use std::marker::PhantomData;

use arrow::datatypes::{ArrowPrimitiveType, Date32Type, Time64MicrosecondType, TimestampMicrosecondType};

use super::fixed::{Decode, primitive};
use super::{Builder, Misfit};
use crate::message::setting::InfinityMode;

/// Days between the two epochs.
const EPOCH_DAYS: i32 = 10_957;
/// Microseconds between the two epochs.
const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * DAY_MICROS;
const DAY_MICROS: i64 = 86_400_000_000;

/// A builder of dates or timestamps.
pub(super) fn infinite<D: Decode<W>, const W: usize>(mode: InfinityMode) -> Box<dyn Builder> {
    match mode {
        InfinityMode::Max => primitive::<D, W>(),
        InfinityMode::Null => primitive::<Finite<D, false>, W>(),
        InfinityMode::Text => primitive::<Finite<D, true>, W>(),
    }
}

/// Values of `D` that are not infinite; the others do not fit, or are NULL.
struct Finite<D, const UNFIT: bool>(PhantomData<D>);

impl<D: Decode<W>, const W: usize, const UNFIT: bool> Decode<W> for Finite<D, UNFIT> {
    type Arrow = D::Arrow;
    const ZONE: Option<&'static str> = D::ZONE;

    #[inline]
    fn decode(bytes: [u8; W]) -> Result<<Self::Arrow as ArrowPrimitiveType>::Native, Misfit> {
        let [first, rest @ ..] = bytes.as_slice() else { return D::decode(bytes) };
        let infinite = match first {
            0x7f => rest.iter().all(|byte| *byte == 0xff),
            0x80 => rest.iter().all(|byte| *byte == 0),
            _ => false,
        };
        match infinite {
            false => D::decode(bytes),
            true if UNFIT => Err(Misfit::Unfit("a date or timestamp is infinite")),
            true => Err(Misfit::Absent),
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
            infinite @ (i32::MIN | i32::MAX) => Ok(infinite),
            days => match days.checked_add(EPOCH_DAYS) {
                Some(days) if days != i32::MAX => Ok(days),
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
        infinite @ (i64::MIN | i64::MAX) => Ok(infinite),
        micros => match micros.checked_add(EPOCH_MICROS) {
            Some(micros) if micros != i64::MAX => Ok(micros),
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
    fn infinity_stays_the_extreme() {
        for days in [i32::MIN, i32::MAX] {
            assert_eq!(Date::decode(days.to_be_bytes()), Ok(days));
        }
        for micros in [i64::MIN, i64::MAX] {
            assert_eq!(TimestampTz::decode(micros.to_be_bytes()), Ok(micros));
        }
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
        // Infinity's place belongs to infinity alone.
        let collides = i64::MAX - EPOCH_MICROS;
        assert!(matches!(Timestamp::decode(collides.to_be_bytes()), Err(Misfit::Unfit(_))));
        assert!(matches!(Time::decode(DAY_MICROS.to_be_bytes()), Err(Misfit::Unfit(_))));
        assert_eq!(Time::decode((DAY_MICROS - 1).to_be_bytes()), Ok(DAY_MICROS - 1));
        assert!(matches!(Time::decode((-1_i64).to_be_bytes()), Err(Misfit::Foreign(_))));
    }
}
