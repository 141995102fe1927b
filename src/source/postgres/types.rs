//! The table that maps each PostgreSQL type, and says how the type is selected.
//!
//! The mapping is one pure function of facts from the catalogue. An unknown type is exported as the server's
//! text, so that no table fails because of a type. To add a family of types, add a line to [`native`] and a
//! builder next to the others in `decode/column/`.

use super::reading::Fetch;
use crate::message::setting::NumericMode;
use crate::relation::column::Geometry;
use crate::source::decode::{Form, FormAttribute, Shape};

/// Facts of one type from `pg_type` and `pg_attribute`. The survey passes them on as `SurveyColumn::facts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PgType {
    /// `pg_type.oid`.
    pub(super) oid: u32,
    /// `format_type(oid, typmod)`: for people, and for types without a fixed oid.
    pub(super) name: String,
    /// `typtype`: `b`ase, `c`omposite, `d`omain, `e`num, `p`seudo, `r`ange, `m`ultirange.
    pub(super) typtype: char,
    /// `typcategory`: `A` for true arrays, `S` for strings.
    pub(super) category: char,
    /// `atttypmod` of the column, `typtypmod` of a domain's base; -1 for none.
    pub(super) typmod: i32,
    /// Element type of an array (`typelem`, category `A` only), subtype of a range, or range of a multirange.
    pub(super) elem: Option<Box<PgType>>,
    /// Base type of a domain (`typbasetype`, with `typtypmod`).
    pub(super) base: Option<Box<PgType>>,
    /// Attributes of a composite, without dropped ones.
    pub(super) attributes: Vec<Attribute>,
    /// `extension.type` of a type that an extension owns, because its oid differs between databases.
    pub(super) extension: Option<String>,
    /// Digits after the decimal point of `money`, which depend on the server's locale.
    pub(super) money_scale: Option<u8>,
    /// Whether the column is selected as it is stored wherever its bytes can be read: a COPY of a Greenplum
    /// table, which the segments format, takes no expressions.
    pub(super) as_stored: bool,
    /// Dimensions that the column declares, if it is an array. They bind no value.
    pub(super) dimensions: u8,
    /// Schema and name of the "greater" operator of the type's default order, if that operator is not built
    /// in.
    pub(super) greater: Option<(String, String)>,
}

/// An attribute of a composite type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attribute {
    /// Name of the attribute.
    pub(super) name: String,
    /// Type of the attribute.
    pub(super) ty: PgType,
}

/// Oids of built-in types. They are fixed in `pg_type.dat`, and the same in Greenplum.
pub(super) mod oid {
    pub(in super::super) const INT2VECTOR: u32 = 22;
    pub(in super::super) const OIDVECTOR: u32 = 30;
    pub(in super::super) const POINT: u32 = 600;
    pub(in super::super) const MONEY: u32 = 790;
    pub(in super::super) const INTERVAL: u32 = 1186;
    pub(in super::super) const BOOL: u32 = 16;
    pub(in super::super) const BYTEA: u32 = 17;
    pub(in super::super) const NAME: u32 = 19;
    pub(in super::super) const INT8: u32 = 20;
    pub(in super::super) const INT2: u32 = 21;
    pub(in super::super) const INT4: u32 = 23;
    pub(in super::super) const TEXT: u32 = 25;
    pub(in super::super) const OID: u32 = 26;
    pub(in super::super) const JSON: u32 = 114;
    pub(in super::super) const XML: u32 = 142;
    pub(in super::super) const FLOAT4: u32 = 700;
    pub(in super::super) const FLOAT8: u32 = 701;
    pub(in super::super) const BPCHAR: u32 = 1042;
    pub(in super::super) const VARCHAR: u32 = 1043;
    pub(in super::super) const DATE: u32 = 1082;
    pub(in super::super) const TIME: u32 = 1083;
    pub(in super::super) const TIMESTAMP: u32 = 1114;
    pub(in super::super) const TIMESTAMPTZ: u32 = 1184;
    pub(in super::super) const NUMERIC: u32 = 1700;
    pub(in super::super) const UUID: u32 = 2950;
    pub(in super::super) const JSONB: u32 = 3802;
}

/// Maps a type to the form of its values and the way to select it. `numeric` says how to export numerics
/// whose precision does not fit a decimal; without it they are exact texts.
#[must_use]
pub(super) fn map(ty: &PgType, numeric: Option<NumericMode>) -> (Form, Fetch) {
    let as_stored = ty.as_stored;
    let ty = ty.undomained();
    match native(ty, numeric) {
        Some(form @ (Form::NumericText | Form::NumericDouble)) if as_stored => (form, Fetch::Native),
        Some(Form::NumericText) => (Form::Text, Fetch::AsText),
        // Doubles of numerics are sent as text too, because the client's parser rounds correctly.
        Some(Form::NumericDouble) => (Form::DoubleFromText, Fetch::AsText),
        Some(mapped) => (mapped, Fetch::Native),
        None => match with_text(ty, numeric) {
            Form::SourceText => (Form::Text, Fetch::AsText),
            mapped => (mapped, Fetch::Parts),
        },
    }
}

