//! Prints checked filters: the list of what a simple one may contain is the
//! `match` of [`Printer::expr`].

use sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, Ident, Interval, ObjectNamePart, UnaryOperator, Value,
};
use sqlparser::tokenizer::Token;

use super::{FilterError, is_moving, refused, shorten};

/// Prints a tree of the nodes that a simple filter may have.
pub(super) fn print_tree(expr: &Expr) -> Result<String, FilterError> {
    let mut printer = Printer::default();
    printer.expr(expr)?;
    Ok(printer.text)
}

/// Prints tokens one by one: for filters that may contain everything. The
/// parser's own printing of strings is not used, because it takes `\'` and
/// `''` inside of values for escapes.
pub(super) fn print_tokens(tokens: &[Token]) -> Result<String, FilterError> {
    let mut printer = Printer::default();
    for token in tokens {
        match token {
            Token::Word(word) if word.quote_style.is_some() => printer.push(&quote_identifier(&word.value)),
            Token::Number(digits, long) => printer.number(digits, *long)?,
            Token::SingleQuotedString(s)
            | Token::UnicodeStringLiteral(s)
            | Token::EscapedStringLiteral(s) => {
                printer.push(&quote_string(s));
            }
            Token::DollarQuotedString(s) => printer.push(&quote_string(&s.value)),
            Token::SingleQuotedByteStringLiteral(s) => printer.bits('B', s)?,
            Token::HexStringLiteral(s) => printer.bits('X', s)?,
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
            token => printer.push(&token.to_string()),
        }
    }
    Ok(printer.text)
}

/// An identifier that the server takes as it stands.
fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string literal that reads the same under every setting of the server.
pub(super) fn quote_string(value: &str) -> String {
    let value = value.replace('\'', "''");
    if value.contains('\\') { format!("E'{}'", value.replace('\\', "\\\\")) } else { format!("'{value}'") }
}

/// Unquoted identifiers are folded as the server folds them.
fn identifier(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => quote_identifier(&ident.value),
        None => quote_identifier(&ident.value.to_ascii_lowercase()),
    }
}

/// Collects words with one space between them.
#[derive(Default)]
struct Printer {
    text: String,
}

