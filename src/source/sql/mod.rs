//! SQL that several sources write, quoted names and values and checked expressions, and what their errors mean.

pub(super) mod expression;
pub(super) mod meaning;
pub(super) mod quote;
