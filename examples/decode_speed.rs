//! Measures how fast one core turns a COPY stream of TPC-H lineitem into Arrow batches and into a Parquet
//! part. There is no server: a thread writes the stream into a socket as fast as it can, and one core reads,
//! decodes and encodes. The same rows are also decoded in Vertica's forms, in turn with PostgreSQL's, as the
//! client passes them on: bodies of DataRows in the frame of a COPY.
//!
//! `cargo run --release --example decode_speed [rows] [repetitions] [compression]…`

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use adu_export::folder::exclusive::ExclusiveFile;
use adu_export::message::output::PARTITIONS_MAX;
use adu_export::message::request::OnUnfit;
use adu_export::message::setting::Compression;
use adu_export::message::{ChunkNo, Epoch};
use adu_export::plan::export_plan::WriterSettings;
use adu_export::relation::Column;
use adu_export::source::decode::{CopyDecoder, Form, StreamColumn};
use adu_export::write::{PartWriter, Provenance};
use tpchgen::generators::{LineItem, LineItemGenerator};
use uuid::Uuid;

/// The same allocator as in `adu-export`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Largest size of one read, as in `adu-export`.
const PIECE_BYTES: usize = 256 << 10;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let rows = args.next().map_or(Ok(1_000_000), |a| a.parse())?;
    let repetitions = args.next().map_or(Ok(5), |a| a.parse())?;
    let mut compressions = args.map(|a| a.parse()).collect::<Result<Vec<Compression>, _>>()?;
    if compressions.is_empty() {
        compressions = vec![Compression::Snappy, Compression::None, Compression::Zstd(3)];
    }
    let stream = Arc::new(stream(rows, row));
    let columns = columns();
    println!("{rows} rows, {} bytes, {} bytes per row", stream.len(), stream.len() / rows);
    let vertica = (Arc::new(self::stream(rows, vertica_row)), vertica_columns());
    println!("Vertica: {} bytes, {} bytes per row", vertica.0.len(), vertica.0.len() / rows);

    let decode = |stream: &Arc<Vec<u8>>, columns: &[StreamColumn]| {
        replay(stream, columns, |_| Ok(()))?;
        Ok(String::new())
    };
    report_in_turn(
        rows,
        repetitions,
        &mut [
            ("decode", &mut || decode(&stream, &columns)),
            ("decode from Vertica", &mut || decode(&vertica.0, &vertica.1)),
        ],
    )?;
    for compression in compressions {
        let dir = std::env::temp_dir().join(format!("adu-speed-{}", Uuid::new_v4()));
        std::fs::create_dir(&dir)?;
        let result = report(&format!("decode + write {compression}"), rows, repetitions, || {
            let mut part = writer(&dir, &columns, compression)?;
            replay(&stream, &columns, |batch| Ok(part.write(batch)?))?;
            let part = part.close()?;
            let _ = part.sink.commit_unsynced()?;
            Ok(format!("{} bytes, {} row groups", part.bytes, part.row_groups))
        });
        std::fs::remove_dir_all(&dir)?;
        result?;
    }
    Ok(())
}

/// A run, and its result in words.
type Run<'a> = &'a mut dyn FnMut() -> anyhow::Result<String>;

/// Prints the best of several runs, by the CPU time of this thread.
fn report(
    what: &str,
    rows: usize,
    repetitions: usize,
    mut run: impl FnMut() -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    report_in_turn(rows, repetitions, &mut [(what, &mut run)])
}