impl Printer {
    fn push(&mut self, word: &str) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(word);
    }

    fn number(&mut self, digits: &str, long: bool) -> Result<(), FilterError> {
        let plain = digits.replace('_', "");
        let fits = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-');
        if long || !plain.chars().all(fits) {
            return refused(format!("the number `{}`", shorten(digits)));
        }
        self.push(&plain);
        Ok(())
    }

    fn bits(&mut self, prefix: char, digits: &str) -> Result<(), FilterError> {
        if !digits.chars().all(|c| c.is_ascii_hexdigit()) {
            return refused("a bit string with other characters than digits");
        }
        self.push(&format!("{prefix}'{digits}'"));
        Ok(())
    }

    fn expr(&mut self, expr: &Expr) -> Result<(), FilterError> {
        match expr {
            Expr::Identifier(ident) => self.push(&identifier(ident)),
            Expr::CompoundIdentifier(idents) => {
                self.push(&idents.iter().map(identifier).collect::<Vec<_>>().join("."));
            }
            Expr::Value(value) => self.value(&value.value)?,
            Expr::TypedString(typed) if !typed.uses_odbc_syntax => {
                self.push(&plain_type(&typed.data_type)?);
                self.value(&typed.value.value)?;
            }
            Expr::Interval(interval) => self.interval(interval)?,
            Expr::Nested(inner) => {
                self.push("(");
                self.expr(inner)?;
                self.push(")");
            }
            Expr::UnaryOp { op, expr } => {
                self.push(match op {
                    UnaryOperator::Not => "NOT",
                    UnaryOperator::Minus => "-",
                    UnaryOperator::Plus => "+",
                    UnaryOperator::BitwiseNot => "~",
                    other => return refused(format!("the operator `{other}`")),
                });
                self.expr(expr)?;
            }
            Expr::BinaryOp { .. } => self.chain(expr)?,
            Expr::Cast { kind, expr, data_type, format: None } => self.cast(kind, expr, data_type)?,
            Expr::IsNull(e) => self.suffixed(e, "IS NULL")?,
            Expr::IsNotNull(e) => self.suffixed(e, "IS NOT NULL")?,
            Expr::IsTrue(e) => self.suffixed(e, "IS TRUE")?,
            Expr::IsNotTrue(e) => self.suffixed(e, "IS NOT TRUE")?,
            Expr::IsFalse(e) => self.suffixed(e, "IS FALSE")?,
            Expr::IsNotFalse(e) => self.suffixed(e, "IS NOT FALSE")?,
            Expr::IsUnknown(e) => self.suffixed(e, "IS UNKNOWN")?,
            Expr::IsNotUnknown(e) => self.suffixed(e, "IS NOT UNKNOWN")?,
            Expr::IsDistinctFrom(a, b) => self.joined(a, "IS DISTINCT FROM", b)?,
            Expr::IsNotDistinctFrom(a, b) => self.joined(a, "IS NOT DISTINCT FROM", b)?,
            Expr::InList { expr, list, negated } => {
                self.suffixed(expr, if *negated { "NOT IN (" } else { "IN (" })?;
                for (i, item) in list.iter().enumerate() {
                    if i > 0 {
                        self.push(",");
                    }
                    self.expr(item)?;
                }
                self.push(")");
            }
            Expr::Between { expr, negated, low, high } => {
                self.joined(expr, if *negated { "NOT BETWEEN" } else { "BETWEEN" }, low)?;
                self.push("AND");
                self.expr(high)?;
            }
            Expr::Like { negated, any: false, expr, pattern, escape_char } => {
                self.joined(expr, if *negated { "NOT LIKE" } else { "LIKE" }, pattern)?;
                self.escape(escape_char.as_deref())?;
            }
            Expr::ILike { negated, any: false, expr, pattern, escape_char } => {
                self.joined(expr, if *negated { "NOT ILIKE" } else { "ILIKE" }, pattern)?;
                self.escape(escape_char.as_deref())?;
            }
            other => return refused(describe(other)),
        }
        Ok(())
    }

    fn suffixed(&mut self, expr: &Expr, suffix: &str) -> Result<(), FilterError> {
        self.expr(expr)?;
        self.push(suffix);
        Ok(())
    }

    fn joined(&mut self, left: &Expr, word: &str, right: &Expr) -> Result<(), FilterError> {
        self.suffixed(left, word)?;
        self.expr(right)
    }

    fn escape(&mut self, escape: Option<&Expr>) -> Result<(), FilterError> {
        let Some(escape) = escape else { return Ok(()) };
        self.push("ESCAPE");
        self.expr(escape)
    }

    /// `a AND b AND c …`: long chains lean to the left, so that side is walked
    /// without recursion.
    fn chain(&mut self, expr: &Expr) -> Result<(), FilterError> {
        let mut rest = Vec::new();
        let mut left = expr;
        while let Expr::BinaryOp { left: next, op, right } = left {
            rest.push((operator(op)?, right));
            left = next;
        }
        self.expr(left)?;
        for (op, right) in rest.into_iter().rev() {
            self.push(op);
            self.expr(right)?;
        }
        Ok(())
    }

    fn cast(&mut self, kind: &CastKind, expr: &Expr, data_type: &DataType) -> Result<(), FilterError> {
        let name = plain_type(data_type)?;
        let (before, between, after) = match kind {
            CastKind::DoubleColon => (None, "::", None),
            CastKind::Cast => (Some("CAST ("), "AS", Some(")")),
            CastKind::TryCast | CastKind::SafeCast => return refused("TRY_CAST or SAFE_CAST"),
        };
        before.into_iter().for_each(|word| self.push(word));
        match expr {
            // A text stays what it is, whatever it says.
            Expr::Value(value) if matches!(data_type, DataType::Text) => self.literal(&value.value)?,
            other => self.expr(other)?,
        }
        self.push(between);
        self.push(&name);
        after.into_iter().for_each(|word| self.push(word));
        Ok(())
    }

    fn interval(&mut self, interval: &Interval) -> Result<(), FilterError> {
        let plain = interval.leading_field.is_none()
            && interval.leading_precision.is_none()
            && interval.last_field.is_none()
            && interval.fractional_seconds_precision.is_none();
        match &*interval.value {
            Expr::Value(value) if plain => {
                self.push("INTERVAL");
                self.value(&value.value)
            }
            _ => refused("an interval with fields; write e.g. INTERVAL '1 day'"),
        }
    }

    /// A literal whose type the server finds out: it may be a date.
    fn value(&mut self, value: &Value) -> Result<(), FilterError> {
        let text = match value {
            Value::SingleQuotedString(s)
            | Value::EscapedStringLiteral(s)
            | Value::UnicodeStringLiteral(s) => s,
            Value::DollarQuotedString(s) => &s.value,
            _ => "",
        };
        if is_moving(text) {
            return Err(FilterError::Moving(shorten(text)));
        }
        self.literal(value)
    }

    fn literal(&mut self, value: &Value) -> Result<(), FilterError> {
        match value {
            Value::Number(digits, long) => self.number(digits, *long)?,
            Value::SingleQuotedString(s)
            | Value::EscapedStringLiteral(s)
            | Value::UnicodeStringLiteral(s) => {
                self.push(&quote_string(s));
            }
            Value::DollarQuotedString(s) => self.push(&quote_string(&s.value)),
            Value::Boolean(true) => self.push("TRUE"),
            Value::Boolean(false) => self.push("FALSE"),
            Value::Null => self.push("NULL"),
            Value::Placeholder(_) => return refused("a parameter such as $1"),
            Value::HexStringLiteral(_) | Value::SingleQuotedByteStringLiteral(_) => {
                return refused("a bit string");
            }
            _ => return refused("a string of another database's kind; write it as '...'"),
        }
        Ok(())
    }
}

