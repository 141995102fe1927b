//! Filters as data. The expression of a request is parsed and checked against the list of allowed constructs
//! (invariant I7: nothing from a message reaches SQL unparsed or unquoted). The source then prints it in its
//! own language.

use sqlparser::ast::Expr as Tree;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, Tokenizer};

use crate::config::{Advice, AllowWhere, Origin};
use crate::message::event::ErrorReport;
use crate::message::request::{After, AfterNulls};

mod expression;
mod parse;

pub use expression::{Binary, Expr, Expression, Literal, PlainType, Test, Unary, Word};

/// Longest filter, in bytes.
const MAX_BYTES: usize = 256 * 1024;
/// Maximum number of words and operators, because they bound the depth of the tree. Literals and commas do
/// not count, so that `IN` lists may be long.
const MAX_WORDS: usize = 2_000;

/// Which rows to export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Rows for which the expression of a request is true.
    Where(Expression),
    /// Rows whose column is greater than a value.
    Newer {
        /// The column.
        column: String,
        /// The value, as text.
        value: String,
        /// What is subtracted from the value first: a number, or an interval such as `1 hour`.
        overlap: Option<String>,
    },
    /// Rows whose column is NULL.
    IsNull(String),
    /// Rows that pass both filters.
    Both(Box<[Filter; 2]>),
    /// Rows that pass at least one of two filters.
    Either(Box<[Filter; 2]>),
}

impl Filter {
    /// The rows that `after` exports, null ones too if it says so.
    #[must_use]
    pub fn wanted(after: &After) -> Self {
        match after.nulls {
            AfterNulls::Include => {
                Self::Either(Box::new([Self::with_value(after), Self::IsNull(after.column.clone())]))
            }
            AfterNulls::Error | AfterNulls::Skip => Self::with_value(after),
        }
    }

    /// The rows that `after` exports and whose column has a value.
    #[must_use]
    pub fn with_value(after: &After) -> Self {
        let After { column, value, overlap, .. } = after;
        Self::Newer { column: column.clone(), value: value.clone(), overlap: overlap.clone() }
    }

    /// The rows that are newer than the value of `after`, without those that `overlap` exports again.
    #[must_use]
    pub fn newer(after: &After) -> Self {
        Self::Newer { column: after.column.clone(), value: after.value.clone(), overlap: None }
    }

    /// The rows that pass both filters, if there are two.
    #[must_use]
    pub fn both(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(one), Some(other)) => Some(Self::Both(Box::new([one, other]))),
            (one, other) => one.or(other),
        }
    }
}

/// Why a filter was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The source takes no filters.
    #[error("the source takes no filters")]
    Off,
    /// The text is not an expression.
    #[error("the filter is not a valid expression: {0}")]
    Unreadable(String),
    /// More text follows the expression.
    #[error("the filter goes on after its expression, at {0}")]
    Trailing(String),
    /// The expression contains something that is not allowed.
    #[error("the filter contains {0}, which is not allowed")]
    NotAllowed(String),
    /// A date word, such as `today`, whose meaning changes with time.
    #[error(
        "the filter contains '{0}', which the server reads anew for every chunk: after midnight it is another day"
    )]
    Moving(String),
    /// The filter is too long or too deep.
    #[error("the filter is too large: {0}")]
    TooLarge(String),
}

impl FilterError {
    /// What to change. `origin` says who configured the source.
    #[must_use]
    pub fn remedy(&self, origin: Origin) -> &'static str {
        match self {
            Self::Off => Advice::FilterOff.words(origin),
            Self::Unreadable(_) => {
                "write one SQL expression without WHERE, e.g. at >= '2026-01-01' AND status IN ('a', 'b')"
            }
            Self::Trailing(_) => "write exactly one expression, without a semicolon or a second statement",
            Self::NotAllowed(_) => Advice::FilterTooFree.words(origin),
            Self::Moving(_) => {
                "write the date itself, e.g. '2026-01-31'; a text that reads so is written 'today'::text"
            }
            Self::TooLarge(_) => "shorten it, e.g. by an IN list in place of many ORs, or filter in a view",
        }
    }

    /// The error as events and archives report it. `origin` says where the source's configuration comes from.
    #[must_use]
    pub fn report(&self, origin: Origin) -> ErrorReport {
        ErrorReport::permanent(INVALID, self.to_string(), self.remedy(origin))
    }
}

/// The error code of a filter that cannot be used.
pub const INVALID: &str = "invalid_filter";

fn refused<T>(what: impl Into<String>) -> Result<T, FilterError> {
    Err(FilterError::NotAllowed(what.into()))
}

impl Expression {
    /// Parses an expression and checks its contents. The language is PostgreSQL's for every source.
    ///
    /// # Errors
    /// When the text contains something that is not allowed, which the error names.
    pub fn parse(text: &str, allow: AllowWhere) -> Result<Self, FilterError> {
        if allow == AllowWhere::None {
            return Err(FilterError::Off);
        }
        if text.len() > MAX_BYTES {
            return Err(FilterError::TooLarge(format!("{} bytes of at most {MAX_BYTES}", text.len())));
        }
        if text.contains('\0') {
            return refused("a NUL character");
        }
        let tokens = tokens(text)?;
        let tree = tree(tokens.clone())?;
        Ok(match allow {
            AllowWhere::None => return Err(FilterError::Off),
            AllowWhere::Simple => Self::Simple(parse::simple(&tree)?),
            AllowWhere::Any => Self::Free(parse::free(&tokens)?),
        })
    }

    /// The setting of `allow_where` that this expression needs.
    #[must_use]
    pub fn needs(&self) -> AllowWhere {
        match self {
            Self::Simple(_) => AllowWhere::Simple,
            Self::Free(_) => AllowWhere::Any,
        }
    }
}

/// Whether a date or time type would read the text as relative to now, such as `now` or `yesterday 12:00`.
#[must_use]
pub fn is_moving(text: &str) -> bool {
    const WORDS: [&str; 4] = ["now", "today", "tomorrow", "yesterday"];
    let mut words = text.split(|c: char| !c.is_ascii_alphabetic());
    // A longer text is a sentence, not a date.
    text.split_whitespace().map(str::len).sum::<usize>() <= 40
        && words.any(|word| WORDS.iter().any(|moving| word.eq_ignore_ascii_case(moving)))
}

/// The tokens without white space and comments.
fn tokens(text: &str) -> Result<Vec<Token>, FilterError> {
    let tokens: Vec<Token> = Tokenizer::new(&PostgreSqlDialect {}, text)
        .tokenize()
        .map_err(|e| FilterError::Unreadable(e.to_string()))?
        .into_iter()
        .filter(|t| !matches!(t, Token::Whitespace(_)))
        .collect();
    let words = tokens
        .iter()
        .filter(|t| !matches!(t, Token::Comma | Token::Number(..) | Token::SingleQuotedString(_)))
        .count();
    if words > MAX_WORDS {
        return Err(FilterError::TooLarge(format!("{words} words and operators of at most {MAX_WORDS}")));
    }
    Ok(tokens)
}

fn tree(tokens: Vec<Token>) -> Result<Tree, FilterError> {
    let mut parser = Parser::new(&PostgreSqlDialect {}).with_tokens(tokens);
    let expr = parser.parse_expr().map_err(|e| match e {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => FilterError::Unreadable(text),
        ParserError::RecursionLimitExceeded => FilterError::TooLarge("it is nested too deeply".into()),
    })?;
    match &parser.peek_token_ref().token {
        Token::EOF => Ok(expr),
        token => Err(FilterError::Trailing(format!("`{}`", shorten(&token.to_string())))),
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests;
