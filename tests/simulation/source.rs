//! The source and the parts as one process uses them: every call is an effect.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use adu_export::destination::{Destination, PartPlace};
use adu_export::job::record::RecordedPart;
use adu_export::message::SourceName;
use adu_export::parts::{ExportError, PartOrder, Parts, numbered_part_path};
use adu_export::relation::pieces::{MostChunks, Pieces, Wanted};
use adu_export::relation::{
    Boundaries, BoundaryMethod, Column, ColumnType, Division, Filter, Frozen, MappingOptions, Relation,
    Selection, SplitKey, SurveyColumn, SurveyRequest, UnfitColumn,
};
use adu_export::source::memory::MemorySource;
use adu_export::source::{
    ChunkRead, ChunkStream, ErrorKind, Keeper, PoolUse, Prepared, Snapshots, Source, SourceError, SourceFacts,
};
use adu_export::write::WriteError;
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use async_trait::async_trait;
use futures_util::FutureExt;
use uuid::Uuid;

use crate::faults::Kind;
use crate::process::{Process, Refused};

/// Tables with a quirk, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quirks {
    /// Tables with a value that does not fit its column.
    pub(crate) unfit: BTreeSet<String>,
    /// Tables that cannot be read.
    pub(crate) broken: BTreeSet<String>,
    /// Tables that kill each process that reads them.
    pub(crate) deadly: BTreeSet<String>,
    /// How many milliseconds a chunk of a table takes.
    pub(crate) slow: BTreeMap<String, u64>,
}

pub(crate) struct SimSource {
    process: Arc<Process>,
    inner: MemorySource,
    quirks: Arc<Quirks>,
}

impl SimSource {
    pub(crate) fn new(process: &Arc<Process>, name: SourceName, quirks: &Arc<Quirks>) -> Self {
        let inner = MemorySource::new(name, process.world.database.clone(), process.life);
        Self { process: Arc::clone(process), inner, quirks: Arc::clone(quirks) }
    }

    /// The source in memory never waits: one call of it is one step.
    async fn ask<T: Send>(
        &self,
        what: &str,
        on: &str,
        answer: impl Future<Output = Result<T, SourceError>> + Send,
    ) -> Result<T, SourceError> {
        let answer = |_| answer.now_or_never().expect("the source in memory answers at once");
        self.process.act(Kind::Source, what, on, answer).await.unwrap_or_else(|Refused| Err(broke()))
    }
}

fn broke() -> SourceError {
    failure(ErrorKind::Transient, "08006", "the connection to the source broke")
}

fn failure(kind: ErrorKind, code: &str, message: &str) -> SourceError {
    SourceError::of(kind, code, message)
}

#[async_trait]
impl Source for SimSource {
    fn name(&self) -> &SourceName {
        self.inner.name()
    }

    async fn check(&self) -> Result<SourceFacts, SourceError> {
        self.ask("checks", "the source", self.inner.check()).await
    }

    async fn survey(
        &self,
        request: &SurveyRequest,
        under: Option<&dyn Keeper>,
    ) -> Result<Vec<Relation>, SourceError> {
        self.ask("surveys", "the source", self.inner.survey(request, under)).await
    }

    fn map_column(&self, column: &SurveyColumn, options: &MappingOptions) -> Column {
        self.inner.map_column(column, options)
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }

    async fn most_chunks(&self, under: Option<&dyn Keeper>) -> Result<Option<MostChunks>, SourceError> {
        self.inner.most_chunks(under).await
    }

    fn pieces(
        &self,
        relation: &Relation,
        columns: &[Column],
        wanted: &Wanted,
    ) -> Result<Option<Pieces>, SourceError> {
        self.inner.pieces(relation, columns, wanted)
    }

    fn print(&self, filter: &Filter, columns: &[SurveyColumn]) -> Result<Frozen, SourceError> {
        self.inner.print(filter, columns)
    }

    async fn boundaries(
        &self,
        selection: &Selection<'_>,
        key: SplitKey<'_>,
        method: BoundaryMethod,
        parts: Division,
        under: Option<&dyn Keeper>,
    ) -> Result<Boundaries, SourceError> {
        let bounds = self.inner.boundaries(selection, key, method, parts, under);
        self.ask("asks for boundaries of", selection.name, bounds).await
    }

    async fn estimate(
        &self,
        selection: &Selection<'_>,
        under: Option<&dyn Keeper>,
    ) -> Result<u64, SourceError> {
        self.ask("estimates", selection.name, self.inner.estimate(selection, under)).await
    }

    async fn count(&self, selection: &Selection<'_>, under: Option<&dyn Keeper>) -> Result<u64, SourceError> {
        self.ask("counts", selection.name, self.inner.count(selection, under)).await
    }

