//! Turns the parser's trees and tokens into checked expressions. The `match` of [`simple`] is the list of
//! what a simple expression may contain.

use sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr as Tree, Ident, Interval, ObjectNamePart, UnaryOperator, Value,
};
use sqlparser::tokenizer::Token;

use super::{Binary, Expr, FilterError, Literal, PlainType, Test, Unary, Word, is_moving, refused, shorten};

/// A tree of the nodes that a simple expression may have.
pub(super) fn simple(tree: &Tree) -> Result<Expr, FilterError> {
    let is = |operand: &Tree, test| Ok(Expr::Is(boxed(operand)?, test));
    let distinct = |negated, left: &Tree, right: &Tree| {
        Ok(Expr::Distinct { negated, left: boxed(left)?, right: boxed(right)? })
    };
    match tree {
        Tree::Identifier(ident) => Ok(Expr::Column(vec![folded(ident)])),
        Tree::CompoundIdentifier(idents) => Ok(Expr::Column(idents.iter().map(folded).collect())),
        Tree::Value(value) => still(&value.value).map(Expr::Literal),
        Tree::TypedString(typed) if !typed.uses_odbc_syntax => {
            Ok(Expr::Typed(plain_type(&typed.data_type)?, still(&typed.value.value)?))
        }
        Tree::Interval(written) => interval(written),
        Tree::Nested(inner) => Ok(Expr::Nested(boxed(inner)?)),
        Tree::UnaryOp { op, expr } => {
            let op = match op {
                UnaryOperator::Not => Unary::Not,
                UnaryOperator::Minus => Unary::Minus,
                UnaryOperator::Plus => Unary::Plus,
                UnaryOperator::BitwiseNot => Unary::BitwiseNot,
                other => return refused(format!("the operator `{other}`")),
            };
            Ok(Expr::Unary(op, boxed(expr)?))
        }
        Tree::BinaryOp { .. } => chain(tree),
        Tree::Cast { kind, expr, data_type, format: None } => cast(kind, expr, data_type),
        Tree::IsNull(e) => is(e, Test::Null),
        Tree::IsNotNull(e) => is(e, Test::NotNull),
        Tree::IsTrue(e) => is(e, Test::True),
        Tree::IsNotTrue(e) => is(e, Test::NotTrue),
        Tree::IsFalse(e) => is(e, Test::False),
        Tree::IsNotFalse(e) => is(e, Test::NotFalse),
        Tree::IsUnknown(e) => is(e, Test::Unknown),
        Tree::IsNotUnknown(e) => is(e, Test::NotUnknown),
        Tree::IsDistinctFrom(a, b) => distinct(false, a, b),
        Tree::IsNotDistinctFrom(a, b) => distinct(true, a, b),
        Tree::InList { expr, list, negated } => Ok(Expr::In {
            negated: *negated,
            expr: boxed(expr)?,
            list: list.iter().map(simple).collect::<Result<_, _>>()?,
        }),
        Tree::Between { expr, negated, low, high } => {
            Ok(Expr::Between { negated: *negated, expr: boxed(expr)?, low: boxed(low)?, high: boxed(high)? })
        }
        Tree::Like { negated, any: false, expr, pattern, escape_char }
        | Tree::ILike { negated, any: false, expr, pattern, escape_char } => Ok(Expr::Like {
            negated: *negated,
            any_case: matches!(tree, Tree::ILike { .. }),
            expr: boxed(expr)?,
            pattern: boxed(pattern)?,
            escape: escape_char.as_deref().map(boxed).transpose()?,
        }),
        other => refused(describe(other)),
    }
}

/// Checks token by token, for filters that may contain everything. The parser's own printing of strings is
/// not used, because it treats `\'` and `''` inside values as escapes.
pub(super) fn free(tokens: &[Token]) -> Result<Vec<Word>, FilterError> {
    let word = |token: &Token| {
        Ok(match token {
            Token::Word(word) if word.quote_style.is_some() => Word::Name(word.value.clone()),
            Token::Number(digits, long) => Word::Number(number(digits, *long)?),
            Token::SingleQuotedString(s)
            | Token::UnicodeStringLiteral(s)
            | Token::EscapedStringLiteral(s) => Word::Text(s.clone()),
            Token::DollarQuotedString(s) => Word::Text(s.value.clone()),
            Token::SingleQuotedByteStringLiteral(s) => bits('B', s)?,
            Token::HexStringLiteral(s) => bits('X', s)?,
            Token::Placeholder(_) => return refused("a parameter such as $1"),
            Token::SemiColon => return Err(FilterError::Trailing("`;`".into())),
            Token::NationalStringLiteral(_)
            | Token::TripleSingleQuotedString(_)
            | Token::TripleDoubleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::DoubleQuotedByteStringLiteral(_)
            | Token::TripleSingleQuotedByteStringLiteral(_)
            | Token::TripleDoubleQuotedByteStringLiteral(_)
            | Token::SingleQuotedRawStringLiteral(_)
            | Token::DoubleQuotedRawStringLiteral(_)
            | Token::TripleSingleQuotedRawStringLiteral(_)
            | Token::TripleDoubleQuotedRawStringLiteral(_)
            | Token::QuoteDelimitedStringLiteral(_)
            | Token::NationalQuoteDelimitedStringLiteral(_) => {
                return refused("a string of another database's kind; write it as '...'");
            }
            token => Word::Bare(token.to_string()),
        })
    };
    tokens.iter().map(word).collect()
}

