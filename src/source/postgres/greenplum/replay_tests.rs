//! A Greenplum server that answers as a real one did. A change of a statement makes these tests fail: then the
//! answers are recorded again from a cluster that has `tests/fixtures/greenplum/tables.sql`:
//! `ADU_TEST_GREENPLUM_DSN=… cargo test --features failpoints --lib replay_tests`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::PostgresSource;
use super::piece::Piece;
use crate::config::SourceConfig;
use crate::message::SourceName;
use crate::message::pattern::TablePattern;
use crate::message::request::StrategyRequest;
use crate::message::setting::ReadWay;
use crate::relation::pieces::{Pieces, Wanted};
use crate::relation::{MappingOptions, Relation, RelationKind, SurveyRequest};
use crate::source::Source;

/// What a server said: bytes in hexadecimal, by the statement that they answer.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Recorded(BTreeMap<String, String>);

/// Stands for a statement where a client logs in.
const LOGIN: &str = "(login)";
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/greenplum/recorded.json");
const RECORDED: &str = include_str!("../../../../tests/fixtures/greenplum/recorded.json");

/// One message, with its header.
async fn message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 5];
    stream.read_exact(&mut bytes).await.ok()?;
    let length = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize;
    let mut rest = vec![0; length.checked_sub(4)?];
    stream.read_exact(&mut rest).await.ok()?;
    bytes.extend(rest);
    Some(bytes)
}

/// All that a server says until it is ready for the next statement.
async fn answer(server: &mut TcpStream) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let message = message(server).await?;
        all.extend_from_slice(&message);
        if message[0] == b'Z' {
            return Some(all);
        }
    }
}

/// The message with which a client begins.
async fn startup(client: &mut TcpStream) -> Option<Vec<u8>> {
    let length = client.read_u32().await.ok()?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.resize(length as usize, 0);
    client.read_exact(&mut bytes[4..]).await.ok()?;
    Some(bytes)
}

/// The text of a simple query.
fn statement(message: &[u8]) -> Option<String> {
    let text = message.strip_prefix(b"Q")?.get(4..)?.strip_suffix(b"\0")?;
    String::from_utf8(text.to_vec()).ok()
}

/// Serves one client: from a real server at `upstream`, and notes its answers; else from the notes.
async fn serve(mut client: TcpStream, upstream: Option<String>, notes: Arc<Mutex<Recorded>>) -> Option<()> {
    let begin = startup(&mut client).await?;
    let mut server = match upstream {
        Some(address) => Some(TcpStream::connect(address).await.ok()?),
        None => None,
    };
    let (mut said, mut asked) = (begin, LOGIN.to_owned());
    loop {
        let answer = match &mut server {
            Some(server) => {
                server.write_all(&said).await.ok()?;
                let answer = answer(server).await?;
                let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
                notes.0.insert(asked, hex::encode(&answer));
                answer
            }
            None => {
                let notes = notes.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let Some(answer) = notes.0.get(&asked) else {
                    panic!("this statement is not recorded: {asked}");
                };
                hex::decode(answer).expect("hexadecimal")
            }
        };
        client.write_all(&answer).await.ok()?;
        said = message(&mut client).await?;
        asked = statement(&said)?;
    }
}

/// A source that reads from the notes, or from the cluster of `ADU_TEST_GREENPLUM_DSN`.
async fn source() -> (PostgresSource, Arc<Mutex<Recorded>>, bool) {
    let upstream = std::env::var("ADU_TEST_GREENPLUM_DSN").ok().map(|dsn| {
        let rest = dsn.split('@').nth(1).expect("postgres://user@host:port/database").to_owned();
        rest.split('/').next().expect("a host").to_owned()
    });
    let recorded =
        if upstream.is_some() { Recorded::default() } else { serde_json::from_str(RECORDED).expect("JSON") };
    let notes = Arc::new(Mutex::new(recorded));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let port = listener.local_addr().expect("an address").port();
    let (is_recording, of_server) = (upstream.is_some(), Arc::clone(&notes));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(serve(client, upstream.clone(), Arc::clone(&of_server)));
        }
    });
    let toml =
        format!("kind = \"greenplum\"\ndsn = \"postgres://gpadmin@127.0.0.1:{port}/adu?sslmode=disable\"");
    let config: SourceConfig = toml::from_str(&toml).expect("valid");
    let crate::config::SourceKind::Greenplum(server) = &config.kind else { panic!("another kind") };
    let name = SourceName::parse("dwh").expect("valid");
    (PostgresSource::new(&name, &config, server).expect("a source"), notes, is_recording)
}

