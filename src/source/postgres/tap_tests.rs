use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;

use super::*;

/// A message of the server.
fn message(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len() + 4).expect("small").to_be_bytes();
    [&[kind][..], &length, payload].concat()
}

/// A tap, its handle, the server's end, and the blocks of a COPY.
struct Bench {
    tap: Tap<DuplexStream>,
    handle: TapHandle,
    server: DuplexStream,
    blocks: mpsc::Receiver<Block>,
    progress: Arc<Progress>,
}

fn bench(blocks: usize) -> Bench {
    let (client, server) = duplex(1 << 20);
    let (tap, handle) = Tap::new(client);
    let (sender, receiver) = mpsc::channel(blocks);
    let progress = Arc::new(Progress::default());
    handle.take_rows(Sink { blocks: sender, progress: progress.clone() });
    Bench { tap, handle, server, blocks: receiver, progress }
}

/// Reads this many bytes that pass through.
async fn passed(tap: &mut Tap<DuplexStream>, bytes: usize) -> Vec<u8> {
    let mut passed = vec![0; bytes];
    tap.read_exact(&mut passed).await.expect("passes");
    passed
}

#[derive(Clone, Debug)]
enum Sent {
    Row(Vec<u8>),
    Other(u8, Vec<u8>),
}

fn sent() -> impl Strategy<Value = Sent> {
    let payload = || prop::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        4 => payload().prop_map(Sent::Row),
        1 => (prop::sample::select(b"NSAHTDKZ".as_slice()), payload()).prop_map(|(kind, p)| Sent::Other(kind, p)),
    ]
}

proptest! {
    #[test]
    fn rows_and_messages_are_told_apart_however_they_are_cut(
        messages in prop::collection::vec(sent(), 0..60),
        cuts in prop::collection::vec(1_usize..700, 1..20),
        reads in prop::collection::vec(1_usize..50, 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            let Bench { mut tap, mut server, mut blocks, progress, .. } = bench(1000);
            let (mut stream, mut rows, mut others) = (Vec::new(), Vec::new(), Vec::new());
            for sent in &messages {
                match sent {
                    Sent::Row(payload) => {
                        stream.extend(message(COPY_DATA, payload));
                        rows.extend_from_slice(payload);
                    }
                    Sent::Other(kind, payload) => {
                        stream.extend(message(*kind, payload));
                        others.extend(message(*kind, payload));
                    }
                }
            }
            let done = message(COPY_DONE, b"");
            stream.extend(&done);
            others.extend(&done);
            let writing = async {
                let mut cuts = cuts.iter().cycle();
                let mut rest = stream.as_slice();
                while !rest.is_empty() {
                    let (now, later) = rest.split_at((*cuts.next().expect("endless")).min(rest.len()));
                    server.write_all(now).await.expect("written");
                    tokio::task::yield_now().await;
                    rest = later;
                }
            };
            let reading = async {
                let mut reads = reads.iter().cycle();
                let mut seen = Vec::new();
                while seen.len() < others.len() {
                    let mut buffer = vec![0; *reads.next().expect("endless")];
                    let n = tap.read(&mut buffer).await.expect("read");
                    seen.extend_from_slice(&buffer[..n]);
                }
                seen
            };
            let ((), seen) = tokio::join!(writing, reading);
            assert_eq!(seen, others);
            // All rows have left and their channel is closed before the end of the COPY is seen.
            let mut taken = Vec::new();
            while let Ok(block) = blocks.try_recv() {
                taken.extend(block);
            }
            assert_eq!(taken, rows);
            assert_eq!(blocks.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
            assert_eq!(progress.read().1, rows.len() as u64);
        });
    }
}

#[tokio::test]
async fn a_wide_row_comes_in_blocks_and_waits_for_room() {
    let Bench { mut tap, handle, mut server, mut blocks, .. } = bench(2);
    let row: Vec<u8> = (0..10 * BLOCK_BYTES).map(|i| (i % 251) as u8).collect();
    let expected = row.clone();
    let writing = tokio::spawn(async move {
        server.write_all(&message(COPY_DATA, &row)).await.expect("written");
        server.write_all(&message(COPY_DONE, b"")).await.expect("written");
        server
    });
    let reading = tokio::spawn(async move { passed(&mut tap, HEADER).await });
    while blocks.len() < 2 {
        tokio::task::yield_now().await;
    }
    // The channel is full: the server waits for us, so it is not silent.
    assert!(!writing.is_finished() && !reading.is_finished());
    while !handle.0.is_full.load(Ordering::Relaxed) {
        tokio::task::yield_now().await;
    }
    let silence = handle.silence(Duration::from_millis(50));
    assert!(timeout(Duration::from_millis(300), silence).await.is_err());
    let mut taken = Vec::new();
    while let Some(block) = blocks.recv().await {
        assert!(block.len() <= BLOCK_BYTES);
        taken.extend(block);
    }
    assert!(taken == expected);
    assert_eq!(reading.await.expect("joined"), message(COPY_DONE, b""));
    writing.await.expect("joined");
}

