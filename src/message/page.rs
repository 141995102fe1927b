//! The sections of `docs/MESSAGES.md` that follow from the types: tables of fields, lists of values. People
//! write the text around them.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::{Map, Value};

use super::schema::SchemaFile;

/// Marks the end of a section.
const END: &str = "<!-- end -->";

/// The page with the sections that these schemas give. A section begins with `<!-- begin FILE -->`. A
/// definition that several schemas have is shown in the first section that needs it.
pub(super) fn filled(page: &str, schemas: &[SchemaFile]) -> String {
    let mut shown = BTreeSet::new();
    let mut text = page.to_owned();
    for file in schemas {
        let begin = format!("<!-- begin {} -->\n", file.name);
        let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{begin} is missing"));
        let (_, after) = rest.split_once(END).unwrap_or_else(|| panic!("{END} is missing"));
        text =
            format!("{before}{begin}\n{}\n{END}{after}", section(file.schema.as_value(), &mut shown).trim());
    }
    text
}

/// The section of one schema. Definitions come in the order in which they are mentioned.
fn section(schema: &Value, shown: &mut BTreeSet<String>) -> String {
    let mut text = body(schema);
    let mut open = mentioned(schema);
    while !open.is_empty() {
        let name = open.remove(0);
        if shown.insert(name.clone()) {
            let definition = &schema["$defs"][&name];
            let _ = write!(text, "### {name}\n\n{}", body(definition));
            let more: Vec<String> = mentioned(definition).into_iter().filter(|n| !open.contains(n)).collect();
            open.splice(0..0, more);
        }
    }
    text
}

/// Names of the definitions that a schema refers to.
fn mentioned(schema: &Value) -> Vec<String> {
    match schema {
        Value::Object(object) => {
            let own = object.get("$ref").and_then(Value::as_str).map(name_of);
            let rest = object.iter().filter(|(key, _)| *key != "$defs").flat_map(|(_, v)| mentioned(v));
            own.into_iter().chain(rest).collect()
        }
        Value::Array(items) => items.iter().flat_map(mentioned).collect(),
        _ => Vec::new(),
    }
}

fn name_of(reference: &str) -> String {
    reference.rsplit('/').next().unwrap_or_default().to_owned()
}

/// The text about one type: its description, then its fields, its values or its form.
fn body(schema: &Value) -> String {
    let mut text = description(schema).map_or_else(String::new, |d| format!("{d}\n\n"));
    if let Some(fields) = schema["properties"].as_object() {
        text += "| field | type | |\n| --- | --- | --- |\n";
        let required =
            |name: &str| schema["required"].as_array().is_some_and(|r| r.iter().any(|n| n == name));
        for (name, field) in fields {
            let must = if required(name) { ", required" } else { "" };
            let _ = writeln!(text, "| `{name}` | {}{must} | {} |", cell(&kind(field)), cell(&about(field)));
        }
        text.push('\n');
    } else if let Some(values) = alternatives(schema) {
        for value in values {
            let _ = writeln!(text, "- {}", one_of(value));
        }
        text.push('\n');
    } else {
        let _ = write!(text, "{}\n\n", kind(schema));
    }
    text
}

fn alternatives(schema: &Value) -> Option<&Vec<Value>> {
    schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array())
}

/// One of several forms, in a list.
fn one_of(value: &Value) -> String {
    let form = match value["properties"].as_object() {
        Some(fields) => {
            let fields: Vec<String> = fields.iter().map(|(n, f)| format!("`{n}`: {}", kind(f))).collect();
            format!("an object with {}", fields.join(", "))
        }
        None => kind(value),
    };
    description(value).map_or_else(|| form.clone(), |d| format!("{form}: {d}"))
}

/// Description and default of a field.
fn about(field: &Value) -> String {
    let text = description(field).unwrap_or_default();
    match &field["default"] {
        Value::String(value) => format!("{text} Default: `{value}`."),
        _ => text,
    }
}

fn description(schema: &Value) -> Option<String> {
    // Links to Rust items lead nowhere on this page, and `<` outside of code would begin a tag.
    let plain = |d: &str| d.replace('\n', " ").replace("[`", "`").replace("`]", "`");
    let text = schema["description"].as_str().map(plain)?;
    let pieces = text.split('`').enumerate();
    let pieces = pieces.map(|(i, p)| if i % 2 == 0 { p.replace('<', "&lt;") } else { p.to_owned() });
    Some(pieces.collect::<Vec<_>>().join("`"))
}

/// A type in a few words.
fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = name_of(reference);
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(value) = schema.get("const") {
        return format!("`{}`", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    // `null` is not listed: it is the same as leaving the field out.
    let given = |v: &&Value| v["type"] != "null";
    if let Some(values) = alternatives(schema) {
        return values.iter().filter(given).map(kind).collect::<Vec<_>>().join(" or ");
    }
    let types = schema["type"].as_array().map_or_else(|| vec![&schema["type"]], |t| t.iter().collect());
    match types[..] {
        [only] => plain_kind(only, schema),
        [first, null] if null == "null" => plain_kind(first, schema),
        _ => panic!("this page cannot show {schema}"),
    }
}

fn plain_kind(word: &Value, schema: &Value) -> String {
    match word.as_str() {
        Some("string") => match (&schema["pattern"], schema["format"].as_str()) {
            (Value::String(pattern), _) => format!("text like `{pattern}`"),
            (_, Some("date-time")) => "time in RFC 3339".into(),
            _ => "text".into(),
        },
        Some("integer") => match (schema["minimum"].as_u64(), schema["maximum"].as_u64()) {
            (Some(least), Some(most)) => format!("integer from {least} to {most}"),
            (Some(least), None) if least > 0 => format!("integer from {least}"),
            _ => "integer".into(),
        },
        Some("number") => "number".into(),
        Some("boolean") => "true or false".into(),
        Some("array") => format!("list of {}", kind(&schema["items"])),
        Some("object") => match &schema["additionalProperties"] {
            Value::Object(_) => format!("map to {}", kind(&schema["additionalProperties"])),
            _ => "object".into(),
        },
        _ => panic!("this page cannot show {schema}"),
    }
}

/// Escapes text for a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The JSON examples of a page.
pub(super) fn examples(page: &str) -> Vec<Map<String, Value>> {
    let blocks = page.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.map(|block| serde_json::from_str(block).unwrap_or_else(|e| panic!("{e}: {block}"))).collect()
}
