//! Errors of PgBouncer itself. They all have SQLSTATE 08P01, which usually means a broken connection. Some of
//! them stay until somebody changes a setting.

use crate::source::ErrorKind;

/// Words of a message, the kind of error, and the setting to change.
const SAID: [(&str, ErrorKind, &str); 8] = [
    (
        "statement pooling mode",
        ErrorKind::Permanent,
        "an export needs transactions: set pool_mode = transaction (or session) in PgBouncer",
    ),
    (
        "query_wait_timeout",
        ErrorKind::Exhausted,
        "PgBouncer had no connection to the server for so long: raise its default_pool_size, or run fewer chunks at once",
    ),
    (
        "max_client_conn",
        ErrorKind::Exhausted,
        "PgBouncer takes no more connections: raise its max_client_conn",
    ),
    ("query timeout", ErrorKind::Permanent, "set query_timeout = 0 in PgBouncer"),
    // This entry comes before the next one, because its words contain the next one's.
    ("idle transaction timeout", ErrorKind::Transient, "set idle_transaction_timeout = 0 in PgBouncer"),
    ("transaction timeout", ErrorKind::Permanent, "set transaction_timeout = 0 in PgBouncer"),
    (
        "unsupported startup parameter",
        ErrorKind::Permanent,
        "PgBouncer takes no `options` from a connection string: leave them out, or name them in its \
         ignore_startup_parameters",
    ),
    ("no such database", ErrorKind::Permanent, "name the database under [databases] of PgBouncer"),
];

/// Kind and remedy of a message with SQLSTATE 08P01, if PgBouncer wrote it.
pub(super) fn meaning_of(message: &str) -> Option<(ErrorKind, &'static str)> {
    SAID.iter().find(|(words, ..)| message.contains(words)).map(|(_, kind, remedy)| (*kind, *remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_are_wrong_are_told_from_connections_that_broke() {
        let kind = |message| meaning_of(message).map(|(kind, _)| kind);
        assert_eq!(
            kind("transaction blocks not allowed in statement pooling mode"),
            Some(ErrorKind::Permanent)
        );
        assert_eq!(kind("query_wait_timeout"), Some(ErrorKind::Exhausted));
        assert_eq!(kind("query timeout"), Some(ErrorKind::Permanent));
        assert_eq!(kind("idle transaction timeout"), Some(ErrorKind::Transient));
        assert_eq!(kind("transaction timeout"), Some(ErrorKind::Permanent));
        assert_eq!(kind("no more connections allowed (max_client_conn)"), Some(ErrorKind::Exhausted));
        assert_eq!(kind("unsupported startup parameter: options"), Some(ErrorKind::Permanent));
        assert_eq!(kind("server conn crashed?"), None);
        assert_eq!(kind("invalid message format"), None);
    }
}