const WANTED: Wanted = Wanted {
    read: ReadWay::Auto,
    must: true,
    strategy: StrategyRequest::Auto,
    by_column: false,
    chunk_rows: None,
    chunk_bytes: std::num::NonZeroU64::new(4 << 30).expect("not zero"),
    filtered: None,
    only: false,
};

fn pieces(source: &PostgresSource, relation: &Relation, wanted: Wanted) -> Pieces {
    let columns: Vec<_> =
        relation.columns.iter().map(|c| source.map_column(c, &MappingOptions::default())).collect();
    source.pieces(relation, &columns, &wanted).expect("possible").expect("of its own")
}

fn leaves(pieces: &Pieces) -> Vec<String> {
    let piece = |piece: &crate::relation::pieces::Piece| piece.of.thaw::<Piece>().expect("a piece");
    pieces.pieces.iter().flat_map(|p| piece(p).leaves).map(|leaf| leaf.name).collect()
}

#[tokio::test]
async fn the_survey_tells_every_kind_of_table_and_its_leaves() {
    let (source, notes, is_recording) = source().await;
    let pattern = |text: &str| text.parse::<TablePattern>().expect("a pattern");
    let request = SurveyRequest {
        tables: ["fixture.*", "fixture.seen", "fixture.outside", "fixture.parted_1_prt_2"]
            .map(pattern)
            .to_vec(),
        ..SurveyRequest::default()
    };
    let relations = source.survey(&request, None).await.expect("surveyed");
    assert_eq!(source.most_chunks(None).await.expect("asked"), None, "superusers are exempt");
    let found: BTreeMap<&str, &Relation> = relations.iter().map(|r| (r.name.as_str(), r)).collect();
    let kinds: Vec<(&str, RelationKind)> = found.values().map(|r| (r.name.as_str(), r.kind)).collect();
    assert_eq!(
        kinds,
        [
            ("ao_column", RelationKind::Table),
            ("ao_row", RelationKind::Table),
            ("child", RelationKind::Table),
            ("heap", RelationKind::Table),
            ("outside", RelationKind::Foreign),
            ("parent", RelationKind::Table),
            ("parted", RelationKind::Partitioned),
            ("parted_1_prt_2", RelationKind::Partition),
            ("replicated", RelationKind::Table),
            ("seen", RelationKind::View),
            ("typed", RelationKind::Table),
        ]
    );
    assert_eq!(found["heap"].primary_key, ["id"]);
    assert_eq!(found["heap"].estimated_rows, Some(3000));
    // The rows of each leaf, once.
    assert_eq!(found["parted"].estimated_rows, Some(1000));
    // Not once for each of the three segments.
    assert_eq!(found["replicated"].bytes, 32 << 10);
    assert_eq!(found["parent"].contains, ["fixture.child"]);
    let split = |name: &str| pieces(&source, found[name], WANTED);
    assert_eq!(
        leaves(&split("parted")),
        ["parted_1_prt_2", "parted_1_prt_3", "parted_1_prt_4", "parted_1_prt_other"]
    );
    assert_eq!(leaves(&split("parent")), ["child", "parent"]);
    let alone = pieces(&source, found["parent"], Wanted { only: true, ..WANTED });
    assert_eq!(leaves(&alone), ["parent"]);
    let ways: Vec<(&str, ReadWay)> = ["heap", "ao_column", "replicated", "typed", "seen", "outside"]
        .map(|name| (name, split(name).read))
        .to_vec();
    assert_eq!(
        ways,
        [
            ("heap", ReadWay::Copy),
            ("ao_column", ReadWay::Copy),
            ("replicated", ReadWay::Copy),
            // A tsquery is exported as text.
            ("typed", ReadWay::Query),
            ("seen", ReadWay::Query),
            ("outside", ReadWay::Query),
        ]
    );
    let segments = Wanted { read: ReadWay::Query, strategy: StrategyRequest::Segment, ..WANTED };
    assert_eq!(pieces(&source, found["heap"], segments).pieces.len(), 3);
    if is_recording {
        let notes = notes.lock().expect("nobody panicked").clone();
        std::fs::write(FILE, serde_json::to_string_pretty(&notes).expect("JSON") + "\n").expect("written");
    }
}