    async fn maximum(
        &self,
        selection: &Selection<'_>,
        column: &str,
        under: Option<&dyn Keeper>,
    ) -> Result<Option<String>, SourceError> {
        self.ask("asks for the maximum of", selection.name, self.inner.maximum(selection, column, under))
            .await
    }

    async fn read_chunk(&self, read: ChunkRead<'_>) -> Result<Box<dyn ChunkStream>, SourceError> {
        let table = read.selection.name;
        if self.quirks.broken.contains(table) {
            return Err(failure(ErrorKind::Permanent, "XX001", "the table is damaged"));
        }
        let native = |c: &Column| c.name == "value" && c.ty != ColumnType::Text;
        if self.quirks.unfit.contains(table) && read.columns.iter().any(native) {
            let unfit = UnfitColumn {
                column: "value".into(),
                reason: "too large".into(),
                dimensions: None,
                row: None,
            };
            return Err(SourceError::unfit(vec![unfit]));
        }
        if self.quirks.deadly.contains(table) {
            self.process.die();
        }
        if let Some(millis) = self.quirks.slow.get(table) {
            tokio::time::sleep(Duration::from_millis(*millis)).await;
            self.process.runs().await;
        }
        let on = format!("{table} {:?}", read.slice);
        self.ask("opens", &on, self.inner.read_chunk(read)).await
    }

    async fn close(&self) {}

    fn pool_use(&self) -> PoolUse {
        PoolUse::default()
    }
}

#[async_trait]
impl Snapshots for SimSource {
    async fn open(&self, lineage: Uuid) -> Result<Arc<dyn Keeper>, SourceError> {
        self.ask("takes a snapshot", &lineage.to_string(), self.inner.open(lineage)).await
    }

    async fn join(
        &self,
        lineage: Uuid,
        prepared: Option<Prepared>,
    ) -> Result<Option<Arc<dyn Keeper>>, SourceError> {
        self.ask("joins the snapshot", &lineage.to_string(), self.inner.join(lineage, prepared)).await
    }

    async fn keepers(&self, lineage: Uuid) -> Result<u32, SourceError> {
        self.ask("counts keepers", "", self.inner.keepers(lineage)).await
    }
}

/// Writes parts that hold only their rows: 16 bytes each, id and value.
pub(crate) struct SimParts {
    pub(crate) process: Arc<Process>,
    pub(crate) destination: Arc<dyn Destination>,
}

#[async_trait]
impl Parts for SimParts {
    async fn write(
        &self,
        order: PartOrder,
        mut rows: Box<dyn ChunkStream>,
    ) -> Result<Vec<RecordedPart>, ExportError> {
        let place = &order.place;
        let on = format!("{} {} of {}", place.of.batch, place.chunk, place.job);
        let mut content = Vec::new();
        loop {
            let batch = self.process.act(Kind::Source, "reads for", &on, |_| rows.next_batch()).await;
            let batch = batch.unwrap_or_else(|Refused| Err(broke())).map_err(ExportError::Source)?;
            let Some(batch) = batch else { break };
            let [ids, values] = [0, 1].map(|c| batch.column(c).as_primitive::<Int64Type>().values().clone());
            for (id, value) in ids.iter().zip(values.iter()) {
                content.extend_from_slice(&id.to_be_bytes());
                content.extend_from_slice(&value.to_be_bytes());
            }
        }
        drop(rows);
        if content.is_empty() && !order.even_empty {
            return Ok(Vec::new());
        }
        let refused = |source: io::Error| WriteError::Storage { path: "part".into(), source };
        let whole = content.len().max(1);
        let most = order.plan.writer.file_bytes.and_then(|bytes| usize::try_from(bytes.get()).ok());
        let mut parts = Vec::new();
        // Without rows there is one part without content.
        for (nth, at) in (0..whole).step_by(most.unwrap_or(whole)).enumerate() {
            let nth = u32::try_from(nth).expect("few");
            let content = &content[at..content.len().min(at + most.unwrap_or(whole))];
            let mut part = self.destination.begin(&PartPlace { nth, ..place.clone() }).map_err(refused)?;
            part.write_all(content).map_err(refused)?;
            let finished = part.finish().await.map_err(refused)?;
            let path = numbered_part_path(place.chunk, nth);
            parts.push(RecordedPart {
                // Parts may be in directories.
                path: if nth % 2 == 0 { path } else { format!("odd/{path}") },
                reference: finished.reference,
                rows: content.len() as u64 / 16,
                bytes: content.len() as u64,
                sha256: sum(content),
                row_groups: 1,
                fsync_seconds: 0.0,
            });
        }
        Ok(parts)
    }
}

/// A checksum (FNV-1a). It is good enough to tell parts apart.
pub(crate) fn sum(content: &[u8]) -> String {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
    format!("{:016x}", content.iter().fold(0xCBF2_9CE4_8422_2325, fold))
}
