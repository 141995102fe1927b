//! What a process takes from its machine: wall clock, new random ids, number of cores. The machine is a
//! trait, so that a simulated process gets all of these from its seed.

use jiff::Timestamp;
use uuid::Uuid;

/// The machine of a process.
pub trait Machine: Send + Sync {
    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// A new UUID.
    fn fresh(&self) -> Uuid;

    /// The number of cores that this process may use.
    fn cores(&self) -> u32;

    /// A random number in [0, 1).
    fn fraction(&self) -> f64 {
        // The last 48 bits of a random UUID are random.
        let bits = self.fresh().as_u128() & ((1 << 48) - 1);
        bits as f64 / (1u64 << 48) as f64
    }
}

/// The real machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThisMachine;

impl Machine for ThisMachine {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn fresh(&self) -> Uuid {
        Uuid::new_v4()
    }

    fn cores(&self) -> u32 {
        std::thread::available_parallelism().map_or(2, |n| u32::try_from(n.get()).unwrap_or(2))
    }
}
