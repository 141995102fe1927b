//! Writes checked expressions in SQL.
//!
//! The text never contains comments, unquoted identifiers of a simple expression, or a string that depends on
//! `standard_conforming_strings`. Operators have spaces around them, so that two of them cannot join into
//! another one (`- -1`). The caller puts the text in parentheses before adding other conditions.

use super::quote::{ident, literal};
use crate::config::Advice;
use crate::relation::filter::{Binary, Expr, Expression, INVALID, Literal, Test, Unary, Word};
use crate::source::SourceError;

/// How two values are compared so that NULL equals NULL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::source) enum Sameness {
    /// `a IS NOT DISTINCT FROM b`
    #[default]
    NotDistinct,
    /// `(a <=> b)`
    NullSafe,
}

/// Writes an expression, parses the text again and compares, so that the server reads exactly what was
/// checked.
pub(in crate::source) fn printed(expression: &Expression, sameness: Sameness) -> Result<String, SourceError> {
    // The parser reads the words of PostgreSQL, so these are compared.
    let usual = print(expression, Sameness::NotDistinct);
    let again =
        Expression::parse(&usual, expression.needs()).map(|again| print(&again, Sameness::NotDistinct));
    if again.as_ref() == Ok(&usual) {
        return Ok(print(expression, sameness));
    }
    Err(SourceError::permanent(
        INVALID,
        "field `where`: the filter contains something that cannot be printed safely, which is not allowed",
    )
    .with_remedy(Advice::FilterTooFree))
}

pub(in crate::source) fn print(expression: &Expression, sameness: Sameness) -> String {
    let mut printer = Printer { text: String::new(), sameness };
    match expression {
        Expression::Simple(expr) => printer.expr(expr),
        Expression::Free(words) => words.iter().for_each(|word| printer.word(word)),
    }
    printer.text
}

/// Joins words with one space between them.
struct Printer {
    text: String,
    sameness: Sameness,
}

impl Printer {
    fn push(&mut self, word: &str) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(word);
    }

    fn word(&mut self, word: &Word) {
        match word {
            Word::Bare(text) | Word::Number(text) => self.push(text),
            Word::Name(name) => self.push(&ident(name)),
            Word::Text(value) => self.push(&literal(value)),
            Word::Bits(prefix, digits) => self.push(&format!("{prefix}'{digits}'")),
        }
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Column(names) => {
                let names: Vec<String> = names.iter().map(|name| ident(name)).collect();
                self.push(&names.join("."));
            }
            Expr::Literal(literal) => self.value(literal),
            Expr::Typed(ty, literal) => {
                self.push(ty.as_str());
                self.value(literal);
            }
            Expr::Interval(literal) => {
                self.push("INTERVAL");
                self.value(literal);
            }
            Expr::Nested(inner) => {
                self.push("(");
                self.expr(inner);
                self.push(")");
            }
            Expr::Unary(op, inner) => {
                self.push(match op {
                    Unary::Not => "NOT",
                    Unary::Minus => "-",
                    Unary::Plus => "+",
                    Unary::BitwiseNot => "~",
                });
                self.expr(inner);
            }
            Expr::Chain(first, rest) => {
                self.expr(first);
                for (op, right) in rest {
                    self.push(operator(*op));
                    self.expr(right);
                }
            }
            Expr::ShortCast(inner, ty) => {
                self.expr(inner);
                self.push("::");
                self.push(ty.as_str());
            }
            Expr::Cast(inner, ty) => {
                self.push("CAST (");
                self.expr(inner);
                self.push("AS");
                self.push(ty.as_str());
                self.push(")");
            }
            Expr::Is(inner, test) => {
                self.expr(inner);
                self.push(match test {
                    Test::Null => "IS NULL",
                    Test::NotNull => "IS NOT NULL",
                    Test::True => "IS TRUE",
                    Test::NotTrue => "IS NOT TRUE",
                    Test::False => "IS FALSE",
                    Test::NotFalse => "IS NOT FALSE",
                    Test::Unknown => "IS UNKNOWN",
                    Test::NotUnknown => "IS NOT UNKNOWN",
                });
            }
            Expr::Distinct { negated, left, right } if self.sameness == Sameness::NullSafe => {
                // `<=>` binds as strongly as `=`, and IS DISTINCT FROM does not.
                self.push(if *negated { "( (" } else { "( NOT ( (" });
                self.joined(left, ") <=> (", right);
                self.push(if *negated { ") )" } else { ") ) )" });
            }
            Expr::Distinct { negated, left, right } => {
                let word = if *negated { "IS NOT DISTINCT FROM" } else { "IS DISTINCT FROM" };
                self.joined(left, word, right);
            }
            Expr::In { negated, expr, list } => {
                self.expr(expr);
                self.push(if *negated { "NOT IN (" } else { "IN (" });
                for (i, item) in list.iter().enumerate() {
                    if i > 0 {
                        self.push(",");
                    }
                    self.expr(item);
                }
                self.push(")");
            }
            Expr::Between { negated, expr, low, high } => {
                self.joined(expr, if *negated { "NOT BETWEEN" } else { "BETWEEN" }, low);
                self.push("AND");
                self.expr(high);
            }
            Expr::Like { negated, any_case, expr, pattern, escape } => {
                let word = match (negated, any_case) {
                    (false, false) => "LIKE",
                    (true, false) => "NOT LIKE",
                    (false, true) => "ILIKE",
                    (true, true) => "NOT ILIKE",
                };
                self.joined(expr, word, pattern);
                if let Some(escape) = escape {
                    self.push("ESCAPE");
                    self.expr(escape);
                }
            }
        }
    }

    fn joined(&mut self, left: &Expr, word: &str, right: &Expr) {
        self.expr(left);
        self.push(word);
        self.expr(right);
    }

    fn value(&mut self, value: &Literal) {
        match value {
            Literal::Number(digits) => self.push(digits),
            Literal::Text(text) => self.push(&literal(text)),
            Literal::Boolean(true) => self.push("TRUE"),
            Literal::Boolean(false) => self.push("FALSE"),
            Literal::Null => self.push("NULL"),
        }
    }
}

fn operator(op: Binary) -> &'static str {
    match op {
        Binary::And => "AND",
        Binary::Or => "OR",
        Binary::Eq => "=",
        Binary::NotEq => "<>",
        Binary::Lt => "<",
        Binary::LtEq => "<=",
        Binary::Gt => ">",
        Binary::GtEq => ">=",
        Binary::Plus => "+",
        Binary::Minus => "-",
        Binary::Multiply => "*",
        Binary::Divide => "/",
        Binary::Modulo => "%",
        Binary::Power => "^",
        Binary::Concat => "||",
        Binary::BitwiseAnd => "&",
        Binary::BitwiseOr => "|",
        Binary::ShiftLeft => "<<",
        Binary::ShiftRight => ">>",
    }
}
