//! Filters of requests: one expression, parsed, checked against a list of what
//! may stand in it, and printed again (invariant I7: nothing from a message
//! reaches SQL unparsed and unquoted).
//!
//! Parentheses are kept where they were written and no others are added, so
//! that the server groups the operators by its own rules, as it would in psql.
//! What is printed never contains comments, unquoted identifiers (under
//! [`AllowWhere::Simple`]) or a string that depends on
//! `standard_conforming_strings`; operators stand between spaces, so that none
//! of them can join its neighbour (`- -1`). The caller puts the result in
//! parentheses before it joins it with other conditions.

use sqlparser::ast::Expr;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, Tokenizer};

use crate::config::{Advice, AllowWhere, Origin};
use crate::message::event::ErrorReport;

mod print;

use print::{print_tokens, print_tree};

/// Longest filter, in bytes.
const MAX_BYTES: usize = 256 * 1024;
/// Most words and operators: they bound the depth of the tree. Literals and
/// commas of long `IN` lists are not counted.
const MAX_PARTS: usize = 2_000;

/// Why a filter was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The source takes no filters.
    #[error("the source takes no filters")]
    Off,
    /// It is no expression.
    #[error("the filter is not a valid expression: {0}")]
    Unreadable(String),
    /// More text follows the expression.
    #[error("the filter goes on after its expression, at {0}")]
    Trailing(String),
    /// Something stands in it that is not allowed.
    #[error("the filter contains {0}, which is not allowed")]
    NotAllowed(String),
    /// A date that is another one at each reading.
    #[error(
        "the filter contains '{0}', which the server reads anew for every chunk: after midnight it is another day"
    )]
    Moving(String),
    /// It is too long or too deep.
    #[error("the filter is too large: {0}")]
    TooLarge(String),
}

impl FilterError {
    /// What to change, for who gave the source.
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

    /// As events and archives report it; `origin` is the source's.
    #[must_use]
    pub fn report(&self, origin: Origin) -> ErrorReport {
        ErrorReport::permanent("invalid_filter", self.to_string(), self.remedy(origin))
    }
}

fn refused<T>(what: impl Into<String>) -> Result<T, FilterError> {
    Err(FilterError::NotAllowed(what.into()))
}

/// Checks a filter and prints it again, in the SQL of the source.
///
/// # Errors
/// Names what is not allowed.
pub fn check(where_: &str, allow: AllowWhere) -> Result<String, FilterError> {
    if allow == AllowWhere::None {
        return Err(FilterError::Off);
    }
    if where_.len() > MAX_BYTES {
        return Err(FilterError::TooLarge(format!("{} bytes of at most {MAX_BYTES}", where_.len())));
    }
    if where_.contains('\0') {
        return refused("a NUL character");
    }
    let tokens = tokens(where_)?;
    let expr = parse(tokens.clone())?;
    let printed = match allow {
        AllowWhere::None => return Err(FilterError::Off),
        AllowWhere::Simple => print_tree(&expr)?,
        AllowWhere::Any => print_tokens(&tokens)?,
    };
    // What reaches the server must read as what was checked.
    let again = parse(self::tokens(&printed)?)?;
    let reprinted = match allow {
        AllowWhere::Any => print_tokens(&self::tokens(&printed)?)?,
        AllowWhere::None | AllowWhere::Simple => print_tree(&again)?,
    };
    if reprinted != printed {
        return refused("something that cannot be printed safely");
    }
    Ok(printed)
}

/// Whether a date or time reads the text as one that moves, such as `now` or `yesterday 12:00`.
#[must_use]
pub fn is_moving(text: &str) -> bool {
    const WORDS: [&str; 4] = ["now", "today", "tomorrow", "yesterday"];
    let mut words = text.split(|c: char| !c.is_ascii_alphabetic());
    // A text of several words is no date: `now` alone makes none of a sentence.
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
    let parts = tokens
        .iter()
        .filter(|t| !matches!(t, Token::Comma | Token::Number(..) | Token::SingleQuotedString(_)))
        .count();
    if parts > MAX_PARTS {
        return Err(FilterError::TooLarge(format!("{parts} words and operators of at most {MAX_PARTS}")));
    }
    Ok(tokens)
}

fn parse(tokens: Vec<Token>) -> Result<Expr, FilterError> {
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
