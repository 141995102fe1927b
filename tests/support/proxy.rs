//! A TCP proxy between a daemon and a server. It can slow down the server's data, so that a test can act in
//! the middle of a chunk. It can also act as a network that is gone or that loses everything.

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

/// The state of the flow from the server, for all connections together.
struct Flow {
    /// Bytes per second.
    rate: AtomicU64,
    passed: AtomicU64,
    next: Mutex<Instant>,
    /// Number of connections so far; also the number of the next one.
    accepted: AtomicU64,
    /// Connections with a lower number forward nothing.
    stalled: AtomicU64,
    /// New connections are closed at once.
    gone: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

/// A rate that is faster than any test sends.
const FREE: u64 = 1 << 40;

/// Answers up to this size never wait.
const SHORT: u64 = 2048;

/// How often a stalled connection checks whether it may continue.
const STEP: Duration = Duration::from_millis(20);

impl Proxy {
    /// Listens on a new port. At first it forwards without delay.
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

    /// Acts as if the server were gone: every connection ends, and new ones are closed at once.
    pub(crate) fn cut(&self) {
        self.flow.gone.store(true, Ordering::Relaxed);
        for client in self.flow.open().drain(..) {
            let _ = client.shutdown(Shutdown::Both);
        }
    }

    /// Undoes [`cut`](Self::cut), [`stall`](Self::stall) and [`slow_to`](Self::slow_to).
    pub(crate) fn mend(&self) {
        self.flow.gone.store(false, Ordering::Relaxed);
        self.flow.stalled.store(0, Ordering::Relaxed);
        self.free();
    }

    /// Keeps existing connections open but forwards nothing on them. New connections work.
    pub(crate) fn stall(&self) {
        self.flow.stalled.store(self.flow.accepted.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// From now on the server's bytes pass at this rate, for all connections together.
    pub(crate) fn slow_to(&self, bytes_per_second: u64) {
        self.flow.rate.store(bytes_per_second, Ordering::Relaxed);
    }

    /// Lets everything pass again.
    pub(crate) fn free(&self) {
        self.slow_to(FREE);
    }

    /// Number of bytes that the server has sent through the proxy.
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

    /// Waits until `bytes` more may pass. Short answers pass at once: only rows are slow, not the rest of the
    /// conversation (a new connection, a cancel).
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
    // If one side closes, close the other one, as without a proxy.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
