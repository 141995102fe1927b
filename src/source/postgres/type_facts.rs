//! Reads the types of columns from the catalogue, with all types that they contain.

use std::collections::{BTreeSet, HashMap};

use tokio_postgres::SimpleQueryRow;

use super::named::{WHAT, oid_array};
use super::session::Session;
use super::sqlstate::Stage;
use super::types::{Attribute, PgType};
use crate::source::SourceError;

/// First version with multiranges.
const HAS_MULTIRANGES: u32 = 140_000;
/// Domains of arrays of composites of … that are nested deeper than this become text.
const MAX_DEPTH: u8 = 16;
/// Types that contain more types than this, on all levels together, become text.
const MAX_COMPONENTS: u32 = 2_000;

/// One row of `pg_type`, with facts from other catalogues.
#[derive(Default)]
pub(super) struct TypeRow {
    pub(super) name: String,
    pub(super) typtype: char,
    pub(super) category: char,
    /// Oid of the element of an array, the subtype of a range, or the range of a multirange; else 0.
    pub(super) elem: u32,
    pub(super) base: u32,
    pub(super) base_typmod: i32,
    pub(super) extension: Option<String>,
    pub(super) money_scale: Option<u8>,
    /// Schema and name of the "greater" operator of the type's default order, if that operator is not built
    /// in.
    pub(super) greater: Option<(String, String)>,
    /// Whether values of the type can be sorted.
    pub(super) ordered: bool,
    /// Name, type and typmod of each attribute of a composite.
    pub(super) attributes: Vec<(String, u32, i32)>,
}

/// The types of the columns, and all types that they contain.
pub(super) struct Types(pub(super) HashMap<u32, TypeRow>);

impl Types {
    /// Reads the types of these oids.
    pub(super) async fn read(
        session: &Session,
        version: u32,
        used: BTreeSet<u32>,
    ) -> Result<Self, SourceError> {
        let mut types = HashMap::new();
        let sql = types_sql(&oid_array(used.into_iter()), version);
        session.each(&sql, Stage::Question, WHAT, |row| types.extend(parse_type(&row))).await?;
        let composites: BTreeSet<u32> =
            types.iter().filter(|(_, t)| t.typtype == 'c').map(|(oid, _)| *oid).collect();
        if !composites.is_empty() {
            let sql = attributes_sql(&oid_array(composites.into_iter()));
            session
                .each(&sql, Stage::Question, WHAT, |row| {
                    let Some((oid, attribute)) = parse_attribute(&row) else { return };
                    if let Some(ty) = types.get_mut(&oid) {
                        ty.attributes.push(attribute);
                    }
                })
                .await?;
        }
        Ok(Self(types))
    }

    /// Whether values of a type, or of a domain's base type, can be sorted.
    pub(super) fn is_ordered(&self, oid: u32) -> bool {
        let mut row = self.0.get(&oid);
        for _ in 0..MAX_DEPTH {
            match row {
                Some(domain) if domain.typtype == 'd' => row = self.0.get(&domain.base),
                _ => break,
            }
        }
        row.is_some_and(|row| row.ordered)
    }

