//! What a chunk that was read by pages proves at its end.
//!
//! A page is named by its relation's name. The chunk's lock keeps the name of the relation, but not the name of
//! its schema: while a chunk runs, the schema may be renamed, and another may take its name. So the schema's row
//! must be the same after the last page as in the snapshot, to the version. If it is not, the chunk is read
//! again, by COPY.

use super::super::definitions::Definitions;
use super::super::session::Session;
use super::super::sqlstate::Stage;
use super::facts::{SchemaRow, schema_question, schema_row};
use crate::source::SourceError;

/// What is compared at the end of a chunk.
pub(in super::super) struct Ending {
    /// The schema as the snapshot shows it.
    pub(in super::super) schema: SchemaRow,
    /// What else the chunk depends on.
    pub(in super::super) definitions: Option<Definitions>,
}

impl Ending {
    /// Commits, compares, and returns the connection to the pool.
    pub(in super::super) async fn run(self, session: Session, what: &str) -> Result<(), SourceError> {
        let same = match &self.definitions {
            Some(definitions) => definitions.compare(&session, what).await?,
            None => session.run("SELECT; COMMIT", Stage::Question, what).await.map(Ok)?,
        };
        let now = schema_now(&session, self.schema.oid, what).await?;
        session.give_back();
        same?;
        if now.as_ref() == Some(&self.schema) {
            return Ok(());
        }
        let why = "the schema of the table changed while its pages were read";
        Err(SourceError::transient("schema_changed", format!("{what}: {why}: it is read again, by COPY")))
    }
}

/// The row of a schema, seen by a transaction of its own.
pub(super) async fn schema_now(
    session: &Session,
    schema: u32,
    what: &str,
) -> Result<Option<SchemaRow>, SourceError> {
    let rows = session.rows(&schema_question(schema), Stage::Question, what).await?;
    Ok(rows.first().and_then(|row| schema_row(row, 0)))
}
