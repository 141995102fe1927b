//! Why a connection string is refused. No message shows any text of the string, or of a service file.

use super::place::Place;

/// Why a connection string was refused. It contains no text of the string.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidDsn {
    /// No scheme and no `=`.
    #[error("it must look like postgres://user@host/database or host=… dbname=…")]
    NeitherForm,
    /// No scheme of Vertica and no `=`.
    #[error("it must look like vertica://user@host/database or host=… dbname=…")]
    NotOfVertica,
    /// A `@` is at a place where the author cannot have meant it.
    #[error(
        "a `@`, `/` or `?` stands where it ends a part of the URL: write `@` as %40, `/` as %2F, `?` as %3F, `:` as %3A, \
         `&` as %26 and `%` as %25 inside of user, password and parameters"
    )]
    StrayAt,
    /// A space or a control character.
    #[error("a URL has no spaces: write a space as %20")]
    Whitespace,
    /// A percent sign.
    #[error("a percent sign stands before two hex digits other than 00: write `%` itself as %25")]
    Percent,
    /// Brackets of an IPv6 address.
    #[error(
        "an IPv6 address stands in brackets before its port, e.g. postgres://user@[fe80::1]:5432/database"
    )]
    Brackets,
    /// A setting within a name.
    #[error(
        "a setting stands in its `{0}`: those of a URL begin after a `?` and are set apart by `&`, others by spaces"
    )]
    Within(&'static str),
    /// A host with characters that no host has.
    #[error(
        "its host has a sign that no host name has; if it is one of the password or of a parameter, write `@` as %40, \
         `/` as %2F, `:` as %3A, `?` as %3F, `&` as %26; the directory of a socket begins with a slash"
    )]
    HostSigns,
    /// A port that is not a number in range.
    #[error(
        "a port is a number from 1 to 65535; if what follows the colon is a password: it stands before a `@`, with `@` \
         written as %40, `/` as %2F and `:` as %3A"
    )]
    Port,
    /// A parameter without value.
    #[error(
        "its setting number {0} has no `=`; a `&` of a value is written %26, and a value with spaces in quotes"
    )]
    NoEquals(usize),
    /// A parameter with two values.
    #[error("its setting number {0} has two `=`: write the one of the value as %3D")]
    TwoEquals(usize),
    /// A quote without end.
    #[error("the value of its setting number {0} has a quote that is never closed")]
    OpenQuote(usize),
    /// A keyword that libpq does not know.
    #[error(
        "its setting number {0} is none of PostgreSQL's; is it part of a value? `&` of a value is written %26, and a \
         value with spaces in quotes"
    )]
    Unknown(usize),
    /// A keyword that is nearly one of libpq's.
    #[error("its setting number {0} is none of PostgreSQL's; did you mean `{1}`?")]
    Misspelled(usize, &'static str),
    /// A keyword that no source has, in a string of Vertica.
    #[error(
        "its setting number {0} is none that a Vertica source has; is it part of a value? `&` of a value is written \
         %26, and a value with spaces in quotes"
    )]
    UnknownToVertica(usize),
    /// A keyword that is nearly one of Vertica's.
    #[error("its setting number {0} is none that a Vertica source has; did you mean `{1}`?")]
    MisspelledForVertica(usize, &'static str),
    /// A setting of Vertica's own clients.
    #[error("its setting `{0}` is one of Vertica's clients and not of this program: {1}")]
    OfVerticasClients(&'static str, &'static str),
    /// Brackets of an IPv6 address, in a string of Vertica.
    #[error(
        "an IPv6 address stands in brackets before its port, e.g. vertica://user@[fe80::1]:5433/database"
    )]
    BracketsOfVertica,
    /// Host, database or user is missing in a string of Vertica.
    #[error("it names no {0}; write e.g. vertica://user@node1.example/warehouse")]
    NotNamedForVertica(&'static str),
    /// A value that is not valid.
    #[error("the value of `{0}` cannot be used; use {1}")]
    Value(&'static str, &'static str),
    /// A number that is out of bounds.
    #[error("the value of `{0}` cannot be used; use a number from {1} to {2}")]
    Number(&'static str, i64, i64),
    /// A setting that this client does not support.
    #[error("`{0}` is not supported as it stands there: {1}")]
    Unsupported(&'static str, &'static str),
    /// One of two settings that belong together is missing.
    #[error("`{0}` needs `{1}` as well")]
    Missing(&'static str, &'static str),
    /// No host.
    #[error("it names no host; write e.g. postgres://user@db.example/warehouse")]
    NoHost,
    /// No database.
    #[error("it names no database; write e.g. postgres://user@db.example/warehouse")]
    NoDatabase,
    /// No user.
    #[error("it names no user; write e.g. postgres://user@db.example/warehouse")]
    NoUser,
    /// `sslnegotiation` without TLS.
    #[error("sslnegotiation=direct needs sslmode=require or a stronger one")]
    WeakDirect,
    /// `sslrootcert=system` without a check of the name.
    #[error(
        "sslrootcert=system needs sslmode=verify-full, for anybody may have a certificate of a public CA"
    )]
    WeakSystem,
    /// Lists of different lengths.
    #[error("it has {1} values of {0} for {2} hosts")]
    Counts(&'static str, usize, usize),
    /// A service file that somebody named cannot be read.
    #[error("its service cannot be looked up: {0}: {1}")]
    ServiceFile(String, String),
    /// A line of a service file.
    #[error("{0}: {1}")]
    ServiceLine(String, Wrong),
    /// No service file has the service.
    #[error("its service is not defined: no section in {0} has its name in brackets")]
    NoService(String),
    /// Something is missing that a variable would set.
    #[error(
        "it names no {0}, and {1} is not read: set `environment = true` in the source's section, or write it into the dsn"
    )]
    UnreadVariable(&'static str, &'static str),
    /// A value that is not of the string itself.
    #[error("{0} (set by {1})")]
    SetBy(Box<InvalidDsn>, Place),
    /// What is wrong or missing may be set elsewhere than in the string.
    #[error("{0}")]
    Around(Box<InvalidDsn>),
}

