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

mod columns;
mod expand;
mod page;
mod tuple;
mod value;

#[cfg(test)]
mod tests;
