//! Shapes of PostGIS: converts EWKB, which is their binary form, to ISO WKB. The result is the same as that
//! of `st_asbinary`, except that a collection of empty shapes keeps these shapes.
//!
//! In EWKB, flags beside the kind of a shape say whether it has Z, M and a spatial reference. The reference
//! follows the kind. ISO WKB adds 1000 for Z and 2000 for M to the kind, and has no reference. Everything
//! else is the same.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, NullBufferBuilder};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::error::ArrowError;

use super::{Builder, Faults, Fields, Misfit};

const FOREIGN: Misfit = Misfit::Foreign("a field is not the binary form of a shape");
const UNKNOWN: Misfit = Misfit::Unfit("a shape is of a kind that has no known binary form");

const HAS_Z: u32 = 0x8000_0000;
const HAS_M: u32 = 0x4000_0000;
const HAS_REFERENCE: u32 = 0x2000_0000;

struct Shapes {
    values: Vec<u8>,
    offsets: Vec<i32>,
    validity: NullBufferBuilder,
    faults: Faults,
}

/// A builder of ISO WKB.
pub(super) fn iso() -> Box<dyn Builder> {
    Box::new(Shapes {
        values: Vec::new(),
        offsets: vec![0],
        validity: NullBufferBuilder::new(0),
        faults: Faults::default(),
    })
}

impl Builder for Shapes {
    fn append(&mut self, fields: Fields<'_>) {
        for field in fields.iter() {
            let begin = self.values.len();
            let taken = match field.map(|field| Shape { rest: field, made: &mut self.values }.translate()) {
                Some(Ok(())) => true,
                Some(Err(misfit)) => {
                    self.faults.note(misfit);
                    self.values.truncate(begin);
                    false
                }
                None => false,
            };
            self.validity.append(taken);
            // If an offset overflows i32, it gets smaller than the one before, and `finish` refuses that.
            self.offsets.push(self.values.len() as i32);
        }
    }

    fn is_unfit(&self) -> bool {
        self.faults.unfit.is_some()
    }

    fn finish(&mut self) -> Result<(ArrayRef, Faults), ArrowError> {
        let bytes = self.values.len();
        if i32::try_from(bytes).is_err() {
            return Err(ArrowError::OffsetOverflowError(bytes));
        }
        let values = Buffer::from_vec(std::mem::take(&mut self.values));
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let array = BinaryArray::try_new(offsets, values, self.validity.finish())?;
        Ok((Arc::new(array), std::mem::take(&mut self.faults)))
    }
}

/// The rest of a shape's EWKB, and the ISO WKB made so far.
struct Shape<'a> {
    rest: &'a [u8],
    made: &'a mut Vec<u8>,
}

