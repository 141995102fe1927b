//! Cases for counting the instructions of decoding, framing and encoding. Each case runs a fixed input
//! through [`measured`], so that a tool can count this function alone (`scripts/instructions.py`, with
//! callgrind).
//!
//! `instructions --list`, `instructions CASE`

use std::hint::black_box;

use adu_export::folder::exclusive::ExclusiveFile;
use adu_export::message::output::PARTITIONS_MAX;
use adu_export::message::request::OnUnfit;
use adu_export::message::setting::Compression;
use adu_export::message::{ChunkNo, Epoch};
use adu_export::plan::export_plan::WriterSettings;
use adu_export::relation::Column;
use adu_export::relation::column::schema;
use adu_export::source::decode::{CopyDecoder, Form, FormAttribute, StreamColumn};
use adu_export::write::{PartWriter, Provenance};
use arrow::array::RecordBatch;
use uuid::Uuid;

/// Rows of a decoding case.
const ROWS: u32 = 8192;

/// Returns the field of the nth row of a column.
type Field = fn(u32) -> Option<Vec<u8>>;

/// The decoding cases: name, form, field.
fn decoding() -> Vec<(&'static str, Form, Field)> {
    use Form as T;
    let list = || T::List(Box::new(T::Int32));
    let pair = || {
        let part = |name: &str, form| FormAttribute { name: name.into(), form };
        T::Struct(vec![part("number", T::Int32), part("word", T::Text)])
    };
    vec![
        ("bool", T::Bool, |n| Some(vec![(n % 2) as u8])),
        ("int2", T::Int16, |n| Some((n as i16).to_be_bytes().into())),
        ("int4", T::Int32, |n| Some(n.to_be_bytes().into())),
        ("int4, half NULL", T::Int32, |n| scatter(n).is_multiple_of(2).then(|| n.to_be_bytes().into())),
        ("int8", T::Int64, |n| Some(u64::from(n).to_be_bytes().into())),
        ("float8", T::Float64, |n| Some(f64::from(n).to_be_bytes().into())),
        ("numeric(15,2)", T::Decimal { precision: 15, scale: 2 }, |n| Some(numeric(n, 0))),
        ("numeric(38,4)", T::Decimal { precision: 38, scale: 4 }, |n| Some(numeric(n, 4))),
        ("numeric as text", T::NumericText, |n| Some(numeric(n, 2))),
        ("date", T::Date, |n| Some(n.to_be_bytes().into())),
        ("timestamptz", T::TimestampTz, |n| Some((u64::from(n) << 30).to_be_bytes().into())),
        ("interval", T::Interval, |n| Some([n.to_be_bytes(); 4].concat())),
        ("uuid", T::Uuid, |n| Some([scatter(n).to_be_bytes(); 2].concat())),
        ("text of 12 bytes", T::Text, |n| Some(format!("customer{:04}", n % 10_000).into())),
        ("text of 100 bytes", T::Text, |n| Some(format!("{:0100}", scatter(n)).into())),
        ("jsonb", T::Json, |n| Some(format!("\u{1}{{\"id\": {n}}}").into())),
        ("bytea", T::Bytes, |n| Some(scatter(n).to_le_bytes().into())),
        ("int4[]", list(), |n| Some(array(n))),
        ("composite", pair(), |n| Some(composite(n))),
        ("int4range", T::Range(Box::new(T::Int32)), |n| {
            Some([&[2_u8][..], &sized(&n.to_be_bytes()), &sized(&(n + 9).to_be_bytes())].concat())
        }),
    ]
}

/// The encoding cases: name, form and field of a column that is decoded before, compression.
fn encoding() -> Vec<(&'static str, Form, Field, Compression)> {
    use Form as T;
    vec![
        ("keys in order", T::Int64, |n| Some(u64::from(n).to_be_bytes().into()), Compression::None),
        ("scattered int4", T::Int32, |n| Some((scatter(n) as u32).to_be_bytes().into()), Compression::None),
        ("few numbers", T::Int32, |n| Some((n % 50).to_be_bytes().into()), Compression::None),
        ("few texts", T::Text, |n| Some(format!("status {}", n % 7).into()), Compression::None),
        ("new texts", T::Text, |n| Some(format!("{:040}", scatter(n)).into()), Compression::None),
        ("new texts, snappy", T::Text, |n| Some(format!("{:040}", scatter(n)).into()), Compression::Snappy),
        ("decimals", T::Decimal { precision: 15, scale: 2 }, |n| Some(numeric(n, 0)), Compression::None),
    ]
}