    /// The facts of a type, with all types that it contains. A type that was dropped meanwhile, or that
    /// contains too many types, is only known as text.
    pub(super) fn facts(&self, oid: u32, typmod: i32) -> PgType {
        let mut left = MAX_COMPONENTS;
        self.component(oid, typmod, 0, &mut left).unwrap_or_else(|| {
            let name = self.0.get(&oid).map_or_else(|| "unknown".to_owned(), |row| row.name.clone());
            PgType {
                oid,
                name,
                typtype: 'p',
                category: 'X',
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
        })
    }

    fn component(&self, oid: u32, typmod: i32, depth: u8, left: &mut u32) -> Option<PgType> {
        let row = self.0.get(&oid).filter(|_| depth < MAX_DEPTH)?;
        *left = left.checked_sub(1)?;
        let mut inner = |oid: u32, typmod: i32| self.component(oid, typmod, depth + 1, left);
        let is_made_of = matches!(row.typtype, 'r' | 'm') || row.category == 'A';
        let elem = match (row.elem, is_made_of) {
            (0, _) | (_, false) => None,
            (elem, true) => Some(Box::new(inner(elem, if row.typtype == 'b' { typmod } else { -1 })?)),
        };
        let base = match row.typtype {
            'd' => Some(Box::new(inner(row.base, row.base_typmod)?)),
            _ => None,
        };
        let attribute = |(name, ty, typmod): &(String, u32, i32)| {
            Some(Attribute { name: name.clone(), ty: inner(*ty, *typmod)? })
        };
        Some(PgType {
            oid,
            name: row.name.clone(),
            typtype: row.typtype,
            category: row.category,
            typmod,
            elem,
            base,
            attributes: row.attributes.iter().map(attribute).collect::<Option<_>>()?,
            extension: row.extension.clone(),
            money_scale: row.money_scale,
            as_stored: false,
            dimensions: 0,
            greater: row.greater.clone(),
        })
    }
}

/// SQL for the types of `oids` and all types that they contain. The scale of `money` depends on the server's
/// locale, so the query finds it with a cast. Operators are not asked for in a LATERAL subquery with LIMIT:
/// Greenplum 6 ends such a plan with "cannot execute squelched plan node".
fn types_sql(oids: &str, version: u32) -> String {
    let (of_multirange, range) = if version >= HAS_MULTIRANGES {
        (
            "UNION ALL SELECT r.rngtypid FROM pg_catalog.pg_range r WHERE r.rngmultitypid = t.oid",
            "(SELECT r.rngtypid FROM pg_catalog.pg_range r WHERE r.rngmultitypid = t.oid)",
        )
    } else {
        ("", "NULL::pg_catalog.oid")
    };
    format!(
        "WITH RECURSIVE used AS (SELECT pg_catalog.unnest({oids}) AS oid \
            UNION SELECT v.oid FROM used u JOIN pg_catalog.pg_type t ON t.oid = u.oid, LATERAL (\
               SELECT t.typelem UNION ALL SELECT t.typbasetype \
               UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid \
               {of_multirange} \
               UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a \
                  WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped\
            ) v(oid) WHERE v.oid <> 0) \
         SELECT t.oid, pg_catalog.format_type(t.oid, NULL), t.typtype, t.typcategory, \
                COALESCE({range}, \
                   (SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid), t.typelem), \
                t.typbasetype, t.typtypmod, \
                (SELECT e.extname || '.' || t.typname FROM pg_catalog.pg_depend d \
                   JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid \
                   WHERE d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.objid = t.oid \
                     AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'), \
                CASE WHEN t.oid = 790 THEN pg_catalog.length(pg_catalog.split_part(\
                   (0::pg_catalog.int8::pg_catalog.money::pg_catalog.numeric)::pg_catalog.text, '.', 2)) END, \
                g.nspname, g.oprname, \
                t.typtype IN ('e', 'r', 'm') OR t.typcategory = 'A' \
                OR EXISTS (SELECT FROM pg_catalog.pg_opclass c \
                           WHERE c.opcmethod = 403 AND c.opcdefault AND (c.opcintype = t.oid OR c.opcintype IN ( \
                             SELECT k.casttarget FROM pg_catalog.pg_cast k \
                             WHERE k.castsource = t.oid AND k.castmethod = 'b' AND k.castcontext = 'i'))) \
         FROM pg_catalog.pg_type t JOIN used u ON u.oid = t.oid \
         LEFT JOIN ( \
           SELECT DISTINCT ON (c.opcintype) c.opcintype, n.nspname, p.oprname FROM pg_catalog.pg_opclass c \
           JOIN pg_catalog.pg_amop a ON a.amopfamily = c.opcfamily AND a.amoplefttype = c.opcintype \
                                    AND a.amoprighttype = c.opcintype AND a.amopstrategy = 5 \
           JOIN pg_catalog.pg_operator p ON p.oid = a.amopopr \
           JOIN pg_catalog.pg_namespace n ON n.oid = p.oprnamespace AND n.nspname <> 'pg_catalog' \
           WHERE c.opcmethod = 403 AND c.opcdefault) g ON g.opcintype = t.oid"
    )
}

fn attributes_sql(oids: &str) -> String {
    format!(
        "SELECT t.oid, a.attname, a.atttypid, a.atttypmod \
         FROM pg_catalog.pg_type t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.typrelid \
         WHERE t.oid = ANY ({oids}) AND a.attnum > 0 AND NOT a.attisdropped \
         ORDER BY t.oid, a.attnum"
    )
}

fn parse_type(row: &SimpleQueryRow) -> Option<(u32, TypeRow)> {
    let letter = |i: usize| row.get(i).and_then(|t| t.chars().next());
    let ty = TypeRow {
        name: row.get(1)?.to_owned(),
        typtype: letter(2)?,
        category: letter(3)?,
        elem: row.get(4)?.parse().ok()?,
        base: row.get(5)?.parse().ok()?,
        base_typmod: row.get(6)?.parse().ok()?,
        extension: row.get(7).map(str::to_owned),
        money_scale: row.get(8).and_then(|scale| scale.parse().ok()),
        ordered: row.get(11) == Some("t"),
        greater: row.get(9).zip(row.get(10)).map(|(schema, name)| (schema.to_owned(), name.to_owned())),
        attributes: Vec::new(),
    };
    Some((row.get(0)?.parse().ok()?, ty))
}

fn parse_attribute(row: &SimpleQueryRow) -> Option<(u32, (String, u32, i32))> {
    let attribute = (row.get(1)?.to_owned(), row.get(2)?.parse().ok()?, row.get(3)?.parse().ok()?);
    Some((row.get(0)?.parse().ok()?, attribute))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(typtype: char, category: char, elem: u32, base: u32) -> TypeRow {
        TypeRow { typtype, category, elem, base, base_typmod: -1, ..TypeRow::default() }
    }

    #[test]
    fn types_carry_what_they_are_made_of() {
        let mut types = Types(HashMap::from([
            (23, row('b', 'N', 0, 0)),
            (3_904, row('r', 'R', 23, 0)),
            (4_451, row('m', 'R', 3_904, 0)),
            (50_000, row('d', 'R', 0, 4_451)),
            (50_001, row('c', 'C', 0, 0)),
            (50_002, row('b', 'A', 50_001, 0)),
            // A point is not an array, although its numbers have an index.
            (600, row('b', 'G', 701, 0)),
        ]));
        types.0.get_mut(&50_001).expect("there").attributes =
            vec![("r".into(), 50_000, -1), ("p".into(), 600, -1)];
        let array = types.facts(50_002, -1);
        let composite = array.elem.expect("elements");
        assert_eq!(composite.attributes.len(), 2);
        let range = composite.attributes[0].ty.undomained().elem.as_deref().expect("a range");
        assert_eq!(range.elem.as_deref().expect("bounds").oid, 23);
        assert_eq!(composite.attributes[1].ty.elem, None);
    }

    #[test]
    fn what_is_too_deep_or_too_wide_is_text() {
        let mut types = Types(HashMap::from([(1, row('d', 'N', 0, 1)), (25, row('b', 'S', 0, 0))]));
        assert_eq!(types.facts(1, -1).typtype, 'p');
        for level in 100..112 {
            let mut wide = row('c', 'C', 0, 0);
            let of = if level == 100 { 25 } else { level - 1 };
            wide.attributes = vec![("a".into(), of, -1), ("b".into(), of, -1)];
            types.0.insert(level, wide);
        }
        assert_eq!(types.facts(105, -1).typtype, 'c');
        assert_eq!(types.facts(111, -1).typtype, 'p');
    }
}