/// Like `report`, for several things that run in turn, so that all meet the same machine.
fn report_in_turn(rows: usize, repetitions: usize, all: &mut [(&str, Run<'_>)]) -> anyhow::Result<()> {
    let mut best = vec![(f64::MAX, f64::MAX, String::new()); all.len()];
    for _ in 0..repetitions {
        for ((_, run), (best, wall, note)) in all.iter_mut().zip(&mut best) {
            let (started, cpu) = (Instant::now(), cpu_seconds());
            *note = run()?;
            *best = best.min(cpu_seconds() - cpu);
            *wall = wall.min(started.elapsed().as_secs_f64());
        }
    }
    for ((what, _), (best, wall, note)) in all.iter().zip(best) {
        let speed = rows as f64 / best / 1e6;
        println!("{what}: {best:.3} CPU-s, {wall:.3} s, {speed:.2} M rows per CPU-s {note}");
    }
    Ok(())
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = stat.split_whitespace().next().and_then(|n| n.parse::<f64>().ok());
    nanoseconds.unwrap_or_default() / 1e9
}

fn replay(
    stream: &Arc<Vec<u8>>,
    columns: &[StreamColumn],
    mut take: impl FnMut(arrow::array::RecordBatch) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut decoder = CopyDecoder::new(columns, &[], OnUnfit::Text);
    let mut socket = serve(stream)?;
    loop {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        if Read::by_ref(&mut socket).take(PIECE_BYTES as u64).read_to_end(&mut piece)? == 0 {
            break;
        }
        decoder.take(piece);
        while let Some(batch) = decoder.next_batch()? {
            take(batch)?;
        }
    }
    while let Some(batch) = decoder.finish()? {
        take(batch)?;
    }
    Ok(())
}

/// A socket that delivers the stream.
fn serve(stream: &Arc<Vec<u8>>) -> std::io::Result<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let reader = TcpStream::connect(listener.local_addr()?)?;
    let (mut writer, _) = listener.accept()?;
    let stream = Arc::clone(stream);
    // A write fails if the reader fails and stops early.
    std::thread::spawn(move || drop(writer.write_all(&stream)));
    Ok(reader)
}

fn writer(
    dir: &std::path::Path,
    columns: &[StreamColumn],
    compression: Compression,
) -> anyhow::Result<PartWriter<ExclusiveFile>> {
    let columns: Vec<Column> = columns.iter().map(|c| c.column.clone()).collect();
    let settings = WriterSettings {
        compression,
        row_group_bytes: 16 << 20,
        file_bytes: None,
        partitions_max: PARTITIONS_MAX,
        types: Default::default(),
    };
    let provenance = Provenance {
        job: "speed".parse()?,
        source: "memory".parse()?,
        table: "public.lineitem".into(),
        epoch: Epoch(1),
        chunk: ChunkNo(0),
        predicate: "true".into(),
        snapshot: None,
    };
    let path = dir.join(format!("{}.parquet", Uuid::new_v4()));
    Ok(PartWriter::create(
        ExclusiveFile::create(&path)?,
        path,
        adu_export::relation::column::schema(&columns),
        &settings,
        &provenance,
        &columns,
    )?)
}

/// The columns of lineitem as the TPC-H schema for PostgreSQL declares them.
fn columns() -> Vec<StreamColumn> {
    let decimal = Form::Decimal { precision: 15, scale: 2 };
    let columns = [
        ("l_orderkey", "bigint", Form::Int64),
        ("l_partkey", "integer", Form::Int32),
        ("l_suppkey", "integer", Form::Int32),
        ("l_linenumber", "integer", Form::Int32),
        ("l_quantity", "numeric(15,2)", decimal.clone()),
        ("l_extendedprice", "numeric(15,2)", decimal.clone()),
        ("l_discount", "numeric(15,2)", decimal.clone()),
        ("l_tax", "numeric(15,2)", decimal),
        ("l_returnflag", "character(1)", Form::Text),
        ("l_linestatus", "character(1)", Form::Text),
        ("l_shipdate", "date", Form::Date),
        ("l_commitdate", "date", Form::Date),
        ("l_receiptdate", "date", Form::Date),
        ("l_shipinstruct", "character(25)", Form::Text),
        ("l_shipmode", "character(10)", Form::Text),
        ("l_comment", "character varying(44)", Form::Text),
    ];
    columns.into_iter().map(column).collect()
}

fn column((name, source_type, form): (&str, &str, Form)) -> StreamColumn {
    let column = Column::plain(name, source_type, form.column_type(), false);
    StreamColumn { column, form, infinity: None }
}

/// The same columns in Vertica, where all integers have 64 bits.
fn vertica_columns() -> Vec<StreamColumn> {
    let form = |form: Form| match form {
        Form::Int32 => Form::Int64,
        Form::Decimal { precision, scale } => Form::Unscaled { precision, scale },
        Form::Date => Form::JulianDate,
        form => form,
    };
    let of = |postgres: StreamColumn| {
        column((&postgres.column.name, &postgres.column.source_type, form(postgres.form)))
    };
    columns().into_iter().map(of).collect()
}

/// The stream of the first `rows` rows of lineitem.
fn stream(rows: usize, row: fn(&mut Vec<u8>, &LineItem<'_>)) -> Vec<u8> {
    let mut out = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for item in LineItemGenerator::new(1.0, 1, 1).iter().take(rows) {
        row(&mut out, &item);
    }
    out.extend((-1_i16).to_be_bytes());
    out
}

fn row(out: &mut Vec<u8>, item: &LineItem<'_>) {
    out.extend(16_i16.to_be_bytes());
    field(out, &item.l_orderkey.to_be_bytes());
    for key in [item.l_partkey, item.l_suppkey, item.l_linenumber.into()] {
        field(out, &(key as i32).to_be_bytes());
    }
    numeric(out, item.l_quantity * 100);
    for money in [item.l_extendedprice, item.l_discount, item.l_tax] {
        numeric(out, money.into_inner());
    }
    field(out, item.l_returnflag.as_bytes());
    field(out, item.l_linestatus.as_bytes());
    for date in [item.l_shipdate, item.l_commitdate, item.l_receiptdate] {
        field(out, &(date.to_unix_epoch() - 10_957).to_be_bytes());
    }
    last_texts(out, item);
}

/// A row as Vertica sends it.
fn vertica_row(out: &mut Vec<u8>, item: &LineItem<'_>) {
    out.extend(16_i16.to_be_bytes());
    for key in [item.l_orderkey, item.l_partkey, item.l_suppkey, item.l_linenumber.into()] {
        field(out, &key.to_be_bytes());
    }
    let money = [item.l_extendedprice, item.l_discount, item.l_tax].map(|money| money.into_inner());
    for hundredths in [item.l_quantity * 100].into_iter().chain(money) {
        field(out, &hundredths.to_be_bytes());
    }
    field(out, item.l_returnflag.as_bytes());
    field(out, item.l_linestatus.as_bytes());
    for date in [item.l_shipdate, item.l_commitdate, item.l_receiptdate] {
        field(out, &(i64::from(date.to_unix_epoch()) + 2_440_588).to_be_bytes());
    }
    last_texts(out, item);
}

fn last_texts(out: &mut Vec<u8>, item: &LineItem<'_>) {
    field(out, format!("{:25}", item.l_shipinstruct).as_bytes());
    field(out, format!("{:10}", item.l_shipmode).as_bytes());
    field(out, item.l_comment.as_bytes());
}

fn field(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as i32).to_be_bytes());
    out.extend(bytes);
}

/// A `numeric(15,2)`, from a number of hundredths.
fn numeric(out: &mut Vec<u8>, hundredths: i64) {
    let (mut whole, fraction) = (hundredths / 100, (hundredths % 100) as u16 * 100);
    let mut digits = vec![];
    while whole > 0 {
        digits.insert(0, (whole % 10_000) as u16);
        whole /= 10_000;
    }
    let weight = digits.len() as i16 - 1;
    digits.push(fraction);
    while digits.last() == Some(&0) {
        digits.pop();
    }
    let weight = if digits.is_empty() { 0 } else { weight };
    let mut bytes = Vec::new();
    for word in [digits.len() as u16, weight as u16, 0, 2].into_iter().chain(digits) {
        bytes.extend(word.to_be_bytes());
    }
    field(out, &bytes);
}