fn main() -> anyhow::Result<()> {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let mut names = vec!["frame 50 columns".to_owned()];
    if wanted == names[0] {
        let columns = vec![column("c".into(), Form::Int16); 50];
        let bytes = stream(50, ROWS / 16, |n| Some((n as i16).to_be_bytes().into()));
        return measured(|| drop(decode(&columns, &bytes)));
    }
    for (name, form, field) in decoding() {
        names.push(format!("decode {name}"));
        if names.last() == Some(&wanted) {
            let (columns, bytes) = (vec![column(name.into(), form)], stream(1, ROWS, field));
            return measured(|| drop(decode(&columns, &bytes)));
        }
    }
    for (name, form, field, compression) in encoding() {
        names.push(format!("encode {name}"));
        if names.last() == Some(&wanted) {
            let columns = vec![column(name.into(), form)];
            let batches = decode(&columns, &stream(1, ROWS, field));
            return encode(&columns, batches, compression);
        }
    }
    anyhow::ensure!(wanted == "--list", "there is no case {wanted:?}; --list shows them");
    names.iter().for_each(|name| println!("{name}"));
    Ok(())
}

/// The function whose instructions are counted.
#[inline(never)]
fn measured(work: impl FnOnce()) -> anyhow::Result<()> {
    work();
    black_box(());
    Ok(())
}

fn decode(columns: &[StreamColumn], bytes: &[u8]) -> Vec<RecordBatch> {
    let mut decoder = CopyDecoder::new(columns, &[], OnUnfit::Error);
    let mut batches = Vec::new();
    for piece in bytes.chunks(256 << 10) {
        decoder.take(piece.to_vec());
        while let Some(batch) = decoder.next_batch().expect("a sound stream") {
            batches.push(batch);
        }
    }
    while let Some(batch) = decoder.finish().expect("a sound stream") {
        batches.push(batch);
    }
    batches
}

fn encode(
    columns: &[StreamColumn],
    batches: Vec<RecordBatch>,
    compression: Compression,
) -> anyhow::Result<()> {
    let dir = std::env::temp_dir().join(format!("adu-instructions-{}", Uuid::new_v4()));
    std::fs::create_dir(&dir)?;
    let provenance = Provenance {
        job: "count".parse()?,
        source: "memory".parse()?,
        table: "s.t".into(),
        epoch: Epoch(1),
        chunk: ChunkNo(0),
        predicate: "all".into(),
        snapshot: None,
    };
    let settings = WriterSettings {
        compression,
        row_group_bytes: 16 << 20,
        file_bytes: None,
        partitions_max: PARTITIONS_MAX,
        types: Default::default(),
    };
    let columns: Vec<Column> = columns.iter().map(|c| c.column.clone()).collect();
    let path = dir.join("part");
    let file = ExclusiveFile::create(&path)?;
    let mut part = PartWriter::create(file, path, schema(&columns), &settings, &provenance, &columns)?;
    let done = measured(move || {
        for batch in batches {
            part.write(batch).expect("there is room");
        }
        let written = part.close().expect("there is room");
        let _ = written.sink.commit_unsynced().expect("there is room");
    });
    std::fs::remove_dir_all(&dir)?;
    done
}

fn column(name: String, form: Form) -> StreamColumn {
    let column = Column::plain(&name, "t", form.column_type(), true);
    StreamColumn { column, form, infinity: None }
}

fn stream(columns: u16, rows: u32, field: impl Fn(u32) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut out = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for row in 0..rows {
        out.extend(columns.to_be_bytes());
        for _ in 0..columns {
            match field(row) {
                Some(bytes) => out.extend(sized(&bytes)),
                None => out.extend((-1_i32).to_be_bytes()),
            }
        }
    }
    out.extend((-1_i16).to_be_bytes());
    out
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

/// Scatters numbers, so that they look random.
fn scatter(n: u32) -> u64 {
    u64::from(n).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31)
}

/// A numeric with two digits after the point and `groups` more groups of four digits before it.
fn numeric(n: u32, groups: u16) -> Vec<u8> {
    let digits: Vec<u16> = (0..groups).map(|_| 1234).chain([(n % 10_000) as u16, 2500]).collect();
    let words = [digits.len() as u16, groups, 0, 2];
    words.into_iter().chain(digits).flat_map(u16::to_be_bytes).collect()
}

/// An array of three int4.
fn array(n: u32) -> Vec<u8> {
    let head = [1, 0, 23, 3, 1_u32].map(u32::to_be_bytes).concat();
    [head, (0..3).flat_map(|i| sized(&(n + i).to_be_bytes())).collect()].concat()
}

/// A composite of int4 and text.
fn composite(n: u32) -> Vec<u8> {
    let attribute = |oid: u32, bytes: &[u8]| [oid.to_be_bytes().to_vec(), sized(bytes)].concat();
    [2_u32.to_be_bytes().to_vec(), attribute(23, &n.to_be_bytes()), attribute(25, b"word")].concat()
}
