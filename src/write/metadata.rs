//! Key-value metadata of every Parquet file: where its rows come from.

use jiff::Timestamp;
use parquet::file::metadata::KeyValue;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::message::setting::FileTypes;
use crate::message::{ChunkNo, Epoch, JobId, SourceName};
use crate::relation::column::{Column, ColumnType, Geometry};

/// WGS 84: longitude and latitude, the default of GeoParquet.
const WGS_84: u32 = 4326;

/// Where a file's rows come from.
#[derive(Clone, Debug)]
pub struct Provenance {
    /// The job.
    pub job: JobId,
    /// The source.
    pub source: SourceName,
    /// `schema.table`.
    pub table: String,
    /// Epoch of the plan.
    pub epoch: Epoch,
    /// Chunk within the table.
    pub chunk: ChunkNo,
    /// The predicate of the chunk. A filter of the request appears only as `filtered`, never with its
    /// literals.
    pub predicate: String,
    /// Time and lineage of the snapshot.
    pub snapshot: Option<(Timestamp, Uuid)>,
}

/// The GeoParquet metadata of geometry columns, <https://geoparquet.org/releases/v1.1.0/>. `None` if no
/// column can be described. A column is described only if it declares its reference system and kind:
/// otherwise it may hold curves, which GeoParquet does not have and DuckDB refuses. A reference system other
/// than WGS 84 is marked as unknown (`null`): GeoParquet wants its full definition, which the source does not
/// give. Its number is in the metadata of the field.
fn geo(columns: &[Column]) -> Option<String> {
    let mut described = serde_json::Map::new();
    let mut primary = None;
    for column in columns {
        let ColumnType::Geometry(Geometry { srid: Some(srid), kind: Some(kind), geodesic }) = &column.ty
        else {
            continue;
        };
        let mut of = json!({"encoding": "WKB", "geometry_types": [kind]});
        if *geodesic {
            of["edges"] = json!("spherical");
        }
        if *srid != WGS_84 {
            of["crs"] = Value::Null;
        }
        primary.get_or_insert(&column.name);
        described.insert(column.name.clone(), of);
    }
    let geo = json!({"version": "1.1.0", "primary_column": primary?, "columns": described});
    Some(geo.to_string())
}

impl Provenance {
    /// The key-value metadata of a file with these columns. Portable files have no GeoParquet metadata,
    /// because readers would make their own types of it: ClickHouse 26.9 reads a NULL as the point (0,0).
    #[must_use]
    pub fn key_values(&self, columns: &[Column], types: FileTypes) -> Vec<KeyValue> {
        let source_types: serde_json::Map<String, Value> =
            columns.iter().map(|c| (c.name.clone(), c.source_type.clone().into())).collect();
        let pair = |key: &str, value: String| KeyValue::new(format!("adu.{key}"), value);
        let mut pairs = vec![
            pair("job", self.job.to_string()),
            pair("source", self.source.to_string()),
            pair("table", self.table.clone()),
            pair("epoch", self.epoch.to_string()),
            pair("chunk", self.chunk.to_string()),
            pair("predicate", self.predicate.clone()),
            pair("source_types", Value::Object(source_types).to_string()),
        ];
        let described = if types.is_exact() { geo(columns) } else { None };
        pairs.extend(described.map(|geo| KeyValue::new("geo".to_owned(), geo)));
        if let Some((time, lineage)) = &self.snapshot {
            pairs.push(pair("snapshot_time", time.to_string()));
            pairs.push(pair("lineage", lineage.to_string()));
        }
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_with_a_declared_reference_are_described() {
        let column = |name: &str, ty| Column::plain(name, "", ty, true);
        let shape = |srid, kind: Option<&str>, geodesic| {
            let kind = kind.map(str::to_owned);
            ColumnType::Geometry(Geometry { srid, kind, geodesic })
        };
        let free = column("free", shape(None, None, false));
        assert_eq!(geo(&[column("id", ColumnType::Int32), free.clone()]), None);
        let described = geo(&[
            free,
            column("at", shape(Some(4326), Some("Point Z"), true)),
            column("area", shape(Some(3857), Some("Polygon"), false)),
            column("any", shape(Some(3857), None, false)),
        ]);
        let described: Value = serde_json::from_str(&described.expect("described")).expect("JSON");
        let expected = json!({
            "version": "1.1.0",
            "primary_column": "at",
            "columns": {
                "at": {"encoding": "WKB", "geometry_types": ["Point Z"], "edges": "spherical"},
                "area": {"encoding": "WKB", "geometry_types": ["Polygon"], "crs": null},
            },
        });
        assert_eq!(described, expected);
    }
}
