//! THE table: what each PostgreSQL type becomes, and how it is selected.
//!
//! One pure function from facts of the catalogue to a mapping. A type that it
//! does not know is exported as the server's text: no table fails for want of
//! a type. To teach it a new family, add a line to [`map`] and a decoder next
//! to the others in `column/`.

use serde::{Deserialize, Serialize};

use crate::message::setting::NumericMode;
use crate::plan::column::{ColumnType, Fetch};

/// Facts of one type, as `pg_type` and `pg_attribute` have them. They travel
/// as `SurveyColumn::type_facts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PgType {
    /// `pg_type.oid`.
    pub oid: u32,
    /// `format_type(oid, typmod)`: for people, and for types without a fixed oid.
    pub name: String,
    /// `typtype`: `b`ase, `c`omposite, `d`omain, `e`num, `p`seudo, `r`ange, `m`ultirange.
    pub typtype: char,
    /// `typcategory`: `A` for true arrays, `S` for strings.
    pub category: char,
    /// `atttypmod` of the column, `typtypmod` of a domain's base; -1 for none.
    #[serde(default = "no_typmod")]
    pub typmod: i32,
    /// Element type of an array (`typelem`, category `A` only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elem: Option<Box<PgType>>,
    /// Base type of a domain (`typbasetype`, with `typtypmod`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Box<PgType>>,
}

const fn no_typmod() -> i32 {
    -1
}

/// Oids of built-in types: fixed in `pg_type.dat`, the same in Greenplum.
pub mod oid {
    /// `bool`
    pub const BOOL: u32 = 16;
    /// `bytea`
    pub const BYTEA: u32 = 17;
    /// `name`
    pub const NAME: u32 = 19;
    /// `int8`
    pub const INT8: u32 = 20;
    /// `int2`
    pub const INT2: u32 = 21;
    /// `int4`
    pub const INT4: u32 = 23;
    /// `text`
    pub const TEXT: u32 = 25;
    /// `oid`
    pub const OID: u32 = 26;
    /// `json`
    pub const JSON: u32 = 114;
    /// `xml`
    pub const XML: u32 = 142;
    /// `float4`
    pub const FLOAT4: u32 = 700;
    /// `float8`
    pub const FLOAT8: u32 = 701;
    /// `bpchar`
    pub const BPCHAR: u32 = 1042;
    /// `varchar`
    pub const VARCHAR: u32 = 1043;
    /// `date`
    pub const DATE: u32 = 1082;
    /// `time`
    pub const TIME: u32 = 1083;
    /// `timestamp`
    pub const TIMESTAMP: u32 = 1114;
    /// `timestamptz`
    pub const TIMESTAMPTZ: u32 = 1184;
    /// `numeric`
    pub const NUMERIC: u32 = 1700;
    /// `uuid`
    pub const UUID: u32 = 2950;
    /// `jsonb`
    pub const JSONB: u32 = 3802;
}

/// What a column of this type becomes and how it is selected. `numeric` says
/// what becomes of numerics without a precision that fits; exact text without it.
#[must_use]
pub fn map(ty: &PgType, numeric: Option<NumericMode>) -> (ColumnType, Fetch) {
    let ty = ty.undomained();
    match native(ty, numeric) {
        Some(mapped) => (mapped, Fetch::Native),
        // Doubles travel as text as well: the client's parser rounds correctly.
        None if ty.oid == oid::NUMERIC && numeric == Some(NumericMode::Double) => {
            (ColumnType::Float64, Fetch::AsText)
        }
        None => (ColumnType::Text, Fetch::AsText),
    }
}

/// Kinds whose binary form the decoders read; `None`: the server's text.
fn native(ty: &PgType, numeric: Option<NumericMode>) -> Option<ColumnType> {
    Some(match ty.oid {
        oid::BOOL => ColumnType::Bool,
        oid::INT2 => ColumnType::Int16,
        oid::INT4 => ColumnType::Int32,
        oid::INT8 => ColumnType::Int64,
        oid::OID => ColumnType::UInt32,
        oid::FLOAT4 => ColumnType::Float32,
        oid::FLOAT8 => ColumnType::Float64,
        oid::NUMERIC => return decimal(ty.typmod, numeric),
        oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME | oid::XML => ColumnType::Text,
        oid::JSON | oid::JSONB => ColumnType::Json,
        oid::BYTEA => ColumnType::Bytes,
        oid::UUID => ColumnType::Uuid,
        oid::DATE => ColumnType::Date,
        oid::TIME => ColumnType::Time,
        oid::TIMESTAMP => ColumnType::Timestamp,
        oid::TIMESTAMPTZ => ColumnType::TimestampTz,
        _ if ty.typtype == 'e' || ty.is_citext() => ColumnType::Text,
        _ => return list(ty, numeric),
    })
}

