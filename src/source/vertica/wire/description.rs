//! The columns of a result.
//!
//! Source: `messages/backend_messages/row_description.py` and `datatypes.py` of `vertica-python`. The layout
//! differs from PostgreSQL's: a pool of user-defined types comes first, table oids have eight bytes and are
//! followed by names, and what a complex column consists of stands in the list as further fields, which have
//! no place in the rows.

use std::collections::HashSet;

use super::backend::{Malformed, Reader};

/// Oids of the types that do not depend on a database.
pub(in super::super) mod oid {
    pub(in super::super::super) const UNKNOWN: u32 = 4;
    pub(in super::super::super) const BOOL: u32 = 5;
    pub(in super::super::super) const INT8: u32 = 6;
    pub(in super::super::super) const FLOAT8: u32 = 7;
    pub(in super::super::super) const CHAR: u32 = 8;
    pub(in super::super::super) const VARCHAR: u32 = 9;
    pub(in super::super::super) const DATE: u32 = 10;
    pub(in super::super::super) const TIME: u32 = 11;
    pub(in super::super::super) const TIMESTAMP: u32 = 12;
    pub(in super::super::super) const TIMESTAMPTZ: u32 = 13;
    pub(in super::super::super) const INTERVAL: u32 = 14;
    pub(in super::super::super) const TIMETZ: u32 = 15;
    pub(in super::super::super) const NUMERIC: u32 = 16;
    pub(in super::super::super) const VARBINARY: u32 = 17;
    pub(in super::super::super) const UUID: u32 = 20;
    pub(in super::super::super) const INTERVAL_YM: u32 = 114;
    pub(in super::super::super) const LONG_VARCHAR: u32 = 115;
    pub(in super::super::super) const LONG_VARBINARY: u32 = 116;
    pub(in super::super::super) const BINARY: u32 = 117;
    pub(in super::super::super) const ROW: u32 = 300;
    pub(in super::super::super) const ARRAY: u32 = 301;
    pub(in super::super::super) const MAP: u32 = 302;
    /// One-dimensional arrays.
    pub(in super::super::super) const ARRAYS: std::ops::RangeInclusive<u32> = 1505..=1522;
    /// Sets.
    pub(in super::super::super) const SETS: std::ops::RangeInclusive<u32> = 2705..=2722;

    /// The type of the elements of a one-dimensional array or a set. Their precision and scale are those of the
    /// whole column.
    pub(in super::super::super) fn element(oid: u32) -> Option<u32> {
        let place = match oid {
            oid if ARRAYS.contains(&oid) => oid - 1500,
            oid if SETS.contains(&oid) => oid - 2700,
            _ => return None,
        };
        match place {
            BOOL..=VARBINARY | UUID => Some(place),
            18 => Some(LONG_VARBINARY),
            19 => Some(LONG_VARCHAR),
            21 => Some(INTERVAL_YM),
            22 => Some(BINARY),
            _ => None,
        }
    }
}

/// The columns of a result, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Description {
    pub(in super::super) columns: Vec<Described>,
}

/// One column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Described {
    pub(in super::super) name: String,
    /// The type; the base of a user-defined type.
    pub(in super::super) oid: u32,
    pub(in super::super) typmod: i32,
    /// Whether values are binary.
    pub(in super::super) binary: bool,
}

impl Described {
    /// Precision and scale of a numeric.
    pub(in super::super) fn precision_and_scale(&self) -> (u32, u32) {
        match self.typmod {
            -1 => (1024, 15),
            typmod => {
                let packed = typmod.wrapping_sub(4) as u32;
                (packed >> 16, packed & 0xff)
            }
        }
    }

    /// Whether the bytes of a value are the same in text and in binary transfer.
    fn is_alike(&self) -> bool {
        matches!(self.oid, oid::UNKNOWN | oid::CHAR | oid::VARCHAR | oid::LONG_VARCHAR)
            || matches!(self.oid, oid::ROW | oid::ARRAY | oid::MAP)
            || oid::ARRAYS.contains(&self.oid)
            || oid::SETS.contains(&self.oid)
    }
}

impl Description {
    /// Reads the body of a RowDescription. `complex`: whether it tells what complex types consist of.
    pub(super) fn parse(body: &[u8], complex: bool) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let count = reader.u16()?;
        // A tuple of COPY has a signed number of fields, and -1 means the end.
        if i16::try_from(count).is_err() {
            return Err(Malformed("a result has more columns than a row can have"));
        }
        if count == 0 {
            return Ok(Self::default());
        }
        let mut user_types = Vec::new();
        for _ in 0..reader.u32()? {
            user_types.push(reader.u32()?);
            let _name = reader.text()?;
        }
        let mut columns = Vec::new();
        let mut known = HashSet::new();
        for _ in 0..count {
            let field = Field::read(&mut reader, complex, &user_types)?;
            if field.parent != 0 && !known.contains(&(field.table, field.parent)) {
                return Err(Malformed("a part of a column belongs to no column"));
            }
            known.insert((field.table, field.attribute));
            if field.parent == 0 {
                columns.push(field.column);
            }
        }
        Ok(Self { columns })
    }

    /// A column whose values are texts that we cannot read.
    pub(super) fn text_only(&self) -> Option<&Described> {
        self.columns.iter().find(|column| !column.binary && !column.is_alike())
    }
}

/// A field of a RowDescription.
struct Field {
    table: u64,
    attribute: u16,
    parent: u16,
    column: Described,
}

impl Field {
    fn read(reader: &mut Reader<'_>, complex: bool, user_types: &[u32]) -> Result<Self, Malformed> {
        let name = reader.text()?.to_owned();
        let table = reader.u64()?;
        if table != 0 {
            let (_schema, _table) = (reader.text()?, reader.text()?);
        }
        let attribute = reader.u16()?;
        let parent = if complex { reader.u16()? } else { 0 };
        let is_user_type = reader.u8()? == 1;
        let ty = reader.u32()?;
        let _size = reader.u16()?;
        let _nullable = reader.u16()?;
        let _identity = reader.u16()?;
        let typmod = reader.i32()?;
        let binary = reader.u16()? == 1;
        let oid = if is_user_type {
            let base = usize::try_from(ty).ok().and_then(|index| user_types.get(index));
            *base.ok_or(Malformed("a column has a type that the server does not describe"))?
        } else {
            ty
        };
        let column = Described { name, oid, typmod, binary };
        Ok(Self { table, attribute, parent, column })
    }
}
