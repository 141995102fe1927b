//! The OpenAPI document of the API, generated from the types.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::ask::{ChunksQuery, JobTablesQuery, PageQuery, TablesQuery};
use crate::folder::files::archive::Archive;
use crate::message::{ExportRequest, JobId};
use crate::status::picture::JobBrief;
use crate::status::{ChunksView, JobTables, Overview, TablesView};

/// The document.
pub(super) fn document() -> &'static Value {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(build);
    &DOCUMENT
}

/// A list of jobs.
#[derive(serde::Serialize, JsonSchema)]
struct Jobs {
    /// The process that answers.
    instance: uuid::Uuid,
    /// Jobs that run or wait.
    running: Vec<RunningJob>,
    /// The newest 100 jobs that have ended, the newest first.
    ended: Vec<JobBrief>,
    /// Names of their archives below `.archive/jobs`.
    finished: Vec<String>,
    /// The tasks of the daemon that answers.
    holding: Vec<Value>,
}

/// A job that runs.
#[derive(serde::Serialize, JsonSchema)]
struct RunningJob {
    #[serde(flatten)]
    brief: JobBrief,
    /// Its request; without filters and labels, unless `http.details` is on.
    request: ExportRequest,
}

/// A job: a `RunningJob` while it runs, its archive when it has ended.
#[derive(serde::Serialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum Job {
    Running(Box<RunningJob>),
    Ended(Box<Archive>),
}

/// Why there is no answer.
#[derive(serde::Serialize, JsonSchema)]
struct Error {
    /// For people.
    error: String,
}

struct Writer {
    generator: SchemaGenerator,
    paths: Map<String, Value>,
}

impl Writer {
    /// Adds a path. `codes` are the other answers that it may give.
    fn path<A: JsonSchema, Q: JsonSchema>(&mut self, path: &str, what: &str, codes: &[u16]) {
        let mut parameters = Vec::new();
        if path.contains("{id}") {
            let schema = self.generator.subschema_for::<JobId>();
            parameters.push(json!({"name": "id", "in": "path", "required": true, "schema": schema, "description": "The job."}));
        }
        let query = self.generator.root_schema_for::<Q>();
        for (name, schema) in query.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let mut schema = schema.clone();
            let description = schema.as_object_mut().and_then(|s| s.remove("description"));
            parameters.push(json!({
                "name": name, "in": "query", "required": false, "description": description, "schema": plain(schema),
            }));
        }
        let error = self.generator.subschema_for::<Error>();
        let mut responses = Map::new();
        let content = |schema: Value| json!({"application/json": {"schema": schema}});
        let schema = json!(self.generator.subschema_for::<A>());
        responses.insert("200".into(), json!({"description": "The answer.", "content": content(schema)}));
        for code in codes {
            let description = match code {
                400 => "The question is not understood.",
                404 => "There is no such thing.",
                _ => "The export folder cannot be read now.",
            };
            let schema = json!(error);
            responses
                .insert(code.to_string(), json!({"description": description, "content": content(schema)}));
        }
        let operation = json!({"summary": what, "parameters": parameters, "responses": responses});
        self.paths.insert(path.into(), json!({"get": operation}));
    }
}

/// In a query, what is left out is not `null`.
fn plain(mut schema: Value) -> Value {
    if let Some(forms) = schema.get("anyOf").and_then(Value::as_array) {
        let form = forms.iter().find(|form| form["type"] != "null").cloned();
        return form.unwrap_or(schema);
    }
    if let Some(kinds) = schema.get("type").and_then(Value::as_array) {
        schema["type"] = kinds.iter().find(|kind| **kind != "null").cloned().unwrap_or(Value::Null);
    }
    schema
}

fn build() -> Value {
    let settings = SchemaSettings::draft2020_12()
        .for_serialize()
        .with(|s| s.definitions_path = "/components/schemas".into());
    let mut writer = Writer { generator: settings.into_generator(), paths: Map::new() };
    writer.path::<Overview, PageQuery>(
        "/api/overview",
        "The fleet at a glance, as on the first page.",
        &[400],
    );
    writer.path::<Jobs, ()>("/api/jobs", "The jobs.", &[503]);
    writer.path::<Job, ()>("/api/jobs/{id}", "A job: its archive if it has ended.", &[400, 404, 503]);
    writer.path::<JobTables, JobTablesQuery>(
        "/api/jobs/{id}/tables",
        "The tables of a job, 100 on a page.",
        &[400, 404, 503],
    );
    writer.path::<ChunksView, ChunksQuery>(
        "/api/jobs/{id}/chunks",
        "The chunks of a job: a map and a timeline.",
        &[400, 404, 503],
    );
    writer.path::<TablesView, TablesQuery>(
        "/api/tables",
        "The newest export of each table, 100 on a page.",
        &[400, 503],
    );
    let Writer { mut generator, paths } = writer;
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "ADU Export",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What the status page of a daemon shows. Read-only.",
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "paths": paths,
        "components": {"schemas": generator.take_definitions(true)},
    })
}