/// Digits of the widest decimal. Beyond 38, pyarrow reads them exactly,
/// DuckDB 1.5 as doubles, and Polars 2.1 refuses the file.
const MAX_PRECISION: i32 = 76;

/// `numeric(p,s)`. A negative scale only widens what stands before the point,
/// a scale beyond the precision what stands after it.
fn decimal(typmod: i32, mode: Option<NumericMode>) -> Option<ColumnType> {
    if let Some((precision, scale)) = declared_numeric(typmod) {
        let digits = if scale < 0 { precision - scale } else { precision.max(scale) };
        if (1..=MAX_PRECISION).contains(&digits) {
            return Some(ColumnType::Decimal { precision: digits as u8, scale: scale.max(0) as i8 });
        }
    }
    match mode {
        Some(NumericMode::Decimal(precision, scale)) => Some(ColumnType::Decimal { precision, scale }),
        Some(NumericMode::Double | NumericMode::Text) | None => None,
    }
}

/// Precision and scale of a numeric's typmod. The scale has 11 bits and a sign
/// since PostgreSQL 15; older servers never set the bits above.
fn declared_numeric(typmod: i32) -> Option<(i32, i32)> {
    let packed = typmod.checked_sub(4).filter(|t| *t >= 0)?;
    Some(((packed >> 16) & 0xffff, ((packed & 0x7ff) ^ 1024) - 1024))
}

/// Arrays of what has a binary decoder. Elements carry the array's typmod.
fn list(ty: &PgType, numeric: Option<NumericMode>) -> Option<ColumnType> {
    let element = ty.elem.as_deref().filter(|_| ty.category == 'A')?;
    let mut inner = element.undomained().clone();
    if inner.typmod < 0 {
        inner.typmod = ty.typmod;
    }
    let inner = match native(&inner, numeric) {
        Some(inner) => inner,
        // The elements' oid tells the list decoder that they are numerics.
        None if element.oid == oid::NUMERIC => match numeric {
            Some(NumericMode::Double) => ColumnType::Float64,
            _ => ColumnType::Text,
        },
        None => return None,
    };
    Some(ColumnType::List(Box::new(inner)))
}

/// How a column can be the key of range chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeKey {
    /// Type to which bounds, as text, are cast.
    pub cast: &'static str,
    /// Whether the key is a number.
    pub numeric: bool,
}

/// Whether ranges of this type's values can be compared with text literals.
#[must_use]
pub fn range_key(ty: &PgType) -> Option<RangeKey> {
    let (cast, numeric) = match ty.undomained().oid {
        oid::INT2 => ("smallint", true),
        oid::INT4 => ("integer", true),
        oid::INT8 => ("bigint", true),
        oid::NUMERIC => ("numeric", true),
        oid::DATE => ("date", false),
        oid::TIMESTAMP => ("timestamp without time zone", false),
        oid::TIMESTAMPTZ => ("timestamp with time zone", false),
        oid::UUID => ("uuid", false),
        oid::TEXT => ("text", false),
        oid::VARCHAR => ("character varying", false),
        // Plain `character` would cast to `character(1)`.
        oid::BPCHAR => ("bpchar", false),
        _ => return None,
    };
    Some(RangeKey { cast, numeric })
}

impl PgType {
    /// The base of a domain of a domain of …; the type itself if it is none.
    #[must_use]
    pub fn undomained(&self) -> &Self {
        let mut ty = self;
        while let (Some(base), 'd') = (ty.base.as_deref(), ty.typtype) {
            ty = base;
        }
        ty
    }

