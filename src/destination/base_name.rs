//! Names of table directories. A table takes another name if another table owns its base name, and a further
//! name if a directory of the name exists already. Pure: other modules find out who owns a name and which
//! directories exist.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode_byte, utf8_percent_encode};
use sha2::{Digest, Sha256};

use crate::message::SourceName;
use crate::message::request::OnConflict;

/// Bytes that become `%XX` anywhere in a name. Non-ASCII characters are escaped byte by byte too.
const ESCAPED: AsciiSet = NON_ALPHANUMERIC.remove(b'_').remove(b'.').remove(b'-');
/// Longest base name. It leaves room for version suffixes within the 255 bytes of file systems.
const MAX_BYTES: usize = 200;
/// Hexadecimal digits of a hash in a name.
const HASH_DIGITS: usize = 16;

/// The base names that a table may take, in the order in which they are tried: `<schema>_<table>`, then
/// `<source>_<schema>_<table>`, then one with a hash that no other table can claim.
#[must_use]
pub fn candidates(source: &SourceName, schema: &str, table: &str) -> [String; 3] {
    let identity = [source.as_str(), schema, table];
    let short = format!("{schema}_{table}");
    let long = format!("{source}_{short}");
    let last = with_hash(&encode(&long), identity);
    [fit(&short, identity), fit(&long, identity), last]
}

/// Encodes a text so that it is a safe file name in every shell and tool: bytes outside `[A-Za-z0-9_.-]`, a
/// leading dot or underscore and a trailing `_v<digits>` become `%XX`. Different texts stay different.
fn encode(text: &str) -> String {
    let mut name = utf8_percent_encode(text, &ESCAPED).to_string();
    // An escape never ends in `_v` and digits, so a version suffix here comes from the text itself.
    if let Some(at) = version_suffix(&name) {
        name.replace_range(at..=at, "%5F");
    }
    if let Some(first @ (b'_' | b'.')) = name.bytes().next() {
        name.replace_range(..1, percent_encode_byte(first));
    }
    name
}

/// Where `_v<digits>` at the end of the text begins.
fn version_suffix(text: &str) -> Option<usize> {
    let stem = text.trim_end_matches(|c: char| c.is_ascii_digit());
    (stem.len() < text.len() && stem.ends_with("_v")).then(|| stem.len() - 2)
}

/// The encoded text. If it is too long, it is cut and gets a hash of the table's identity.
fn fit(text: &str, identity: [&str; 3]) -> String {
    let name = encode(text);
    if name.len() <= MAX_BYTES { name } else { with_hash(&name, identity) }
}

/// A name that ends in a hash of the table's identity and respects the limit. The hyphen before the hash
/// keeps the hash from looking like a version.
fn with_hash(name: &str, identity: [&str; 3]) -> String {
    let mut digest = Sha256::new();
    for name in identity {
        digest.update((name.len() as u64).to_be_bytes());
        digest.update(name);
    }
    let hash = hex::encode(&digest.finalize()[..HASH_DIGITS / 2]);
    let mut cut = name.len().min(MAX_BYTES - HASH_DIGITS - 1);
    // Do not cut inside an escape.
    if let Some(percent) = name.as_bytes()[..cut].iter().rposition(|b| *b == b'%')
        && percent + 3 > cut
    {
        cut = percent;
    }
    format!("{}-{hash}", &name[..cut])
}

