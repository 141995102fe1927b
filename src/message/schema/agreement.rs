//! The schema of requests and the program accept and refuse the same, for every field at every depth: `null`,
//! values of another type, missing fields and unknown fields.

use serde_json::{Map, Value, json};

use super::messages;
use crate::message::RequestMessage;

struct Schema(Value);

impl Schema {
    fn of_requests() -> Self {
        Self(messages().swap_remove(0).schema.as_value().clone())
    }

    fn export(&self) -> &Value {
        &self.0["$defs"]["ExportRequest"]
    }

    fn resolve<'a>(&'a self, mut schema: &'a Value) -> &'a Value {
        while let Some(reference) = schema["$ref"].as_str() {
            let name = reference.rsplit('/').next().expect("a name");
            schema = &self.0["$defs"][name];
        }
        schema
    }

    /// Chooses one of several forms: the first value of a list, else the last form that is not null (for a
    /// table the object).
    fn form<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let schema = self.resolve(schema);
        let forms = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array());
        let value = |f: &&Value| f.get("const").is_some();
        match forms.and_then(|f| f.iter().find(value).or_else(|| f.iter().rfind(|f| f["type"] != "null"))) {
            Some(form) => self.form(form),
            None => schema,
        }
    }

    /// A value with every field of the schema.
    fn sample(&self, name: &str, schema: &Value) -> Value {
        let schema = self.form(schema);
        if let Some(value) = schema.get("const") {
            return value.clone();
        }
        if let Some(values) = schema["enum"].as_array() {
            return values[0].clone();
        }
        let mut types = types(schema);
        match types.next().expect("a type") {
            "string" => json!(text(name)),
            "integer" | "number" => json!(schema["minimum"].as_u64().unwrap_or(1).max(1)),
            "boolean" => json!(true),
            "array" => json!([self.sample(name, &schema["items"])]),
            "object" => match schema["properties"].as_object() {
                Some(fields) => fields.iter().map(|(n, s)| (n.clone(), self.sample(n, s))).collect(),
                None => json!({"team": "crm"}),
            },
            other => panic!("no sample of {other}"),
        }
    }

    /// Whether a value is valid. Patterns of texts are not checked.
    fn takes(&self, schema: &Value, value: &Value) -> bool {
        let schema = self.resolve(schema);
        if let Some(forms) = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array()) {
            return forms.iter().any(|form| self.takes(form, value));
        }
        if let Some(expected) = schema.get("const") {
            return value == expected;
        }
        if let Some(values) = schema["enum"].as_array() {
            return values.contains(value);
        }
        types(schema).any(|kind| match (kind, value) {
            ("null", Value::Null) | ("boolean", Value::Bool(_)) | ("string", Value::String(_)) => true,
            ("number", Value::Number(n)) => within(schema, n.as_f64()),
            ("integer", Value::Number(n)) => !n.is_f64() && within(schema, n.as_f64()),
            ("array", Value::Array(items)) => {
                let unique = schema["uniqueItems"].as_bool().unwrap_or(false);
                items.len() as u64 >= schema["minItems"].as_u64().unwrap_or(0)
                    && items.len() as u64 <= schema["maxItems"].as_u64().unwrap_or(u64::MAX)
                    && !(unique && items.iter().enumerate().any(|(i, item)| items[..i].contains(item)))
                    && items.iter().all(|item| self.takes(&schema["items"], item))
            }
            ("object", Value::Object(fields)) => self.takes_object(schema, fields),
            _ => false,
        })
    }

    fn takes_object(&self, schema: &Value, fields: &Map<String, Value>) -> bool {
        let required = schema["required"].as_array().into_iter().flatten();
        required.filter_map(Value::as_str).all(|name| fields.contains_key(name))
            && fields.iter().all(|(name, value)| {
                match (schema["properties"].get(name), &schema["additionalProperties"]) {
                    (Some(field), _) => self.takes(field, value),
                    (None, Value::Bool(false)) => false,
                    (None, others) => self.takes(others, value),
                }
            })
    }
}

fn types(schema: &Value) -> impl Iterator<Item = &str> {
    let list = schema["type"].as_array().map_or(std::slice::from_ref(&schema["type"]), Vec::as_slice);
    assert!(!list[0].is_null(), "no type: {schema}");
    list.iter().filter_map(Value::as_str)
}

