//! Filters that are allowed, and filters that are not.

use proptest::prelude::*;

use super::*;

fn check(text: &str, allow: AllowWhere) -> Result<(), FilterError> {
    Expression::parse(text, allow).map(drop)
}

fn refusal(text: &str) -> String {
    check(text, AllowWhere::Simple).expect_err(text).to_string()
}

#[test]
fn a_date_that_moves_is_refused_and_a_text_that_says_so_is_not() {
    for text in [
        "at >= 'today12:00'",
        "at > 'now                                                  '",
        "at >= 'yesterday'",
        "at < DATE 'today'",
        "at BETWEEN 'Tomorrow 12:00' AND $$now$$",
    ] {
        let error = check(text, AllowWhere::Simple).expect_err(text);
        assert!(matches!(error, FilterError::Moving(_)), "{error}");
        assert!(error.report(Origin::Configuration).remedy.expect("a remedy").contains("2026-01-31"));
    }
    for text in ["\"word\" = 'today' :: TEXT", "\"a\" = 'nowhere'", "\"a\" = CAST ( 'now' AS TEXT )"] {
        check(text, AllowWhere::Simple).expect(text);
    }
}

#[test]
fn a_second_statement_is_refused() {
    assert!(refusal("1=1; drop table x").contains("goes on after its expression"));
    assert!(refusal("true) union select 1").contains("goes on after its expression"));
    assert!(refusal("a = 1 order by a").contains("goes on"));
    assert!(refusal("a = 1 b = 2").contains("goes on"));
    for text in ["", "where a = 1", "a =", "(a = 1", "'open", "a = 1 /* open", "--", "select 1"] {
        assert!(check(text, AllowWhere::Any).is_err(), "{text}");
    }
    assert!(check("f(1); drop table x", AllowWhere::Any).is_err());
    assert!(check("true) or (true", AllowWhere::Any).is_err());
}

#[test]
fn a_refusal_names_what_is_refused_and_the_remedy() {
    for (text, what) in [
        ("pg_sleep(10) is null", "the function `pg_sleep`"),
        ("lower(a) = 'x'", "the function `lower`"),
        ("current_user = 'x'", "the function `current_user`"),
        ("at < current_date", "the function `current_date`"),
        ("id in (select id from secrets)", "a subquery"),
        ("exists (select 1)", "a subquery"),
        ("a = (select 1)", "a subquery"),
        ("a = any(array[1])", "ANY or ALL"),
        ("a ~ 'x'", "the operator `~`"),
        ("a -> 'x' = 'y'", "the operator `->`"),
        ("case when a then b end", "CASE"),
        ("a = $1", "a parameter"),
        ("x::regclass = 'a'", "a cast to `REGCLASS`"),
        ("x::public.mood = 'a'", "a cast to `public.mood`"),
        ("x::int[] = '{}'", "a cast to"),
        ("extract(year from a) = 1", "the function `extract`"),
        ("a = b'101'", "a bit string"),
        ("a = \u{0}", "NUL"),
    ] {
        assert!(refusal(text).contains(what), "{text}: {}", refusal(text));
    }
    let report = check("f(a)", AllowWhere::Simple).expect_err("a function").report(Origin::Configuration);
    assert_eq!(report.code, "invalid_filter");
    assert!(report.remedy.expect("there is one").contains("allow_where = \"any\""));
}

#[test]
fn long_and_deep_filters_do_not_overflow_the_stack() {
    let run = || {
        let list = (0..10_000).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
        assert!(check(&format!("a in ({list})"), AllowWhere::Simple).is_ok());
        for (part, times) in
            [("a|", 900), ("a or ", 900), ("a|", 100_000), ("- ", 1_900), ("(", 1_900), ("not ", 1_900)]
        {
            let result = check(&format!("{}a", part.repeat(times)), AllowWhere::Simple);
            assert_eq!(result.is_ok(), times == 900, "{part} {result:?}");
        }
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(run).expect("spawns");
    thread.join().expect("no overflow");
}

#[test]
fn what_is_not_allowed_is_not_even_read() {
    assert_eq!(check("a = 1", AllowWhere::None), Err(FilterError::Off));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,60}|[a-z0-9'\"$()\\\\ .,;:=<>|&*/-]{0,40}") {
        for allow in [AllowWhere::Simple, AllowWhere::Any] {
            if let Ok(expression) = Expression::parse(&text, allow) {
                prop_assert_eq!(expression.needs(), allow);
            }
        }
    }
}