fn boxed(tree: &Tree) -> Result<Box<Expr>, FilterError> {
    simple(tree).map(Box::new)
}

/// Folds unquoted names as the server does.
fn folded(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    }
}

fn number(digits: &str, long: bool) -> Result<String, FilterError> {
    let plain = digits.replace('_', "");
    let fits = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-');
    if long || !plain.chars().all(fits) {
        return refused(format!("the number `{}`", shorten(digits)));
    }
    Ok(plain)
}

fn bits(prefix: char, digits: &str) -> Result<Word, FilterError> {
    if !digits.chars().all(|c| c.is_ascii_hexdigit()) {
        return refused("a bit string with other characters than digits");
    }
    Ok(Word::Bits(prefix, digits.to_owned()))
}

/// `a AND b AND c …`: the tree of a long chain is deep on its left side, so a loop walks that side without
/// recursion.
fn chain(tree: &Tree) -> Result<Expr, FilterError> {
    let mut rest = Vec::new();
    let mut left = tree;
    while let Tree::BinaryOp { left: next, op, right } = left {
        rest.push((operator(op)?, right));
        left = next;
    }
    let first = boxed(left)?;
    let rest = rest.into_iter().rev().map(|(op, right)| Ok((op, simple(right)?)));
    Ok(Expr::Chain(first, rest.collect::<Result<_, _>>()?))
}

fn cast(kind: &CastKind, tree: &Tree, data_type: &DataType) -> Result<Expr, FilterError> {
    let ty = plain_type(data_type)?;
    let is_short = match kind {
        CastKind::DoubleColon => true,
        CastKind::Cast => false,
        CastKind::TryCast | CastKind::SafeCast => return refused("TRY_CAST or SAFE_CAST"),
    };
    let expr = match tree {
        // A cast to text never turns `today` into a date, so any text is allowed.
        Tree::Value(value) if matches!(data_type, DataType::Text) => {
            Box::new(Expr::Literal(literal(&value.value)?))
        }
        other => boxed(other)?,
    };
    Ok(if is_short { Expr::ShortCast(expr, ty) } else { Expr::Cast(expr, ty) })
}

fn interval(interval: &Interval) -> Result<Expr, FilterError> {
    let plain = interval.leading_field.is_none()
        && interval.leading_precision.is_none()
        && interval.last_field.is_none()
        && interval.fractional_seconds_precision.is_none();
    match &*interval.value {
        Tree::Value(value) if plain => still(&value.value).map(Expr::Interval),
        _ => refused("an interval with fields; write e.g. INTERVAL '1 day'"),
    }
}

/// A literal whose type the server chooses. It may be a date, so it must not be a relative one such as
/// `today`.
fn still(value: &Value) -> Result<Literal, FilterError> {
    let literal = literal(value)?;
    match &literal {
        Literal::Text(text) if is_moving(text) => Err(FilterError::Moving(shorten(text))),
        _ => Ok(literal),
    }
}

fn literal(value: &Value) -> Result<Literal, FilterError> {
    Ok(match value {
        Value::Number(digits, long) => Literal::Number(number(digits, *long)?),
        Value::SingleQuotedString(s) | Value::EscapedStringLiteral(s) | Value::UnicodeStringLiteral(s) => {
            Literal::Text(s.clone())
        }
        Value::DollarQuotedString(s) => Literal::Text(s.value.clone()),
        Value::Boolean(value) => Literal::Boolean(*value),
        Value::Null => Literal::Null,
        Value::Placeholder(_) => return refused("a parameter such as $1"),
        Value::HexStringLiteral(_) | Value::SingleQuotedByteStringLiteral(_) => {
            return refused("a bit string");
        }
        _ => return refused("a string of another database's kind; write it as '...'"),
    })
}