fn within(schema: &Value, number: Option<f64>) -> bool {
    let bound = |name: &str| schema[name].as_f64();
    let Some(number) = number else { return false };
    bound("minimum").is_none_or(|least| number >= least) && bound("maximum").is_none_or(|most| number <= most)
}

/// A text that a field of this name accepts.
fn text(field: &str) -> &'static str {
    match field {
        "tables" | "exclude" | "table" => "public.t",
        "deadline" => "12h",
        "compression" => "zstd:3",
        "numeric" => "decimal(38,9)",
        _ => "x",
    }
}

/// The places of all values within a value, as JSON pointers.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(n, v)| (n.clone(), v)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect(),
        _ => Vec::new(),
    };
    for (name, child) in children {
        let place = format!("{at}/{name}");
        places(child, &place, found);
        found.push(place);
    }
}

/// The field that the program refuses in a request.
fn refusal(request: &Value) -> Option<String> {
    RequestMessage::parse(request.to_string().as_bytes()).err().map(|e| e.to_string())
}

#[test]
fn schema_and_program_agree_on_every_field() {
    let schema = Schema::of_requests();
    let whole = schema.sample("", schema.export());
    assert_eq!(refusal(&whole), None, "{whole}");
    assert!(schema.takes(schema.export(), &whole));
    let mut found = Vec::new();
    places(&whole, "", &mut found);
    assert!(found.len() > 30 && found.contains(&"/tables/0/after/overlap".into()), "{found:?}");
    let others = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1.5),
        json!([]),
        json!([null]),
        json!({}),
        json!({"x": null}),
        json!(["public.t", "public.t"]),
    ];
    let mut wrong = String::new();
    let mut compare = |request: &Value, place: &str, what: &str| {
        let (valid, refused) = (schema.takes(schema.export(), request), refusal(request));
        if valid != refused.is_none() {
            wrong += &format!("{place} {what}: the schema says {valid}, the program {refused:?}\n");
        }
        // For a union the program says only that no form fits. At least it names the field.
        let name = place.split('/').rfind(|part| part.parse::<usize>().is_err()).unwrap_or_default();
        if refused.as_ref().is_some_and(|text| !text.contains(name)) {
            wrong += &format!("{place} {what}: `{name}` is not named: {refused:?}\n");
        }
    };
    for place in &found {
        let (parent, name) = place.rsplit_once('/').expect("a place");
        for other in &others {
            let mut request = whole.clone();
            *request.pointer_mut(place).expect("there") = other.clone();
            compare(&request, place, &other.to_string());
        }
        let mut request = whole.clone();
        if let Some(Value::Object(object)) = request.pointer_mut(parent) {
            object.remove(name);
            compare(&request, place, "left out");
        }
    }
    for parent in found.iter().map(String::as_str).chain([""]).filter(|p| !p.ends_with("labels")) {
        for value in [json!(null), json!("x")] {
            let mut request = whole.clone();
            let Some(Value::Object(object)) = request.pointer_mut(parent) else { continue };
            object.insert("nobody_knows".into(), value);
            compare(&request, &format!("{parent}/nobody_knows"), "unknown");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A request stays the same if every optional field is `null`.
#[test]
fn null_is_the_same_as_leaving_a_field_out() {
    let schema = Schema::of_requests();
    let whole = schema.sample("", schema.export());
    let mut found = Vec::new();
    places(&whole, "", &mut found);
    let mut compared = 0;
    for place in found {
        let (parent, name) = place.rsplit_once('/').expect("a place");
        let (mut null, mut left_out) = (whole.clone(), whole.clone());
        let Some(Value::Object(object)) = left_out.pointer_mut(parent) else { continue };
        object.remove(name);
        *null.pointer_mut(&place).expect("there") = Value::Null;
        let read = |request: &Value| RequestMessage::parse(request.to_string().as_bytes()).ok();
        if let Some(request) = read(&null) {
            assert_eq!(Some(&request), read(&left_out).as_ref(), "{place}");
            let RequestMessage::Export(request) = request else { panic!("an export") };
            let stored = serde_json::to_string(&request).expect("JSON");
            assert!(!stored.contains("null"), "{place}: {stored}");
            compared += 1;
        }
    }
    assert!(compared > 15, "only {compared} fields may be null");
}
