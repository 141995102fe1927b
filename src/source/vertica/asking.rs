//! Questions about the catalogue, and the texts of their answers.

use super::sessions::Leased;
use super::sqlstate::Stage;
use super::statements::Statement;
use super::wire::{Answer, Row};
use crate::source::SourceError;

const WHAT: &str = "look at the catalogue";

/// Asks a question about the catalogue.
pub(super) async fn ask(session: &mut Leased, statement: &Statement) -> Result<Answer, SourceError> {
    session.query(statement, Stage::Question, WHAT).await
}

/// A text that is never NULL in the catalogue.
pub(super) fn text(row: &Row<'_>, column: usize) -> Result<String, SourceError> {
    Ok(row.text(column)?.unwrap_or_default().to_owned())
}
