//! Checked expressions as data. These types cannot hold what a simple filter may not contain, so that code
//! that prints a filter has nothing to refuse.

/// A checked expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// An expression of columns, literals and operators.
    Simple(Expr),
    /// Any expression: its words, in the source's own language.
    Free(Vec<Word>),
}

/// A simple expression. It has parentheses only where the text had them, so that the server applies its own
/// rules of precedence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// A column, perhaps with qualifiers. Names are folded as the server folds them.
    Column(Vec<String>),
    /// A literal.
    Literal(Literal),
    /// `DATE '2026-01-31'`
    Typed(PlainType, Literal),
    /// `INTERVAL '1 day'`
    Interval(Literal),
    /// `(…)`
    Nested(Box<Expr>),
    /// An operator before its operand.
    Unary(Unary, Box<Expr>),
    /// `a AND b AND c …`, from left to right.
    Chain(Box<Expr>, Vec<(Binary, Expr)>),
    /// `… :: type`
    ShortCast(Box<Expr>, PlainType),
    /// `CAST (… AS type)`
    Cast(Box<Expr>, PlainType),
    /// `… IS …`
    Is(Box<Expr>, Test),
    /// `… IS DISTINCT FROM …`
    Distinct {
        /// `IS NOT DISTINCT FROM`
        negated: bool,
        /// Left side.
        left: Box<Expr>,
        /// Right side.
        right: Box<Expr>,
    },
    /// `… IN (…)`
    In {
        /// `NOT IN`
        negated: bool,
        /// The value to find.
        expr: Box<Expr>,
        /// The values to search.
        list: Vec<Expr>,
    },
    /// `… BETWEEN … AND …`
    Between {
        /// `NOT BETWEEN`
        negated: bool,
        /// What is compared.
        expr: Box<Expr>,
        /// Lowest value.
        low: Box<Expr>,
        /// Highest value.
        high: Box<Expr>,
    },
    /// `… LIKE …`
    Like {
        /// `NOT LIKE`
        negated: bool,
        /// `ILIKE`
        any_case: bool,
        /// What is compared.
        expr: Box<Expr>,
        /// The pattern.
        pattern: Box<Expr>,
        /// `ESCAPE …`
        escape: Option<Box<Expr>>,
    },
}

/// A literal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Literal {
    /// Digits, perhaps with a decimal point and an exponent.
    Number(String),
    /// The value of a text.
    Text(String),
    /// True or false.
    Boolean(bool),
    /// No value.
    Null,
}

/// A type whose input depends on nothing but its text, as SQL spells it, e.g. `NUMERIC(10,2)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainType(pub(super) String);

impl PlainType {
    /// The type's name in SQL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Operators before one operand, as SQL writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    /// `NOT`
    Not,
    /// `-`
    Minus,
    /// `+`
    Plus,
    /// `~`
    BitwiseNot,
}

/// Operators between two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `AND`
    And,
    /// `OR`
    Or,
    /// `=`
    Eq,
    /// `<>`
    NotEq,
    /// `<`
    Lt,
    /// `<=`
    LtEq,
    /// `>`
    Gt,
    /// `>=`
    GtEq,
    /// `+`
    Plus,
    /// `-`
    Minus,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Modulo,
    /// `^`
    Power,
    /// `||`
    Concat,
    /// `&`
    BitwiseAnd,
    /// `|`
    BitwiseOr,
    /// `<<`
    ShiftLeft,
    /// `>>`
    ShiftRight,
}

/// What stands after `IS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// `NULL`
    Null,
    /// `NOT NULL`
    NotNull,
    /// `TRUE`
    True,
    /// `NOT TRUE`
    NotTrue,
    /// `FALSE`
    False,
    /// `NOT FALSE`
    NotFalse,
    /// `UNKNOWN`
    Unknown,
    /// `NOT UNKNOWN`
    NotUnknown,
}

/// One word of a free expression, without white space and comments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// As written: a keyword, a bare name, an operator.
    Bare(String),
    /// A name that was quoted.
    Name(String),
    /// Digits, perhaps with a decimal point and an exponent.
    Number(String),
    /// The value of a text.
    Text(String),
    /// A bit string: `B` or `X`, and its digits.
    Bits(char, String),
}
