//! JSON Schemas of the messages that other systems send and receive. They are generated from the types.
//! `config/schemas/` holds them, and a test keeps them current.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::{Event, ExportRequest, JobId};

/// A generated file of `config/schemas/`.
#[derive(Clone, Debug)]
pub struct SchemaFile {
    /// Name of the file, e.g. `event.schema.json`.
    pub name: &'static str,
    /// Content of the file.
    pub schema: Schema,
}

impl SchemaFile {
    /// The schema of a type in its serialized form.
    #[must_use]
    pub fn of<T: JsonSchema>(name: &'static str) -> Self {
        Self {
            name,
            schema: SchemaSettings::draft2020_12()
                .for_serialize()
                .into_generator()
                .into_root_schema_for::<T>(),
        }
    }

    /// The file's text.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{:#}\n", self.schema.as_value())
    }
}

/// The schemas of all messages that other systems send or receive.
#[must_use]
pub fn messages() -> Vec<SchemaFile> {
    vec![
        SchemaFile { name: "request.schema.json", schema: request() },
        SchemaFile::of::<Event>("event.schema.json"),
    ]
}

/// All messages that may be sent to `<prefix>.requests`.
fn request() -> Schema {
    let mut generator: SchemaGenerator = SchemaSettings::draft2020_12().into_generator();
    let export = generator.subschema_for::<ExportRequest>();
    let job = generator.subschema_for::<JobId>();
    let about_job = |verb: &str, description: &str| {
        json_schema!({
            "type": "object",
            "description": description,
            "properties": {verb: job},
            "required": [verb],
            "additionalProperties": false,
        })
    };
    let definitions = optional_may_be_null(generator.take_definitions(true));
    json_schema!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Request",
        "description": "A message to the queue <prefix>.requests.",
        "anyOf": [
            export,
            about_job("cancel", "Cancel a job."),
            about_job("retry", "Export again the tables that failed in a finished job, as job <job_id>.rN."),
        ],
        "$defs": definitions,
    })
}

/// Allows `null` for optional fields: in requests it is the same as leaving the field out.
fn optional_may_be_null(mut definitions: Map<String, Value>) -> Map<String, Value> {
    for definition in definitions.values_mut() {
        let required = definition["required"].as_array().cloned().unwrap_or_default();
        let fields = definition.get_mut("properties").and_then(Value::as_object_mut);
        for (name, field) in fields.into_iter().flatten() {
            if !required.iter().any(|r| r == name) {
                allow_null(field);
            }
        }
    }
    definitions
}

fn allow_null(field: &mut Value) {
    let nothing = json!({"type": "null"});
    let Some(field) = field.as_object_mut() else { return };
    if let Some(forms) = field.get_mut("anyOf").and_then(Value::as_array_mut) {
        if !forms.contains(&nothing) {
            forms.push(nothing);
        }
    } else if let Some(reference) = field.remove("$ref") {
        field.insert("anyOf".into(), json!([{"$ref": reference}, nothing]));
    } else if let Some(kind) = field.get_mut("type").filter(|kind| kind.is_string()) {
        *kind = json!([kind, "null"]);
    }
}

#[cfg(test)]
mod agreement;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::message::{EventType, RequestMessage, page};

    /// If this variable is set, the tests write the files again.
    const REGENERATE: &str = "ADU_EXPORT_WRITE_SCHEMAS";

    #[test]
    fn the_schemas_in_config_are_those_of_the_types() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/schemas");
        // The archive is not a message, but other systems read it too.
        let archive = SchemaFile::of::<crate::job::archive::Archive>("archive.schema.json");
        for file in messages().into_iter().chain([archive]) {
            let path = directory.join(file.name);
            if std::env::var_os(REGENERATE).is_some() {
                std::fs::write(&path, file.text()).expect("writes");
            }
            let stored = std::fs::read_to_string(&path).unwrap_or_default();
            // The types do not fix the order of keys.
            let stored = serde_json::from_str(&stored).unwrap_or(serde_json::Value::Null);
            assert!(
                stored == *file.schema.as_value(),
                "{} is out of date: run `make schemas` and commit it",
                path.display()
            );
        }
    }

    #[test]
    fn the_page_of_messages_is_that_of_the_types() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/MESSAGES.md");
        let stored = std::fs::read_to_string(&path).expect("read docs/MESSAGES.md");
        let page = page::filled(&stored, &messages());
        if std::env::var_os(REGENERATE).is_some() {
            std::fs::write(&path, &page).expect("writes");
        } else {
            assert!(stored == page, "{} is out of date: run `make schemas` and commit it", path.display());
        }
        for example in page::examples(&page) {
            let value = serde_json::Value::Object(example);
            if value.get("specversion").is_some() {
                let event: Event = serde_json::from_value(value.clone()).expect("an event");
                assert_eq!(serde_json::to_value(&event).expect("JSON"), value, "nothing else is in it");
            } else {
                RequestMessage::parse(value.to_string().as_bytes()).expect("a request");
            }
        }
    }

    #[test]
    fn the_asyncapi_document_names_every_event() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/asyncapi.json");
        let text = std::fs::read_to_string(&path).expect("read config/asyncapi.json");
        let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let mut named = Vec::new();
        for noun in ["job", "table"] {
            let channel = &document["channels"][format!("{noun}Events")];
            assert_eq!(channel["address"], format!("{noun}.{{what}}.{{source}}.{{job_id}}"));
            let words = channel["parameters"]["what"]["enum"].as_array().expect("a list of words");
            named.extend(words.iter().map(|w| format!("adu.export.{noun}.{}", w.as_str().expect("a word"))));
        }
        let events = SchemaFile::of::<EventType>("").schema;
        let types = events.as_value()["oneOf"].as_array().expect("a list of types");
        let types: Vec<&str> = types.iter().filter_map(|t| t["const"].as_str()).collect();
        assert_eq!(named, types);
    }

    #[test]
    fn every_field_of_a_request_is_described_and_strict() {
        let schema = request();
        let request = &schema.as_value()["$defs"]["ExportRequest"];
        assert_eq!(request["additionalProperties"], false);
        assert_eq!(request["required"], serde_json::json!(["tables"]));
        for (name, field) in request["properties"].as_object().expect("has properties") {
            assert!(field.get("description").is_some(), "{name} has no description");
        }
    }
}
