//! Columns of tables and views, as the catalogue describes them.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::asking::{ask, text};
use super::columns;
use super::complex::{ComplexTypes, Field};
use super::sessions::Leased;
use super::statements::{self, Wanted};
use super::stored::Superprojection;
use super::types::VerticaType;
use super::wire::{Answer, Row};
use crate::relation::SurveyColumn;
use crate::source::{ErrorKind, SourceError};

/// What the server tells about the columns of relations.
#[derive(Default)]
pub(super) struct Described {
    /// Those that were asked for: an answer may have more.
    wanted: HashSet<i64>,
    /// Each with whether it is about views.
    answers: Vec<(Answer, bool)>,
    /// Views that it cannot describe, and why.
    pub(super) broken: HashMap<i64, String>,
}

/// Asks for the columns of these tables and views.
pub(super) async fn describe(
    session: &mut Leased,
    tables: &[i64],
    views: &[i64],
) -> Result<Described, SourceError> {
    let mut described =
        Described { wanted: tables.iter().chain(views).copied().collect(), ..Described::default() };
    if !tables.is_empty() {
        described.answers.push((ask(session, &statements::columns(Wanted(tables))).await?, false));
    }
    if views.is_empty() {
        return Ok(described);
    }
    // If a table that a view reads is gone, the server refuses the whole answer. Then each view is asked for alone.
    let each: Vec<&[i64]> = views.chunks(1).collect();
    for some in [vec![views], each] {
        let mut is_refused = false;
        for ids in some {
            match ask(session, &statements::view_columns(Wanted(ids))).await {
                Ok(answer) => described.answers.push((answer, true)),
                Err(error) if error.kind != ErrorKind::Permanent => return Err(error),
                Err(error) => {
                    is_refused = true;
                    if let [id] = ids {
                        described.broken.insert(*id, error.message);
                    }
                }
            }
        }
        if !is_refused || views.len() == 1 {
            break;
        }
    }
    Ok(described)
}

/// Columns of the relations, in order, by the number of the relation.
pub(super) async fn columns_of(
    session: &mut Leased,
    described: &Described,
    projections: &HashMap<i64, Superprojection>,
) -> Result<HashMap<i64, Vec<SurveyColumn>>, SourceError> {
    let mut found: HashMap<i64, BTreeMap<i64, (String, VerticaType, bool)>> = HashMap::new();
    let mut is_any_complex = false;
    for (answer, is_view) in &described.answers {
        for row in answer.rows() {
            let Some(table) = row.int(0)?.filter(|id| described.wanted.contains(id)) else { continue };
            let number = |column| row.int(column).map(|n| n.unwrap_or(0));
            // Zero digits: not known.
            let (precision, scale) = digits(&row, 4)?.unwrap_or_default();
            let ty = VerticaType {
                name: text(&row, 2)?,
                oid: u32::try_from(number(3)?).unwrap_or(0),
                precision,
                scale,
                table,
                column: if *is_view { String::new() } else { text(&row, 8)? },
                is_view: *is_view,
                complex: None,
            };
            is_any_complex |= ComplexTypes::is_one(&ty.name);
            let nullable = *is_view || row.bool(7)? != Some(false);
            found.entry(table).or_default().insert(number(6)?, (text(&row, 1)?, ty, nullable));
        }
    }
    let complex = if is_any_complex { complex_types(session).await? } else { ComplexTypes::default() };
    let surveyed = |(table, columns): (i64, BTreeMap<_, (String, VerticaType, bool)>)| {
        let leading = projections.get(&table).and_then(|p| p.leading.as_deref());
        let column = |(name, ty, nullable): (String, VerticaType, bool)| {
            let ty = VerticaType { complex: complex.form(&ty.name), ..ty };
            columns::surveyed(&name, ty, nullable, leading == Some(&name))
        };
        (table, columns.into_values().map(column).collect())
    };
    Ok(found.into_iter().map(surveyed).collect())
}

/// Precision and scale, in two columns.
fn digits(row: &Row<'_>, first: usize) -> Result<Option<(u16, u16)>, SourceError> {
    let number = |column| Ok::<_, SourceError>(row.int(column)?.and_then(|n| u16::try_from(n).ok()));
    Ok(number(first)?.zip(number(first + 1)?))
}

/// The complex types that the user may see; none if the server does not tell them. Their values are texts then.
async fn complex_types(session: &mut Leased) -> Result<ComplexTypes, SourceError> {
    let mut types = ComplexTypes::default();
    let answer = match ask(session, &statements::complex_types()).await {
        Ok(answer) => answer,
        Err(error) if error.kind == ErrorKind::Permanent => {
            tracing::debug!(%error, "the server does not tell what complex types consist of");
            return Ok(types);
        }
        Err(error) => return Err(error),
    };
    for row in answer.rows() {
        let Some(position) = row.int(2)? else { continue };
        let field = Field { name: text(&row, 3)?, ty: text(&row, 4)?, digits: digits(&row, 5)? };
        types.add(&text(&row, 0)?, &text(&row, 1)?, position, field);
    }
    Ok(types)
}