#[tokio::test]
async fn blocks_end_with_rows_and_are_never_too_long() {
    let Bench { mut tap, mut server, mut blocks, progress, .. } = bench(1);
    let rows: Vec<Vec<u8>> = (0..20_000_usize).map(|n| vec![n as u8; n * 7919 % 301]).collect();
    let stream = rows.iter().flat_map(|row| message(COPY_DATA, row)).collect::<Vec<_>>();
    let writing = tokio::spawn(async move {
        server.write_all(&stream).await.expect("written");
        server.write_all(&message(COPY_DONE, b"")).await.expect("written");
        server
    });
    let reading = tokio::spawn(async move { passed(&mut tap, HEADER).await });
    let mut rows_left = rows.iter();
    let mut count = 0;
    while let Some(block) = blocks.recv().await {
        assert!(block.len() <= BLOCK_BYTES);
        let mut rest = &block[..];
        while !rest.is_empty() {
            rest = rest.strip_prefix(&rows_left.next().expect("a row")[..]).expect("it is whole");
        }
        count += 1;
    }
    assert_eq!(rows_left.map(Vec::len).sum::<usize>(), 0);
    assert!(count > 10, "{count} blocks");
    assert_eq!(progress.read().1, rows.iter().map(Vec::len).sum::<usize>() as u64);
    assert_eq!(reading.await.expect("joined"), message(COPY_DONE, b""));
    writing.await.expect("joined");
}

#[tokio::test]
async fn few_rows_do_not_wait_for_more() {
    let Bench { mut tap, mut server, mut blocks, .. } = bench(2);
    let reading = tokio::spawn(async move { passed(&mut tap, HEADER).await });
    server.write_all(&message(COPY_DATA, b"row")).await.expect("written");
    let block = timeout(Duration::from_secs(60), blocks.recv()).await.expect("comes without company");
    assert_eq!(block.expect("a block"), b"row");
    reading.abort();
}

#[tokio::test]
async fn rows_that_nobody_wants_any_more_are_read_away() {
    for closes in [true, false] {
        let Bench { mut tap, handle, mut server, mut blocks, .. } = bench(1);
        let writing = tokio::spawn(async move {
            for _ in 0..20 {
                server.write_all(&message(COPY_DATA, &vec![7; BLOCK_BYTES])).await.expect("written");
            }
            server.write_all(&message(ERROR_RESPONSE, b"cancelled")).await.expect("written");
            server
        });
        let error = message(ERROR_RESPONSE, b"cancelled");
        let length = error.len();
        let reading = tokio::spawn(async move { passed(&mut tap, length).await });
        while !handle.0.is_full.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
        if closes {
            blocks.close();
            while blocks.recv().await.is_some() {}
        } else {
            handle.discard();
        }
        assert_eq!(reading.await.expect("joined"), error);
        writing.await.expect("joined");
    }
}

#[tokio::test]
async fn without_a_sink_everything_passes() {
    let Bench { mut tap, mut server, mut blocks, .. } = bench(1);
    let stream = [message(COPY_DONE, b""), message(COPY_DATA, b"row"), message(b'Z', b"I")].concat();
    server.write_all(&stream).await.expect("written");
    assert_eq!(passed(&mut tap, stream.len()).await, stream);
    assert_eq!(blocks.recv().await, None);
}

#[tokio::test]
async fn a_message_shorter_than_its_length_is_an_error() {
    let Bench { mut tap, mut server, .. } = bench(1);
    server.write_all(&[b'd', 0, 0, 0, 3]).await.expect("written");
    let error = tap.read_u8().await.expect_err("refused");
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn a_server_that_is_silent_is_noticed() {
    let Bench { tap, handle, server, .. } = bench(1);
    let (longest, soon) = (Duration::from_millis(20), Duration::from_secs(60));
    let began = Instant::now();
    timeout(soon, handle.silence(longest)).await.expect("noticed");
    assert!(began.elapsed() >= longest, "not before its time");
    // A tap without room does not wait for the server.
    handle.0.is_full.store(true, Ordering::Relaxed);
    timeout(10 * longest, handle.silence(longest)).await.expect_err("it is not the server that is silent");
    drop((tap, server));
}

#[tokio::test]
async fn the_next_copy_is_taken_after_one_that_nobody_wanted() {
    let Bench { mut tap, handle, mut server, progress, .. } = bench(1);
    handle.discard();
    let (sender, mut blocks) = mpsc::channel(1);
    handle.take_rows(Sink { blocks: sender, progress });
    let done = message(COPY_DONE, b"");
    server.write_all(&[message(COPY_DATA, b"row"), done.clone()].concat()).await.expect("written");
    assert_eq!(passed(&mut tap, done.len()).await, done);
    assert_eq!(blocks.recv().await.expect("it is taken"), b"row");
}