impl InvalidDsn {
    /// Whether the string itself may be right: in the surroundings of another process, or after a change of a
    /// service file, it may lead somewhere.
    #[must_use]
    pub fn is_around(&self) -> bool {
        matches!(self, Self::ServiceFile(..) | Self::ServiceLine(..) | Self::NoService(_) | Self::Around(_))
    }

    /// Whether several settings do not go together, which may stand in different places.
    pub(super) fn is_of_several(&self) -> bool {
        matches!(self, Self::Missing(..) | Self::Counts(..) | Self::WeakDirect | Self::WeakSystem)
    }

    /// The setting that is wrong or missing, if it may be set elsewhere than in the string.
    pub(super) fn keyword(&self) -> Option<&'static str> {
        match self {
            Self::Within(keyword)
            | Self::Value(keyword, _)
            | Self::Number(keyword, ..)
            | Self::Unsupported(keyword, _)
            | Self::Missing(keyword, _)
            | Self::Counts(keyword, ..) => Some(keyword),
            Self::HostSigns | Self::NoHost => Some("host"),
            Self::NoUser => Some("user"),
            Self::NoDatabase => Some("dbname"),
            Self::Port => Some("port"),
            Self::WeakDirect => Some("sslnegotiation"),
            Self::WeakSystem => Some("sslmode"),
            _ => None,
        }
    }

    /// The same for a string of Vertica, whose settings and URLs are others. `honoured` are its keywords.
    pub(super) fn of_vertica(self, honoured: &[&str]) -> Self {
        match self {
            Self::Unknown(number) => Self::UnknownToVertica(number),
            Self::Misspelled(number, meant) if honoured.contains(&meant) => {
                Self::MisspelledForVertica(number, meant)
            }
            Self::Misspelled(number, _) => Self::UnknownToVertica(number),
            Self::Brackets => Self::BracketsOfVertica,
            Self::NoHost => Self::NotNamedForVertica("host"),
            Self::NoDatabase => Self::NotNamedForVertica("database"),
            Self::NoUser => Self::NotNamedForVertica("user"),
            other => other,
        }
    }
}

/// What is wrong with a line of a service file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It is no setting.
    #[error("it is no setting; write keyword=value")]
    NoSetting,
    /// A look-up in a directory.
    #[error("services of an LDAP server are not looked up; write the settings themselves")]
    Ldap,
    /// The keyword is none of libpq's.
    #[error(
        "its keyword is none of PostgreSQL's; write keyword=value without a space before the equals sign, e.g. host=db.example"
    )]
    Unknown,
    /// A service within a service.
    #[error("a service cannot name another service; write the settings themselves")]
    Nested,
    /// A zero byte.
    #[error("a value has no zero bytes")]
    Zero,
}
