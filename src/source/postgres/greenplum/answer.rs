//! Answers of the catalogue. A row that cannot be read is an error: a leaf or segment that nobody sees would be
//! missing from the export (invariant I6).

use tokio_postgres::SimpleQueryRow;

use super::super::named::WHAT;
use super::super::session::Session;
use super::super::sqlstate::Stage;
use crate::source::SourceError;

/// Asks, reads each row, and passes on what it says. `about` is what the question asks for.
pub(super) async fn each<T>(
    session: &Session,
    sql: &str,
    about: &str,
    read: impl Fn(&SimpleQueryRow) -> Option<T>,
    mut take: impl FnMut(T),
) -> Result<(), SourceError> {
    let mut is_strange = false;
    let row = |row: SimpleQueryRow| match read(&row) {
        Some(found) => take(found),
        None => is_strange = true,
    };
    session.each(sql, Stage::Question, WHAT, row).await?;
    if is_strange { Err(strange(about)) } else { Ok(()) }
}

/// The error for an answer that this release does not understand.
pub(super) fn strange(about: &str) -> SourceError {
    SourceError::permanent(
        "protocol",
        format!("{WHAT}: this release does not understand what the server says about {about}"),
    )
    .with_remedy("report it, with the answer of SELECT version()")
}