impl Shape<'_> {
    /// Converts a shape with its inner shapes. The bytes of inner shapes follow one another at every depth,
    /// so it is enough to count how many shapes are left.
    fn translate(mut self) -> Result<(), Misfit> {
        let mut left = 1_u64;
        while left > 0 {
            left = left - 1 + self.one()?;
        }
        if self.rest.is_empty() { Ok(()) } else { Err(FOREIGN) }
    }

    /// Converts one shape without its inner shapes. Returns the number of its inner shapes.
    fn one(&mut self) -> Result<u64, Misfit> {
        let (order, rest) = self.rest.split_first().ok_or(FOREIGN)?;
        let is_little_endian = match order {
            0 => false,
            1 => true,
            _ => return Err(FOREIGN),
        };
        self.rest = rest;
        let flags = self.word(is_little_endian)?;
        if flags & HAS_REFERENCE != 0 {
            self.word(is_little_endian)?;
        }
        let (z, m) = (u32::from(flags & HAS_Z != 0), u32::from(flags & HAS_M != 0));
        let kind = flags & !(HAS_Z | HAS_M | HAS_REFERENCE);
        self.made.push(u8::from(is_little_endian));
        self.write(kind.wrapping_add(1000 * z + 2000 * m), is_little_endian);
        let point = 8 * (2 + u64::from(z + m));
        match kind {
            // A point, also an empty one.
            1 => self.copy(point)?,
            // Lines and arcs.
            2 | 8 => {
                let points = self.count(is_little_endian)?;
                self.copy(points * point)?;
            }
            // Rings of polygons and triangles.
            3 | 17 => {
                for _ in 0..self.count(is_little_endian)? {
                    let points = self.count(is_little_endian)?;
                    self.copy(points * point)?;
                }
            }
            // Kinds that contain points, lines, polygons, curves, surfaces or anything.
            4..=7 | 9..=12 | 15 | 16 => return self.count(is_little_endian),
            _ => return Err(UNKNOWN),
        }
        Ok(0)
    }

    fn word(&mut self, is_little_endian: bool) -> Result<u32, Misfit> {
        let (word, rest) = self.rest.split_first_chunk::<4>().ok_or(FOREIGN)?;
        self.rest = rest;
        Ok(if is_little_endian { u32::from_le_bytes(*word) } else { u32::from_be_bytes(*word) })
    }

    fn write(&mut self, word: u32, is_little_endian: bool) {
        self.made.extend(if is_little_endian { word.to_le_bytes() } else { word.to_be_bytes() });
    }

    /// Copies a number of points, rings or shapes.
    fn count(&mut self, is_little_endian: bool) -> Result<u64, Misfit> {
        let count = self.word(is_little_endian)?;
        self.write(count, is_little_endian);
        Ok(count.into())
    }

    fn copy(&mut self, bytes: u64) -> Result<(), Misfit> {
        let bytes = usize::try_from(bytes).map_err(|_| FOREIGN)?;
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(FOREIGN)?;
        self.made.extend_from_slice(taken);
        self.rest = rest;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
        digits.chunks_exact(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
    }

    fn translated(ewkb: &[u8]) -> Result<Vec<u8>, Misfit> {
        let mut made = Vec::new();
        Shape { rest: ewkb, made: &mut made }.translate().map(|()| made)
    }

    /// EWKB and ISO WKB of the same shapes. `tests/main/values/shapes.rs` compares all kinds with a server.
    const PAIRS: [(&str, &str); 5] = [
        // TRIANGLE EMPTY, POLYGON M EMPTY
        ("0111000020e610000000000000", "011100000000000000"),
        ("0103000060e610000000000000", "01d307000000000000"),
        // POINT M EMPTY, big-endian
        (
            "0060000001000010e67ff80000000000007ff80000000000007ff8000000000000",
            "00000007d17ff80000000000007ff80000000000007ff8000000000000",
        ),
        // LINESTRING ZM(0 0 1 2,5 5 1 2)
        (
            "01020000e0e6100000 02000000 0000000000000000 0000000000000000 000000000000f03f 0000000000000040 \
             0000000000001440 0000000000001440 000000000000f03f 0000000000000040",
            "01ba0b0000 02000000 0000000000000000 0000000000000000 000000000000f03f 0000000000000040 \
             0000000000001440 0000000000001440 000000000000f03f 0000000000000040",
        ),
        // GEOMETRYCOLLECTION(GEOMETRYCOLLECTION(GEOMETRYCOLLECTION EMPTY,POINT EMPTY),
        //                    POLYHEDRALSURFACE(((0 0,0 1,1 1,0 0))))
        (
            "010700002001000000 02000000 0107000000 02000000 0107000000 00000000 0101000000 000000000000f87f \
             000000000000f87f 010f000000 01000000 0103000000 01000000 04000000 0000000000000000 0000000000000000 \
             0000000000000000 000000000000f03f 000000000000f03f 000000000000f03f 0000000000000000 0000000000000000",
            "0107000000 02000000 0107000000 02000000 0107000000 00000000 0101000000 000000000000f87f \
             000000000000f87f 010f000000 01000000 0103000000 01000000 04000000 0000000000000000 0000000000000000 \
             0000000000000000 000000000000f03f 000000000000f03f 000000000000f03f 0000000000000000 0000000000000000",
        ),
    ];

    #[test]
    fn the_reference_goes_and_flags_become_thousands_at_every_depth() {
        for (ewkb, wkb) in PAIRS {
            assert_eq!(translated(&bytes(ewkb)), Ok(bytes(wkb)), "{ewkb}");
        }
    }

    #[test]
    fn what_is_cut_or_has_more_is_no_shape() {
        for (ewkb, _) in PAIRS {
            let whole = bytes(ewkb);
            for end in 0..whole.len() {
                assert_eq!(translated(&whole[..end]), Err(FOREIGN), "{end} bytes of {ewkb}");
            }
            assert_eq!(translated(&[whole, vec![0]].concat()), Err(FOREIGN));
        }
        // A claim of four billion inner shapes, without any bytes.
        assert_eq!(translated(&bytes("0107000000 ffffffff")), Err(FOREIGN));
        assert_eq!(translated(&bytes("0102000000 ffffffff")), Err(FOREIGN));
        assert_eq!(translated(&bytes("0163000000 00000000")), Err(UNKNOWN));
    }
}
