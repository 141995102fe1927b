//! What a server is: its version, its product, the settings that it knows. Asked of the server at the first
//! connection, and again when its version has changed. Nothing is concluded from the version's text.

use tokio_postgres::SimpleQueryRow;

use super::quote::texts;

/// Settings that decide how texts and names are written, what literals mean, and which rows are visible. They
/// are the same for planning and for every chunk, whatever role and database set. A plan may override them.
/// A server gets only those that it knows: releases and products differ.
/// `row_security = off` makes the server refuse a query from which a policy would silently remove rows,
/// because that would lose data. The list leaves out settings that only a superuser may change, limits and
/// costs, and settings without one right value, because they depend on the installation: `lc_monetary`,
/// `default_text_search_config`, and settings of extensions.
pub(super) const SETTINGS: [(&str, &str); 27] = [
    ("TimeZone", "UTC"),
    ("timezone_abbreviations", "Default"),
    ("DateStyle", "ISO, YMD"),
    ("IntervalStyle", "postgres"),
    // The shortest exact text since PostgreSQL 12, and enough digits to be exact before.
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("xmlbinary", "base64"),
    ("xmloption", "content"),
    ("lc_numeric", "C"),
    ("lc_time", "C"),
    ("quote_all_identifiers", "off"),
    ("array_nulls", "on"),
    ("backslash_quote", "safe_encoding"),
    ("standard_conforming_strings", "on"),
    ("transform_null_equals", "off"),
    // A GIN index would return only a random part of the matching rows.
    ("gin_fuzzy_search_limit", "0"),
    ("search_path", "pg_catalog"),
    ("row_security", "off"),
    // Chunks already run in parallel, and queries with a single scan gain nothing from JIT.
    ("max_parallel_workers_per_gather", "0"),
    ("jit", "off"),
    // A scan of a whole table begins at its first page, so that the file is the same every time.
    ("synchronize_seqscans", "off"),
    // Current constraints say nothing about the rows of a snapshot.
    ("constraint_exclusion", "off"),
    // Greenplum: its own optimizer takes five times as long to plan a scan, and plans it no better.
    ("optimizer", "off"),
    // Let the server notice that a client is gone: within a second while a query runs, and within about two
    // minutes otherwise.
    ("client_connection_check_interval", "1s"),
    ("tcp_keepalives_idle", "60"),
    ("tcp_keepalives_interval", "10"),
    ("tcp_keepalives_count", "6"),
];

/// Settings, besides [`SETTINGS`], that only some servers know: those that end a transaction after a time, besides
/// `statement_timeout` (the first since PostgreSQL 9.6, the second since 17).
pub(super) const TIMEOUTS: [&str; 2] = ["idle_in_transaction_session_timeout", "transaction_timeout"];

/// What a server is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServerFacts {
    /// The version text that it sends when a client logs in.
    pub(super) text: String,
    /// The same as a number: 150020 for 15.20, 90426 for 9.4.26. 0 before the first connection.
    pub(super) version: u32,
    /// What Greenplum servers differ in; none for PostgreSQL.
    pub(super) greenplum: Option<Greenplum>,
    settings: Vec<String>,
}

/// What Greenplum and its relatives (Greengage, WarehousePG, Cloudberry) differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Greenplum {
    /// Whether `pg_class` says how a table is stored (`relstorage`), as up to version 6. Later versions say it
    /// by the access method.
    pub(super) has_relstorage: bool,
    /// Whether partitions are listed in `pg_partition_rule`, as up to version 6. Later versions have
    /// `pg_class.relispartition`.
    pub(super) has_partition_rules: bool,
}

impl ServerFacts {
    /// Reads the answer to [`question`].
    pub(super) fn of(text: &str, row: Option<&SimpleQueryRow>) -> Self {
        let yes = |i: usize| row.and_then(|row| row.get(i)) == Some("t");
        let settings = row.and_then(|row| row.get(0)).unwrap_or_default();
        Self {
            text: text.to_owned(),
            version: version_number(text).unwrap_or(0),
            greenplum: yes(1).then(|| Greenplum { has_relstorage: yes(2), has_partition_rules: yes(3) }),
            settings: settings.split(',').map(str::to_owned).collect(),
        }
    }

    /// Whether the server knows a setting of [`SETTINGS`] or [`TIMEOUTS`].
    pub(super) fn knows(&self, setting: &str) -> bool {
        self.settings.iter().any(|known| known.eq_ignore_ascii_case(setting))
    }

    #[cfg(test)]
    pub(super) fn knowing(version: u32, settings: &[&str]) -> Self {
        let settings = settings.iter().map(|&s| s.to_owned()).collect();
        Self { version, settings, ..Self::default() }
    }

    #[cfg(test)]
    pub(super) fn greenplum() -> Self {
        let greenplum = Some(Greenplum { has_relstorage: true, has_partition_rules: true });
        Self { version: 90_426, greenplum, ..Self::default() }
    }
}

/// SQL that asks for the settings that the server knows, and whether it is Greenplum.
pub(super) fn question() -> String {
    let names = SETTINGS.iter().map(|(name, _)| *name).chain(TIMEOUTS);
    let exists = |relation: &str| {
        format!(
            "EXISTS (SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = 'pg_catalog' AND c.relname = '{relation}')"
        )
    };
    format!(
        "SELECT pg_catalog.array_to_string(ARRAY( \
                  SELECT s.name FROM pg_catalog.pg_settings s WHERE s.name = ANY ({})), ','), \
                {}, \
                EXISTS (SELECT 1 FROM pg_catalog.pg_attribute a \
                        WHERE a.attrelid = 'pg_catalog.pg_class'::pg_catalog.regclass AND a.attname = 'relstorage'), \
                {}",
        texts(names),
        exists("gp_segment_configuration"),
        exists("pg_partition_rule"),
    )
}

/// `15.20 (Debian …)` → 150020, `9.4.26` → 90426, `18beta1` → 180000.
fn version_number(text: &str) -> Option<u32> {
    let mut parts = text
        .split(|c: char| !(c.is_ascii_digit() || c == '.'))
        .next()?
        .split('.')
        .map(|p| p.parse::<u32>().unwrap_or(0));
    let major = parts.next().filter(|m| *m > 0)?;
    let minor = parts.next().unwrap_or(0);
    Some(if major >= 10 {
        major * 10_000 + minor
    } else {
        major * 10_000 + minor * 100 + parts.next().unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_become_numbers() {
        for (text, number) in [
            ("15.20 (Debian 15.20-1)", 150_020),
            ("9.4.26", 90_426),
            ("18beta1", 180_000),
            ("12.12", 120_012),
        ] {
            assert_eq!(version_number(text), Some(number), "{text}");
        }
        assert_eq!(version_number("unknown"), None);
    }

    #[test]
    fn settings_are_known_whatever_their_case() {
        let server = ServerFacts::knowing(150_000, &["TimeZone"]);
        assert!(server.knows("timezone"));
        assert!(!server.knows("optimizer"));
    }
}
