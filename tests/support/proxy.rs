//! A TCP proxy between a daemon and a server: it slows what the server sends,
//! so that "in the middle of a chunk" is a moment that a test can choose, and
//! it can be a network that is gone or that swallows everything.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A proxy in front of a port of 127.0.0.1.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    flow: Arc<Flow>,
}

/// The server's bytes, all connections together.
struct Flow {
    /// Bytes a second.
    rate: AtomicU64,
    passed: AtomicU64,
    next: Mutex<Instant>,
    /// Connections so far: the number of the next one.
    accepted: AtomicU64,
    /// Connections with a lower number forward nothing.
    stalled: AtomicU64,
    /// New connections are closed at once.
    gone: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

/// Faster than anything that the tests send.
const FREE: u64 = 1 << 40;

/// Bytes that never wait.
const SHORT: u64 = 2048;

/// How often a stalled connection looks whether it may go on.
const STEP: Duration = Duration::from_millis(20);

impl Proxy {
    /// Listens on a port of its own; forwards freely at first.
    pub(crate) fn to(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("listen");
        let port = listener.local_addr().expect("bound").port();
        let flow = Arc::new(Flow {
            rate: FREE.into(),
            passed: 0.into(),
            next: Mutex::new(Instant::now()),
            accepted: 0.into(),
            stalled: 0.into(),
            gone: false.into(),
            open: Mutex::default(),
        });
        let shared = flow.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let number = shared.accepted.fetch_add(1, Ordering::Relaxed);
                if shared.gone.load(Ordering::Relaxed) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let (Ok(from_client), Ok(to_client)) = (client.try_clone(), client.try_clone()) else {
                    continue;
                };
                let Ok(from_server) = server.try_clone() else { continue };
                shared.open().push(client);
                let (up, down) = (shared.clone(), shared.clone());
                thread::spawn(move || forward(from_client, server, |_| up.wait_while_stalled(number)));
                thread::spawn(move || {
                    forward(from_server, to_client, |n| {
                        down.pass(n);
                        down.wait_while_stalled(number);
                    });
                });
            }
        });
        Self { port, flow }
    }

    /// The server is gone: every connection ends, and no new one lives.
    pub(crate) fn cut(&self) {
        self.flow.gone.store(true, Ordering::Relaxed);
        for client in self.flow.open().drain(..) {
            let _ = client.shutdown(Shutdown::Both);
        }
    }

    /// All is as before.
    pub(crate) fn mend(&self) {
        self.flow.gone.store(false, Ordering::Relaxed);
        self.flow.stalled.store(0, Ordering::Relaxed);
        self.free();
    }

    /// What is connected now stays so and carries nothing any more; new connections work.
    pub(crate) fn stall(&self) {
        self.flow.stalled.store(self.flow.accepted.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// From now on the server's bytes pass at this rate, all connections together.
    pub(crate) fn slow_to(&self, bytes_per_second: u64) {
        self.flow.rate.store(bytes_per_second, Ordering::Relaxed);
    }

    /// Lets everything pass again.
    pub(crate) fn free(&self) {
        self.slow_to(FREE);
    }

    /// Bytes that the server has sent through it.
    pub(crate) fn passed(&self) -> u64 {
        self.flow.passed.load(Ordering::Relaxed)
    }
}

impl Flow {
    fn open(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while_stalled(&self, number: u64) {
        while number < self.stalled.load(Ordering::Relaxed) {
            thread::sleep(STEP);
        }
    }

    /// Waits until `bytes` more may pass. Short answers pass at once: rows are
    /// slow, the rest of the conversation (a new connection, a cancel) is not.
    fn pass(&self, bytes: u64) {
        self.passed.fetch_add(bytes, Ordering::Relaxed);
        if bytes < SHORT {
            return;
        }
        let rate = self.rate.load(Ordering::Relaxed);
        let wait = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            *next = (*next).max(now) + Duration::from_secs_f64(bytes as f64 / rate as f64);
            *next - now
        };
        thread::sleep(wait);
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, pass: impl Fn(u64)) {
    let mut buffer = [0; 8 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        pass(n as u64);
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    // One side gone is both sides gone, as for a connection without a proxy.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
