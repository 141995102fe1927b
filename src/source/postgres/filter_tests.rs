//! How filters are printed.

use proptest::prelude::*;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::*;
use crate::config::AllowWhere;
use crate::relation::filter::{Expression, FilterError, is_moving};
use crate::source::sql::quote::literal;

fn check(text: &str, allow: AllowWhere) -> Result<String, FilterError> {
    let expression = Expression::parse(text, allow)?;
    Ok(sql(&Filter::Where(expression), &[]).expect("what was checked can be printed"))
}

fn simple(text: &str) -> String {
    check(text, AllowWhere::Simple).expect(text)
}

fn tree(text: &str) -> sqlparser::ast::Expr {
    let mut parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(text).expect(text);
    parser.parse_expr().expect(text)
}

#[test]
fn filters_are_printed_from_the_tree() {
    for (written, printed) in [
        ("at >= '2026-01-01'", r#""at" >= '2026-01-01'"#),
        ("Status in ('a','b')", r#""status" IN ( 'a' , 'b' )"#),
        (r#""Status" = 'it''s'"#, r#""Status" = 'it''s'"#),
        ("a between 1 and 2 and not b", r#""a" BETWEEN 1 AND 2 AND NOT "b""#),
        ("name not ilike '%x!%' escape '!'", r#""name" NOT ILIKE '%x!%' ESCAPE '!'"#),
        ("x is not distinct from null", r#""x" IS NOT DISTINCT FROM NULL"#),
        ("(a + 1) * -b % 3 > .5e3", r#"( "a" + 1 ) * - "b" % 3 > .5e3"#),
        ("d::date = cast('2026-01-01' as date)", r#""d" :: DATE = CAST ( '2026-01-01' AS DATE )"#),
        (
            "at > timestamp '2026-01-01' - interval '1 day'",
            r#""at" > TIMESTAMP '2026-01-01' - INTERVAL '1 day'"#,
        ),
        ("n = 1_000::numeric(10,2)", r#""n" = 1000 :: NUMERIC(10,2)"#),
        ("t.a is true", r#""t"."a" IS TRUE"#),
        ("ip = '10.0.0.1'::inet", r#""ip" = '10.0.0.1' :: inet"#),
    ] {
        assert_eq!(simple(written), printed);
        assert_eq!(simple(printed), printed, "printing again changes nothing");
    }
}

#[test]
fn functions_and_subqueries_pass_where_they_are_allowed() {
    let any = |text| check(text, AllowWhere::Any).expect(text);
    assert_eq!(any("lower(Name) = 'x' -- c"), "lower ( Name ) = 'x'");
    assert_eq!(any(r"f('\''', $q$it's$q$)"), r"f ( E'\\''' , 'it''s' )");
    assert!(any("id in (select id from t where x = 'a' limit 1)").contains("( select id from t"));
    assert!(any("at < now() - interval '1 day'").starts_with("at < now"));
}

#[test]
fn comments_vanish() {
    assert_eq!(simple("a /* x /* y */ z */ = -- end\n 1"), r#""a" = 1"#);
}

#[test]
fn minus_signs_never_become_a_comment() {
    assert_eq!(simple("a = - - 1"), r#""a" = - - 1"#);
    assert_eq!(simple("a - -1 > 0"), r#""a" - - 1 > 0"#);
    assert_eq!(simple("a -(-(-1)) > 0"), r#""a" - ( - ( - 1 ) ) > 0"#);
}

#[test]
fn strings_survive_whatever_the_server_thinks_of_backslashes() {
    assert_eq!(simple(r"a = '\'"), r#""a" = E'\\'"#);
    assert_eq!(simple(r"a = '\'''"), r#""a" = E'\\'''"#);
    assert_eq!(simple("a = ''''''"), r#""a" = ''''''"#);
    assert_eq!(simple(r"a = E'x\'y\n'"), "\"a\" = 'x''y\n'");
    assert_eq!(simple("a = $$it's$$"), r#""a" = 'it''s'"#);
    assert_eq!(simple(r"a = U&'\00e4\0027'"), "\"a\" = 'ä'''");
    assert!(check(r"a = E'\xe4'", AllowWhere::Simple).is_err(), "bytes beyond ASCII have no one meaning");
}

#[test]
fn words_that_act_like_functions_become_columns_when_quoted() {
    assert_eq!(simple(r#""current_user" = 'x'"#), r#""current_user" = 'x'"#);
    assert_eq!(simple("current_role = 'x'"), r#""current_role" = 'x'"#);
}

#[test]
fn filters_of_a_table_are_joined_in_parentheses() {
    let of = |text: &str| Filter::Where(Expression::parse(text, AllowWhere::Simple).expect(text));
    let filter = Filter::Both(Box::new([
        of("a or b"),
        Filter::Either(Box::new([of("c"), Filter::IsNull("d\"".into())])),
    ]));
    let printed = sql(&filter, &[]).expect("printed");
    assert_eq!(printed, r#"("a" OR "b") AND (("c") OR ("d""" IS NULL))"#);
}

/// Texts of expressions whose literals are printed as they are written.
fn expression() -> impl Strategy<Value = String> {
    const BINARY: [&str; 21] = [
        "=",
        "<>",
        "<",
        "<=",
        ">",
        ">=",
        "+",
        "-",
        "*",
        "/",
        "%",
        "^",
        "||",
        "&",
        "|",
        "<<",
        ">>",
        "AND",
        "OR",
        "NOT ILIKE",
        "IS DISTINCT FROM",
    ];
    const SUFFIX: [&str; 8] = [
        "IS NULL",
        "IS NOT NULL",
        "IS TRUE",
        "IS NOT FALSE",
        "IS UNKNOWN",
        "::int",
        ":: numeric(10, 2)",
        "::timestamptz",
    ];
    let leaf = prop_oneof![
        "[a-z_][a-z0-9_]{0,5}".prop_map(|s| format!("\"{s}\"")),
        "[A-Za-z ü.\"]{1,6}".prop_map(|s| format!("\"{}\"", s.replace('"', "\"\""))),
        any::<u32>().prop_map(|n| n.to_string()),
        "[a-z' %_-]{0,8}"
            .prop_filter("it names a moment", |s| !is_moving(s))
            .prop_map(|s| format!("'{}'", s.replace('\'', "''"))),
        Just("NULL".to_owned()),
        Just("TRUE".to_owned()),
        Just("DATE '2026-01-01'".to_owned()),
    ];
    leaf.prop_recursive(5, 40, 3, |inner| {
        let three = (inner.clone(), inner.clone(), inner.clone());
        let space = prop::sample::select(vec![" ", "  ", "/* c */", " -- c\n"]);
        prop_oneof![
            (inner.clone(), prop::sample::select(&BINARY[..]), inner.clone(), space)
                .prop_map(|(a, op, b, s)| format!("{a}{s} {op} {b}")),
            (inner.clone(), prop::sample::select(&SUFFIX[..])).prop_map(|(a, s)| format!("{a} {s}")),
            (prop::sample::select(vec!["-", "- ", "+", "NOT ", "~ "]), inner.clone())
                .prop_map(|(p, a)| format!("{p}({a})")),
            (prop::sample::select(vec!["- ", "NOT "]), inner.clone()).prop_map(|(p, a)| format!("{p}{a}")),
            inner.clone().prop_map(|a| format!("({a})")),
            three.clone().prop_map(|(a, b, c)| format!("({a}) IN ({b}, {c})")),
            three.prop_map(|(a, b, c)| format!("({a}) NOT BETWEEN ({b}) AND ({c})")),
            inner.prop_map(|a| format!("CAST({a} AS bigint)")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_printed_form_reads_back_as_the_same_tree(text in expression()) {
        // Skip texts that the parser does not accept.
        if Expression::parse(&text, AllowWhere::Any).is_ok() {
            let printed = simple(&text);
            prop_assert_eq!(tree(&printed), tree(&text));
            let printed = check(&text, AllowWhere::Any).expect("what is simple is allowed");
            prop_assert_eq!(tree(&printed), tree(&text));
        }
    }

    #[test]
    fn every_string_keeps_its_value(value in "\\PC{0,20}|['\\\\n$]{0,8}") {
        let quoted = format!("\"c\" = '{}'", value.replace('\'', "''"));
        let expected = format!("\"c\" = {}", literal(&value));
        prop_assert_eq!(&simple(&quoted), &expected);
        prop_assert_eq!(&check(&quoted, AllowWhere::Any).expect("valid"), &expected);
        prop_assert_eq!(&simple(&expected), &expected);
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,60}|[a-z0-9'\"$()\\\\ .,;:=<>|&*/-]{0,40}") {
        for allow in [AllowWhere::Simple, AllowWhere::Any] {
            if let Ok(printed) = check(&text, allow) {
                prop_assert_eq!(check(&printed, allow), Ok(printed.clone()));
            }
        }
    }
}