    /// An extension's type has another oid in each database; its binary form is text's.
    fn is_citext(&self) -> bool {
        self.category == 'S' && self.name.rsplit('.').next().is_some_and(|n| n.trim_matches('"') == "citext")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(oid: u32, name: &str, typmod: i32) -> PgType {
        PgType { oid, name: name.into(), typtype: 'b', category: 'U', typmod, elem: None, base: None }
    }

    fn numeric(precision: i32, scale: i32) -> PgType {
        base(oid::NUMERIC, "numeric", ((precision << 16) | (scale & 0x7ff)) + 4)
    }

    fn array(elem: PgType) -> PgType {
        PgType {
            category: 'A',
            typmod: elem.typmod,
            elem: Some(Box::new(PgType { typmod: -1, ..elem })),
            ..base(1, "array", -1)
        }
    }

    fn domain(over: PgType) -> PgType {
        PgType { typtype: 'd', base: Some(Box::new(over)), ..base(70_000, "public.d", -1) }
    }

    fn decimal(precision: u8, scale: i8) -> ColumnType {
        ColumnType::Decimal { precision, scale }
    }

    #[test]
    fn numerics_keep_every_digit() {
        let native = |ty: &PgType| map(ty, None);
        assert_eq!(native(&numeric(12, 2)), (decimal(12, 2), Fetch::Native));
        assert_eq!(native(&numeric(5, -2)), (decimal(7, 0), Fetch::Native));
        assert_eq!(native(&numeric(3, 5)), (decimal(5, 5), Fetch::Native));
        assert_eq!(native(&numeric(76, 10)), (decimal(76, 10), Fetch::Native));
        assert_eq!(native(&numeric(77, 10)), (ColumnType::Text, Fetch::AsText));
        assert_eq!(native(&base(oid::NUMERIC, "numeric", -1)), (ColumnType::Text, Fetch::AsText));
    }

    #[test]
    fn the_numeric_mode_is_for_numerics_without_a_precision_that_fits() {
        let mode = |ty: &PgType, mode| map(ty, Some(mode));
        let free = base(oid::NUMERIC, "numeric", -1);
        assert_eq!(mode(&free, NumericMode::Double), (ColumnType::Float64, Fetch::AsText));
        assert_eq!(mode(&free, NumericMode::Decimal(38, 9)), (decimal(38, 9), Fetch::Native));
        assert_eq!(mode(&numeric(12, 2), NumericMode::Double), (decimal(12, 2), Fetch::Native));
        let list = |ty| (ColumnType::List(Box::new(ty)), Fetch::Native);
        assert_eq!(mode(&array(free.clone()), NumericMode::Double), list(ColumnType::Float64));
        assert_eq!(map(&array(free), None), list(ColumnType::Text));
    }

    #[test]
    fn arrays_and_domains_follow_what_they_are_made_of() {
        let list = |ty| (ColumnType::List(Box::new(ty)), Fetch::Native);
        assert_eq!(map(&array(numeric(12, 2)), None), list(decimal(12, 2)));
        assert_eq!(map(&domain(numeric(12, 2)), None), (decimal(12, 2), Fetch::Native));
        assert_eq!(
            map(&domain(domain(base(oid::DATE, "date", -1))), None),
            (ColumnType::Date, Fetch::Native)
        );
        assert_eq!(map(&array(domain(base(oid::INT4, "integer", -1))), None), list(ColumnType::Int32));
        assert_eq!(map(&domain(array(base(oid::UUID, "uuid", -1))), None), list(ColumnType::Uuid));
        let text = (ColumnType::Text, Fetch::AsText);
        assert_eq!(map(&array(base(1186, "interval", -1)), None), text);
        assert_eq!(map(&base(22, "int2vector", -1), None), text);
        assert_eq!(map(&base(999_999, "box3d", -1), None), text);
    }

    #[test]
    fn enums_and_citext_travel_as_they_are() {
        let text = (ColumnType::Text, Fetch::Native);
        let mood = PgType { typtype: 'e', category: 'E', ..base(80_000, "public.mood", -1) };
        let citext = PgType { category: 'S', ..base(80_001, "ext.citext", -1) };
        assert_eq!(map(&mood, None), text);
        assert_eq!(map(&citext, None), text);
    }

    #[test]
    fn facts_survive_their_journey_as_json() {
        let ty = domain(array(numeric(12, 2)));
        let json = serde_json::to_value(&ty).expect("serializes");
        assert_eq!(serde_json::from_value::<PgType>(json).expect("reads back"), ty);
    }

    #[test]
    fn keys_of_ranges_name_their_cast() {
        let key = |ty: &PgType| range_key(ty).map(|k| (k.cast, k.numeric));
        assert_eq!(key(&base(oid::INT8, "bigint", -1)), Some(("bigint", true)));
        assert_eq!(key(&base(oid::BPCHAR, "character(3)", 7)), Some(("bpchar", false)));
        assert_eq!(key(&domain(base(oid::UUID, "uuid", -1))), Some(("uuid", false)));
        assert_eq!(key(&base(oid::BYTEA, "bytea", -1)), None);
    }
}