fn operator(op: &BinaryOperator) -> Result<Binary, FilterError> {
    Ok(match op {
        BinaryOperator::And => Binary::And,
        BinaryOperator::Or => Binary::Or,
        BinaryOperator::Eq => Binary::Eq,
        BinaryOperator::NotEq => Binary::NotEq,
        BinaryOperator::Lt => Binary::Lt,
        BinaryOperator::LtEq => Binary::LtEq,
        BinaryOperator::Gt => Binary::Gt,
        BinaryOperator::GtEq => Binary::GtEq,
        BinaryOperator::Plus => Binary::Plus,
        BinaryOperator::Minus => Binary::Minus,
        BinaryOperator::Multiply => Binary::Multiply,
        BinaryOperator::Divide => Binary::Divide,
        BinaryOperator::Modulo => Binary::Modulo,
        BinaryOperator::PGExp => Binary::Power,
        BinaryOperator::StringConcat => Binary::Concat,
        BinaryOperator::BitwiseAnd => Binary::BitwiseAnd,
        BinaryOperator::BitwiseOr => Binary::BitwiseOr,
        BinaryOperator::PGBitwiseShiftLeft => Binary::ShiftLeft,
        BinaryOperator::PGBitwiseShiftRight => Binary::ShiftRight,
        other => return refused(format!("the operator `{other}`")),
    })
}

/// Types whose input depends on nothing but its text.
fn plain_type(data_type: &DataType) -> Result<PlainType, FilterError> {
    const OTHERS: [&str; 9] =
        ["bpchar", "cidr", "citext", "inet", "macaddr", "macaddr8", "money", "name", "oid"];
    let plain = match data_type {
        DataType::Bool
        | DataType::Boolean
        | DataType::Int2(None)
        | DataType::SmallInt(None)
        | DataType::Int(None)
        | DataType::Int4(None)
        | DataType::Integer(None)
        | DataType::Int8(None)
        | DataType::BigInt(None)
        | DataType::Real
        | DataType::Float4
        | DataType::Float8
        | DataType::Float(_)
        | DataType::DoublePrecision
        | DataType::Numeric(_)
        | DataType::Decimal(_)
        | DataType::Dec(_)
        | DataType::Text
        | DataType::Varchar(_)
        | DataType::CharacterVarying(_)
        | DataType::CharVarying(_)
        | DataType::Char(_)
        | DataType::Character(_)
        | DataType::Uuid
        | DataType::Date
        | DataType::Time(..)
        | DataType::Timestamp(..)
        | DataType::JSON
        | DataType::JSONB
        | DataType::Bytea => true,
        DataType::Interval { fields, precision } => fields.is_none() && precision.is_none(),
        DataType::Custom(name, modifiers) if modifiers.is_empty() => match name.0.as_slice() {
            [ObjectNamePart::Identifier(ident)] => {
                let folded = ident.value.to_ascii_lowercase();
                if ident.quote_style.is_none() && OTHERS.contains(&folded.as_str()) {
                    return Ok(PlainType(folded));
                }
                false
            }
            _ => false,
        },
        _ => false,
    };
    if plain {
        Ok(PlainType(data_type.to_string()))
    } else {
        refused(format!("a cast to `{}`", shorten(&data_type.to_string())))
    }
}

/// The name of a node that is not allowed, for people.
fn describe(tree: &Tree) -> String {
    match tree {
        Tree::Function(f) => format!("the function `{}`", shorten(&f.name.to_string())),
        Tree::Subquery(_) | Tree::InSubquery { .. } | Tree::Exists { .. } => "a subquery".into(),
        Tree::AnyOp { .. } | Tree::AllOp { .. } => "ANY or ALL".into(),
        Tree::Like { .. } | Tree::ILike { .. } => "LIKE ANY".into(),
        Tree::SimilarTo { .. } | Tree::RLike { .. } => "a regular expression".into(),
        Tree::Case { .. } => "CASE".into(),
        Tree::Extract { .. } => "the function `extract`".into(),
        Tree::Ceil { .. } => "the function `ceil`".into(),
        Tree::Floor { .. } => "the function `floor`".into(),
        Tree::Position { .. } => "the function `position`".into(),
        Tree::Substring { .. } => "the function `substring`".into(),
        Tree::Trim { .. } => "the function `trim`".into(),
        Tree::Overlay { .. } => "the function `overlay`".into(),
        Tree::Convert { .. } => "the function `convert`".into(),
        Tree::AtTimeZone { .. } => "AT TIME ZONE".into(),
        Tree::Collate { .. } => "COLLATE".into(),
        Tree::Tuple(_) => "a row of values".into(),
        Tree::Array(_) => "an array".into(),
        Tree::CompoundFieldAccess { .. } | Tree::JsonAccess { .. } => "a subscript or field".into(),
        Tree::Wildcard(_) | Tree::QualifiedWildcard(..) => "`*`".into(),
        _ => "an expression of another kind".into(),
    }
}
