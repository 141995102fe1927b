//! Reads a heap's pages instead of its rows. The server then need not make rows, which costs it most of the
//! time of a COPY.
//!
//! PostgreSQL's own scan looks at no row's transactions on a page that is marked as visible to all, and neither
//! do we: such a page holds exactly the rows that a snapshot of a primary shows. The mark is set only when all
//! rows are visible to all transactions, and cleared under the page's lock by whoever changes the page.
//!
//! `page`, `tuple`, `value` and `expand` take a page apart, whole or not at all, into the rows that a binary
//! COPY would send; so the same decoder reads them. `columns` says which types they know. No bytes of a page
//! make them panic, read outside of the page, or take more room than its values can have.
//!
//! `way` decides when a table is planned, from the answers to `survey` and, for `auto`, with `care` for others. `open`
//! decides again in the chunk's transaction: `facts` of the catalogue and the `server`, and `scan`, the server's own
//! plan of the chunk. `stream` reads: `route` says which pages come next and which of them the server must read, and `sheets`
//! finds the pages in the stream. `ending` proves that the pages were those of the table.

mod care;
mod columns;
mod ending;
mod expand;
mod facts;
mod open;
mod page;
mod route;
mod scan;
mod server;
mod sheets;
mod stream;
mod survey;
mod tuple;
mod value;
mod way;

pub(super) use ending::Ending;
pub(super) use open::{Chunk, notes, prepare, schema_before};
pub(super) use stream::PageStream;
pub(super) use survey::survey;
pub(super) use way::{is_large, usual_pieces, way};

#[cfg(test)]
mod tests;
