//! COPY frames become columns.