/// The n-th directory name of a table, counted from 0: the base name itself, then what `on_conflict` says.
/// `None` if no further name may be tried.
#[must_use]
pub fn directory(base: &str, on_conflict: OnConflict, n: u32, at: Timestamp) -> Option<String> {
    if n == 0 {
        return Some(base.to_owned());
    }
    let utc = at.to_zoned(TimeZone::UTC);
    Some(match (on_conflict, n) {
        (OnConflict::Fail, _) => return None,
        (OnConflict::Version, n) => format!("{base}_v{}", u64::from(n) + 1),
        (OnConflict::Timestamp, 1) => format!("{base}_{}", utc.strftime("%Y-%m-%d")),
        (OnConflict::Timestamp, 2) => format!("{base}_{}", utc.strftime("%Y-%m-%dT%H%M%SZ")),
        (OnConflict::Timestamp, n) => format!("{base}_{}_{}", utc.strftime("%Y-%m-%dT%H%M%SZ"), n - 1),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn base(schema: &str, table: &str) -> String {
        let [base, ..] = candidates(&source("warehouse"), schema, table);
        base
    }

    fn source(name: &str) -> SourceName {
        SourceName::parse(name).expect("valid")
    }

    #[test]
    fn plain_names_stay_as_they_are() {
        assert_eq!(base("public", "orders"), "public_orders");
        assert_eq!(base("Sales-EU", "a.b"), "Sales-EU_a.b");
        assert_eq!(base("public", "v2"), "public%5Fv2");
        assert_eq!(base("public", "orders_v"), "public_orders_v");
        assert_eq!(base("public", "orders_v2x"), "public_orders_v2x");
    }

    #[test]
    fn what_could_hide_leave_or_pass_for_a_version_is_encoded() {
        assert_eq!(base("public", "orders_v12"), "public_orders%5Fv12");
        assert_eq!(base(".latest", "x"), "%2Elatest_x");
        assert_eq!(base("_s", "x"), "%5Fs_x");
        assert_eq!(base("..", "/etc"), "%2E._%2Fetc");
        assert_eq!(base("a b", "ü%"), "a%20b_%C3%BC%25");
        assert_eq!(base("a\n", "\"q\""), "a%0A_%22q%22");
    }

    #[test]
    fn long_names_are_cut_between_escapes_and_stay_different() {
        for fill in ["x", "ü", " x"] {
            let (a, b) = (fill.repeat(300), format!("{}y", fill.repeat(300)));
            let (a, b) = (base("public", &a), base("public", &b));
            assert_ne!(a, b);
            for name in [a, b] {
                assert!(name.len() <= MAX_BYTES && name.len() > MAX_BYTES - 4, "{name}");
                let (stem, hash) = name.rsplit_once('-').expect("a hash");
                assert_eq!(hash.len(), HASH_DIGITS);
                assert!(stem.rfind('%').is_none_or(|i| i + 3 <= stem.len()), "{name}");
            }
        }
    }

    #[test]
    fn a_name_that_is_taken_gives_way_to_the_source_and_then_to_a_hash() {
        let [first, second, third] = candidates(&source("dwh"), "a_b", "c");
        assert_eq!((first.as_str(), second.as_str()), ("a_b_c", "dwh_a_b_c"));
        assert!(third.starts_with("dwh_a_b_c-"));
        let [other_first, other_second, other_third] = candidates(&source("dwh"), "a", "b_c");
        assert_eq!((&first, &second), (&other_first, &other_second), "these two claim the same names");
        assert_ne!(third, other_third, "but not the last");
    }

    #[test]
    fn versions_and_timestamps_follow_the_base_name() {
        let at: Timestamp = "2025-08-05T10:15:30.9Z".parse().expect("valid");
        let names = |c| (0..5).map_while(|n| directory("p_o", c, n, at)).collect::<Vec<_>>();
        assert_eq!(names(OnConflict::Version), ["p_o", "p_o_v2", "p_o_v3", "p_o_v4", "p_o_v5"]);
        assert_eq!(
            names(OnConflict::Timestamp),
            [
                "p_o",
                "p_o_2025-08-05",
                "p_o_2025-08-05T101530Z",
                "p_o_2025-08-05T101530Z_2",
                "p_o_2025-08-05T101530Z_3"
            ]
        );
        assert_eq!(names(OnConflict::Fail), ["p_o"]);
        assert_eq!(directory("p_o", OnConflict::Version, u32::MAX, at).as_deref(), Some("p_o_v4294967296"));
    }

    proptest! {
        #[test]
        fn different_texts_get_different_names(a in "[a-z_.%/ v0-9ü-]{1,12}", b in "[a-z_.%/ v0-9ü-]{1,12}") {
            prop_assert_eq!(a == b, encode(&a) == encode(&b));
        }

        #[test]
        fn no_base_name_is_a_version_of_another(a in "[a-z_v0-9]{1,8}", b in "[a-z_v0-9]{1,8}", n in 1_u32..300) {
            let version = directory(&base("s", &a), OnConflict::Version, n, Timestamp::UNIX_EPOCH);
            prop_assert_ne!(Some(base("s", &b)), version);
        }

        #[test]
        fn every_name_is_one_safe_path_component(schema in "\\PC{1,80}", table in "\\PC{1,80}") {
            for name in candidates(&source("_s"), &schema, &table) {
                prop_assert!(name.len() <= MAX_BYTES);
                prop_assert!(!name.starts_with(['.', '_']));
                prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-%".contains(&b)));
                prop_assert_eq!(version_suffix(&name), None);
            }
        }
    }
}
