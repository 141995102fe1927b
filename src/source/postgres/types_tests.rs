//! Tests of the type table, line by line.

use super::*;

fn base(oid: u32, name: &str, typmod: i32) -> PgType {
    PgType::base(oid, name, typmod)
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

fn decimal(precision: u8, scale: i8) -> Form {
    Form::Decimal { precision, scale }
}

#[test]
fn numerics_keep_every_digit() {
    let native = |ty: &PgType| map(ty, None);
    assert_eq!(native(&numeric(12, 2)), (decimal(12, 2), Fetch::Native));
    assert_eq!(native(&numeric(5, -2)), (decimal(7, 0), Fetch::Native));
    assert_eq!(native(&numeric(3, 5)), (decimal(5, 5), Fetch::Native));
    assert_eq!(native(&numeric(76, 10)), (decimal(76, 10), Fetch::Native));
    assert_eq!(native(&numeric(77, 10)), (Form::Text, Fetch::AsText));
    assert_eq!(native(&base(oid::NUMERIC, "numeric", -1)), (Form::Text, Fetch::AsText));
}

#[test]
fn shapes_keep_their_reference_and_kind() {
    let postgis = |name: &str, typmod| {
        let what = name.rsplit('.').next().expect("a name");
        PgType { extension: Some(format!("postgis.{what}")), ..base(70_001, name, typmod) }
    };
    let shape = |ty: &PgType| match map(ty, None) {
        (Form::Geometry(Shape { schema: None, declared }), Fetch::Native) => declared,
        other => panic!("{other:?}"),
    };
    // geometry(PointZ,4326), as the server stores it.
    let point = shape(&postgis("public.geometry", 1_107_462));
    let expected = Geometry { srid: Some(4326), kind: Some("Point Z".into()), geodesic: false };
    assert_eq!(point, expected);
    let any = shape(&postgis("\"My \"\"GIS\"\"\".geography", -1));
    assert_eq!((any.srid, any.kind, any.geodesic), (None, None, true));
    // geometry(PointM), geometry(Geometry,3857)
    assert_eq!(shape(&postgis("public.geometry", 5)).kind, None);
    assert_eq!(shape(&postgis("public.geometry", 3857 << 8)).srid, Some(3857));
    // Shapes within an array are the server's text.
    let texts = Form::List(Box::new(Form::SourceText));
    assert_eq!(map(&array(postgis("public.geometry", -1)), None), (texts, Fetch::Parts));
}

#[test]
fn the_numeric_mode_is_for_numerics_without_a_precision_that_fits() {
    let mode = |ty: &PgType, mode| map(ty, Some(mode));
    let free = base(oid::NUMERIC, "numeric", -1);
    assert_eq!(mode(&free, NumericMode::Double), (Form::DoubleFromText, Fetch::AsText));
    assert_eq!(mode(&free, NumericMode::Decimal(38, 9)), (decimal(38, 9), Fetch::Native));
    assert_eq!(mode(&numeric(12, 2), NumericMode::Double), (decimal(12, 2), Fetch::Native));
    let list = |ty| (Form::List(Box::new(ty)), Fetch::Native);
    assert_eq!(mode(&array(free.clone()), NumericMode::Double), list(Form::NumericDouble));
    assert_eq!(map(&array(free), None), list(Form::NumericText));
}

#[test]
fn arrays_and_domains_follow_what_they_are_made_of() {
    let list = |ty| (Form::List(Box::new(ty)), Fetch::Native);
    assert_eq!(map(&array(numeric(12, 2)), None), list(decimal(12, 2)));
    assert_eq!(map(&domain(numeric(12, 2)), None), (decimal(12, 2), Fetch::Native));
    assert_eq!(map(&domain(domain(base(oid::DATE, "date", -1))), None), (Form::Date, Fetch::Native));
    assert_eq!(map(&array(domain(base(oid::INT4, "integer", -1))), None), list(Form::Int32));
    assert_eq!(map(&domain(array(base(oid::UUID, "uuid", -1))), None), list(Form::Uuid));
    let text = (Form::Text, Fetch::AsText);
    let int2vector = PgType { oid: oid::INT2VECTOR, ..array(base(oid::INT2, "smallint", -1)) };
    assert_eq!(map(&int2vector, None), text);
    assert_eq!(map(&base(999_999, "box3d", -1), None), text);
}

fn composite(attributes: &[(&str, PgType)]) -> PgType {
    let attribute = |(name, ty): &(&str, PgType)| Attribute { name: (*name).into(), ty: ty.clone() };
    PgType {
        typtype: 'c',
        category: 'C',
        attributes: attributes.iter().map(attribute).collect(),
        ..base(90_000, "public.c", -1)
    }
}

fn structure(attributes: &[(&str, Form)]) -> Form {
    let attribute = |(name, form): &(&str, Form)| FormAttribute { name: (*name).into(), form: form.clone() };
    Form::Struct(attributes.iter().map(attribute).collect())
}

#[test]
fn composites_and_arrays_have_text_only_where_nothing_else_is_known() {
    let (int, inet) = (base(oid::INT4, "integer", -1), base(869, "inet", -1));
    let whole = composite(&[("a", domain(int.clone())), ("n", base(oid::NUMERIC, "numeric", -1))]);
    let inner = structure(&[("a", Form::Int32), ("n", Form::NumericText)]);
    assert_eq!(map(&whole, None), (inner.clone(), Fetch::Native));
    assert_eq!(map(&array(whole.clone()), None), (Form::List(Box::new(inner.clone())), Fetch::Native));
    let mixed = composite(&[("w", whole), ("ip", inet.clone()), ("ips", array(inet.clone()))]);
    let texts = Form::List(Box::new(Form::SourceText));
    let expected = structure(&[("w", inner), ("ip", Form::SourceText), ("ips", texts.clone())]);
    assert_eq!(map(&mixed, None), (expected, Fetch::Parts));
    assert_eq!(map(&array(mixed), None), (texts.clone(), Fetch::Parts));
    assert_eq!(map(&array(inet), None), (texts, Fetch::Parts));
    assert_eq!(map(&composite(&[]), None), (Form::Text, Fetch::AsText));
}

#[test]
fn ranges_are_structs_of_bounds_that_have_a_binary_form() {
    let range =
        |of: PgType| PgType { typtype: 'r', category: 'R', elem: Some(Box::new(of)), ..base(3_904, "r", -1) };
    let many =
        |of: PgType| PgType { typtype: 'm', category: 'R', elem: Some(Box::new(of)), ..base(4_451, "m", -1) };
    let int = range(base(oid::INT4, "integer", -1));
    assert_eq!(map(&int, None), (Form::Range(Box::new(Form::Int32)), Fetch::Native));
    assert_eq!(map(&many(int), None), (Form::Multirange(Box::new(Form::Int32)), Fetch::Native));
    let odd = range(base(869, "inet", -1));
    assert_eq!(map(&odd, None), (Form::Text, Fetch::AsText));
    assert_eq!(map(&many(odd), None), (Form::Text, Fetch::AsText));
}

#[test]
fn money_has_the_scale_of_the_servers_locale() {
    let money = PgType { money_scale: Some(3), ..base(oid::MONEY, "money", -1) };
    assert_eq!(map(&money, None), (Form::Money { scale: 3 }, Fetch::Native));
    assert_eq!(map(&base(oid::MONEY, "money", -1), None), (Form::Text, Fetch::AsText));
}

#[test]
fn only_texts_become_bytes_as_asked_for() {
    let bytes = Some((Form::Bytes, Fetch::AsBytes));
    assert_eq!(map_bytes(&domain(base(oid::VARCHAR, "character varying", -1))), bytes);
    assert_eq!(map_bytes(&base(oid::JSON, "json", -1)), bytes);
    for other in [oid::JSONB, oid::INT4, oid::NUMERIC, 869] {
        assert_eq!(map_bytes(&base(other, "?", -1)), None);
    }
}

#[test]
fn types_of_extensions_are_known_by_their_extension() {
    let text = (Form::Text, Fetch::Native);
    let mood = PgType { typtype: 'e', category: 'E', ..base(80_000, "public.mood", -1) };
    let of = |name: &str, typmod| PgType { extension: Some(name.into()), ..base(80_001, "ext.t", typmod) };
    assert_eq!(map(&mood, None), text);
    assert_eq!(map(&of("citext.citext", -1), None), text);
    assert_eq!(map(&of("hstore.hstore", -1), None), (Form::Map, Fetch::Native));
    assert_eq!(map(&base(80_001, "public.hstore", -1), None), (Form::Text, Fetch::AsText));
    let vector = |length, half| (Form::Vector { length, half }, Fetch::Native);
    assert_eq!(map(&of("vector.vector", 3), None), vector(Some(3), false));
    assert_eq!(map(&of("vector.halfvec", -1), None), vector(None, true));
}

#[test]
fn keys_of_ranges_name_their_cast() {
    let key = |ty: &PgType| range_key(ty).map(|k| (k.cast, k.numeric));
    assert_eq!(key(&base(oid::INT8, "bigint", -1)), Some(("bigint", true)));
    assert_eq!(key(&base(oid::BPCHAR, "character(3)", 7)), Some(("bpchar", false)));
    assert_eq!(key(&domain(base(oid::UUID, "uuid", -1))), Some(("uuid", false)));
    assert_eq!(key(&base(oid::BYTEA, "bytea", -1)), None);
}
