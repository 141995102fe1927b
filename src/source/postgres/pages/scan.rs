//! Whether the server reads a chunk by one bare scan: whatever else adds, removes or masks rows would be seen in
//! its plan (extensions, policies, children, columns that are computed).

use serde_json::{Map, Value};

/// What a bare scan of a table may say about itself in `EXPLAIN (VERBOSE, FORMAT json)`.
const BARE: [&str; 13] = [
    "Node Type",
    "Parallel Aware",
    "Async Capable",
    "Relation Name",
    "Schema",
    "Alias",
    "Startup Cost",
    "Total Cost",
    "Plan Rows",
    "Plan Width",
    "Output",
    "TID Cond",
    "Disabled",
];

/// Whether a plan is exactly one scan of the table that returns these columns and has no filter.
pub(super) fn is_bare(plan: &str, (schema, name): (&str, &str), columns: &[&str]) -> bool {
    let Ok(Value::Array(plans)) = serde_json::from_str(plan) else { return false };
    let [Value::Object(only)] = plans.as_slice() else { return false };
    let Some(Value::Object(node)) = only.get("Plan") else { return false };
    let text = |key: &str| node.get(key).and_then(Value::as_str);
    let is_scan = match text("Node Type") {
        Some("Seq Scan") => !node.contains_key("TID Cond"),
        Some("Tid Range Scan") => true,
        _ => false,
    };
    is_scan
        && node.keys().all(|key| BARE.contains(&key.as_str()))
        && text("Schema") == Some(schema)
        && text("Relation Name") == Some(name)
        && has_output(node, columns)
}

fn has_output(node: &Map<String, Value>, columns: &[&str]) -> bool {
    let Some(Value::Array(output)) = node.get("Output") else { return false };
    output.len() == columns.len()
        && output
            .iter()
            .zip(columns)
            .all(|(said, column)| said.as_str().is_some_and(|s| is_column(s, column)))
}

/// Whether an expression is this column, quoted if it must be.
fn is_column(said: &str, column: &str) -> bool {
    let quoted = said.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match quoted {
        Some(inner) => inner.replace("\"\"", "\0") == column.replace('"', "\0"),
        None => said == column,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(more: &str, output: &str) -> String {
        format!(
            r#"[{{"Plan": {{"Node Type": "Tid Range Scan", "Parallel Aware": false, "Async Capable": false,
               "Relation Name": "t", "Schema": "s", "Alias": "t", "Startup Cost": 0.01, "Total Cost": 1.5,
               "Plan Rows": 1, "Plan Width": 4, "Output": [{output}],
               "TID Cond": "((t.ctid >= '(1,0)'::tid) AND (t.ctid < '(2,0)'::tid))"{more}}}}}]"#
        )
    }

    #[test]
    fn only_one_scan_of_bare_columns_is_bare() {
        let is = |plan: &str| is_bare(plan, ("s", "t"), &["a", "B\"c"]);
        let columns = r#""a", "\"B\"\"c\"""#;
        assert!(is(&plan("", columns)));
        assert!(!is(&plan("", r#""a""#)), "a column is missing");
        assert!(!is(&plan("", r#""(a + 1)", "\"B\"\"c\"""#)), "a column is computed");
        assert!(!is(&plan(r#", "Filter": "(t.a > 1)""#, columns)));
        assert!(!is(&plan(r#", "Plans": []"#, columns)));
        assert!(!is(&plan("", columns).replace("Tid Range Scan", "Custom Scan")));
        assert!(!is(&plan("", columns).replace(r#""Schema": "s""#, r#""Schema": "x""#)));
        assert!(!is("[]"));
        assert!(!is("no JSON"));
    }
}