fn operator(op: &BinaryOperator) -> Result<&'static str, FilterError> {
    Ok(match op {
        BinaryOperator::And => "AND",
        BinaryOperator::Or => "OR",
        BinaryOperator::Eq => "=",
        BinaryOperator::NotEq => "<>",
        BinaryOperator::Lt => "<",
        BinaryOperator::LtEq => "<=",
        BinaryOperator::Gt => ">",
        BinaryOperator::GtEq => ">=",
        BinaryOperator::Plus => "+",
        BinaryOperator::Minus => "-",
        BinaryOperator::Multiply => "*",
        BinaryOperator::Divide => "/",
        BinaryOperator::Modulo => "%",
        BinaryOperator::PGExp => "^",
        BinaryOperator::StringConcat => "||",
        BinaryOperator::BitwiseAnd => "&",
        BinaryOperator::BitwiseOr => "|",
        BinaryOperator::PGBitwiseShiftLeft => "<<",
        BinaryOperator::PGBitwiseShiftRight => ">>",
        other => return refused(format!("the operator `{other}`")),
    })
}

/// Types whose input reads nothing but its text.
fn plain_type(data_type: &DataType) -> Result<String, FilterError> {
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
                    return Ok(folded);
                }
                false
            }
            _ => false,
        },
        _ => false,
    };
    if plain {
        Ok(data_type.to_string())
    } else {
        refused(format!("a cast to `{}`", shorten(&data_type.to_string())))
    }
}

/// What a person would call a node that is not allowed.
fn describe(expr: &Expr) -> String {
    match expr {
        Expr::Function(f) => format!("the function `{}`", shorten(&f.name.to_string())),
        Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => "a subquery".into(),
        Expr::AnyOp { .. } | Expr::AllOp { .. } => "ANY or ALL".into(),
        Expr::Like { .. } | Expr::ILike { .. } => "LIKE ANY".into(),
        Expr::SimilarTo { .. } | Expr::RLike { .. } => "a regular expression".into(),
        Expr::Case { .. } => "CASE".into(),
        Expr::Extract { .. } => "the function `extract`".into(),
        Expr::Ceil { .. } => "the function `ceil`".into(),
        Expr::Floor { .. } => "the function `floor`".into(),
        Expr::Position { .. } => "the function `position`".into(),
        Expr::Substring { .. } => "the function `substring`".into(),
        Expr::Trim { .. } => "the function `trim`".into(),
        Expr::Overlay { .. } => "the function `overlay`".into(),
        Expr::Convert { .. } => "the function `convert`".into(),
        Expr::AtTimeZone { .. } => "AT TIME ZONE".into(),
        Expr::Collate { .. } => "COLLATE".into(),
        Expr::Tuple(_) => "a row of values".into(),
        Expr::Array(_) => "an array".into(),
        Expr::CompoundFieldAccess { .. } | Expr::JsonAccess { .. } => "a subscript or field".into(),
        Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => "`*`".into(),
        _ => "an expression of another kind".into(),
    }
}