/// An array of several dimensions, if its elements have a form that can be read. Otherwise the mapping stays as
/// it is.
#[must_use]
pub(super) fn nested((form, fetch): (Form, Fetch), dimensions: u8, guessed: bool) -> (Form, Fetch) {
    match form {
        Form::List(element) if fetch == Fetch::Native => {
            (Form::Nested { element, dimensions, guessed }, fetch)
        }
        form => (form, fetch),
    }
}

/// A text column that is exported as the server's bytes; `None` if it is not text.
#[must_use]
pub(super) fn map_bytes(ty: &PgType) -> Option<(Form, Fetch)> {
    let text = matches!(native(ty.undomained(), None)?, Form::Text) || ty.undomained().oid == oid::JSON;
    text.then_some((Form::Bytes, Fetch::AsBytes))
}

/// Types whose whole binary form the decoders can read; `None` if some value inside must be the server's
/// text.
fn native(ty: &PgType, numeric: Option<NumericMode>) -> Option<Form> {
    Some(match ty.oid {
        oid::BOOL => Form::Bool,
        oid::INT2 => Form::Int16,
        oid::INT4 => Form::Int32,
        oid::INT8 => Form::Int64,
        oid::OID => Form::UInt32,
        oid::FLOAT4 => Form::Float32,
        oid::FLOAT8 => Form::Float64,
        oid::NUMERIC => decimal(ty.typmod, numeric),
        oid::MONEY => Form::Money { scale: ty.money_scale? },
        oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME | oid::XML => Form::Text,
        oid::JSON | oid::JSONB => Form::Json,
        oid::BYTEA => Form::Bytes,
        oid::UUID => Form::Uuid,
        oid::DATE => Form::Date,
        oid::TIME => Form::Time,
        oid::TIMESTAMP => Form::Timestamp,
        oid::TIMESTAMPTZ => Form::TimestampTz,
        oid::INTERVAL => Form::Interval,
        oid::POINT => Form::Point,
        _ => match (ty.typtype, ty.extension.as_deref()) {
            ('e', _) => Form::Text,
            ('r', _) => Form::Range(bound(ty, numeric)?),
            ('m', _) => Form::Multirange(bound(ty.elem.as_deref()?, numeric)?),
            ('c', _) => composite(ty, |attribute| native(attribute, numeric))?,
            (_, Some("citext.citext")) => Form::Text,
            (_, Some("hstore.hstore")) => Form::Map,
            (_, Some("vector.vector")) => vector(ty, false),
            (_, Some("vector.halfvec")) => vector(ty, true),
            (_, Some("postgis.geometry")) => geometry(ty, false),
            (_, Some("postgis.geography")) => geometry(ty, true),
            _ => Form::List(Box::new(native(&ty.element()?, numeric).filter(|e| !has_shape(e))?)),
        },
    })
}

/// Like `native`, but uses the server's text where no binary form can be read: for the whole value, for
/// attributes of composites, or for elements of arrays on the top level or in a composite.
fn with_text(ty: &PgType, numeric: Option<NumericMode>) -> Form {
    if let Some(mapped) = native(ty, numeric) {
        return mapped;
    }
    if let Some(mapped) = composite(ty, |attribute| Some(with_text(attribute, numeric))) {
        return mapped;
    }
    match ty.element() {
        Some(_) => Form::List(Box::new(Form::SourceText)),
        None => Form::SourceText,
    }
}

/// Whether the form contains a shape. Shapes within arrays are the server's text.
fn has_shape(ty: &Form) -> bool {
    match ty {
        Form::Geometry(_) => true,
        Form::Struct(attributes) => attributes.iter().any(|attribute| has_shape(&attribute.form)),
        _ => false,
    }
}

/// Maximum precision of a decimal. The table in the README lists the readers that support more than 38
/// digits.
const MAX_PRECISION: i32 = 76;

/// `numeric(p,s)`. A negative scale allows more digits before the decimal point, a scale beyond the precision
/// allows more digits after it.
fn decimal(typmod: i32, mode: Option<NumericMode>) -> Form {
    if let Some((precision, scale)) = declared_numeric(typmod) {
        let digits = if scale < 0 { precision - scale } else { precision.max(scale) };
        if (1..=MAX_PRECISION).contains(&digits) {
            return Form::Decimal { precision: digits as u8, scale: scale.max(0) as i8 };
        }
    }
    match mode {
        Some(NumericMode::Decimal(precision, scale)) => Form::Decimal { precision, scale },
        Some(NumericMode::Double) => Form::NumericDouble,
        Some(NumericMode::Text) | None => Form::NumericText,
    }
}

/// Precision and scale from a numeric's typmod. Since PostgreSQL 15 the scale has 11 bits with a sign. Older
/// servers never set the bits above.
fn declared_numeric(typmod: i32) -> Option<(i32, i32)> {
    let packed = typmod.checked_sub(4).filter(|t| *t >= 0)?;
    Some(((packed >> 16) & 0xffff, ((packed & 0x7ff) ^ 1024) - 1024))
}

