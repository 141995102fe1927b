//! A TCP proxy between a daemon and a server: it slows what the server sends,
//! so that "in the middle of a chunk" is a moment that a test can choose.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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
}

/// Faster than anything that the tests send.
const FREE: u64 = 1 << 40;

/// Bytes that never wait.
const SHORT: u64 = 2048;

impl Proxy {
    /// Listens on a port of its own; forwards freely at first.
    pub(crate) fn to(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("listen");
        let port = listener.local_addr().expect("bound").port();
        let flow = Arc::new(Flow { rate: FREE.into(), passed: 0.into(), next: Mutex::new(Instant::now()) });
        let shared = flow.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let (Ok(from_client), Ok(to_client)) = (client.try_clone(), client.try_clone()) else {
                    continue;
                };
                let (Ok(from_server), flow) = (server.try_clone(), shared.clone()) else { continue };
                thread::spawn(move || forward(from_client, server, |_| {}));
                thread::spawn(move || forward(from_server, to_client, |n| flow.pass(n)));
            }
        });
        Self { port, flow }
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
