//! SQL that several sources write: quoted names and values, and checked expressions.

pub(super) mod expression;
pub(super) mod quote;