/// The form of a range's bounds.
fn bound(range: &PgType, numeric: Option<NumericMode>) -> Option<Box<Form>> {
    native(range.elem.as_deref()?.undomained(), numeric).map(Box::new)
}

/// A composite whose attributes are mapped by `map`. `None` if the type is not a composite, or has no
/// attribute, because Parquet has no empty structs.
fn composite(ty: &PgType, map: impl Fn(&PgType) -> Option<Form>) -> Option<Form> {
    if ty.typtype != 'c' || ty.attributes.is_empty() {
        return None;
    }
    let attribute =
        |a: &Attribute| Some(FormAttribute { name: a.name.clone(), form: map(a.ty.undomained())? });
    ty.attributes.iter().map(attribute).collect::<Option<_>>().map(Form::Struct)
}

/// Vectors of pgvector. Their typmod is their length.
fn vector(ty: &PgType, half: bool) -> Form {
    Form::Vector { length: u16::try_from(ty.typmod).ok().filter(|length| *length > 0), half }
}

/// PostGIS's kinds of shapes that GeoParquet supports, by their number. Collections are left out, because
/// they may contain other kinds.
const SHAPES: [&str; 7] =
    ["", "Point", "LineString", "Polygon", "MultiPoint", "MultiLineString", "MultiPolygon"];

/// PostGIS's shapes. Their binary form is EWKB. Their typmod has the spatial reference in 21 signed bits from
/// bit 8, the kind in 6 bits from bit 2, and one bit each for Z and M; see
/// <https://github.com/postgis/postgis/blob/stable-3.3/liblwgeom/liblwgeom.h.in> (`TYPMOD_GET_SRID`).
fn geometry(ty: &PgType, geodesic: bool) -> Form {
    let declared = |bits: i32| if ty.typmod < 0 { 0 } else { bits };
    let srid = declared(((ty.typmod & 0x0fff_ff00) - (ty.typmod & 0x1000_0000)) >> 8);
    let (shape, z, m) = (declared((ty.typmod >> 2) & 0x3f), ty.typmod & 2 != 0, ty.typmod & 1 != 0);
    // GeoParquet does not support M.
    let kind = SHAPES.get(shape as usize).filter(|kind| !kind.is_empty() && !m);
    Form::Geometry(Shape {
        schema: None,
        declared: Geometry {
            srid: u32::try_from(srid).ok().filter(|srid| *srid > 0),
            kind: kind.map(|kind| format!("{kind}{}", if z { " Z" } else { "" })),
            geodesic,
        },
    })
}

/// How a column can be the key of range chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RangeKey {
    /// The type that bounds, stored as text, are cast to.
    pub(super) cast: &'static str,
    /// Whether the key is a number.
    pub(super) numeric: bool,
}

/// How a column of this type can be the key of ranges. `None` if its values cannot be compared with text
/// literals.
#[must_use]
pub(super) fn range_key(ty: &PgType) -> Option<RangeKey> {
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
        // `character` would mean `character(1)`.
        oid::BPCHAR => ("bpchar", false),
        _ => return None,
    };
    Some(RangeKey { cast, numeric })
}

/// Whether equal values have one text, which is the value.
#[must_use]
pub(super) fn is_canonical(ty: &PgType) -> bool {
    let ty = ty.undomained();
    let is_built_in = matches!(
        ty.oid,
        oid::BOOL
            | oid::INT2
            | oid::INT4
            | oid::INT8
            | oid::OID
            | oid::TEXT
            | oid::VARCHAR
            | oid::BPCHAR
            | oid::NAME
            | oid::DATE
            | oid::UUID
    );
    is_built_in || ty.typtype == 'e'
}

impl PgType {
    /// The base type of a domain, also of nested domains; any other type itself.
    #[must_use]
    pub(super) fn undomained(&self) -> &Self {
        let mut ty = self;
        while let (Some(base), 'd') = (ty.base.as_deref(), ty.typtype) {
            ty = base;
        }
        ty
    }

    /// The element type of a true array, without its domain. The elements have the array's typmod.
    /// `oidvector` and similar types are not lists, because their index always begins at 0.
    fn element(&self) -> Option<Self> {
        let element = self.elem.as_deref().filter(|_| self.category == 'A')?;
        if matches!(self.oid, oid::INT2VECTOR | oid::OIDVECTOR) {
            return None;
        }
        let mut element = element.undomained().clone();
        if element.typmod < 0 {
            element.typmod = self.typmod;
        }
        Some(element)
    }

    /// A base type that contains no other types.
    #[cfg(test)]
    pub(crate) fn base(oid: u32, name: &str, typmod: i32) -> Self {
        Self {
            oid,
            name: name.into(),
            typtype: 'b',
            category: 'U',
            typmod,
            elem: None,
            base: None,
            attributes: Vec::new(),
            extension: None,
            money_scale: None,
            as_stored: false,
            dimensions: 0,
            greater: None,
        }
    }
}

#[cfg(test)]
#[path = "types_tests.rs"]
mod tests;
