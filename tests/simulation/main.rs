//! Deterministic simulation. Intake, planners, workers, coordinators and keepers run unchanged over a folder,
//! a broker, a clock and a source in memory, and anything that can go wrong between two of their effects does
//! go wrong.
//!
//! The clock is virtual and advances by itself (tokio's, paused). Every effect first waits for a time that
//! the seed decides: that is the scheduler. Then one of these happens: the effect succeeds as a whole and at
//! once; it fails; it succeeds and is reported as failed; or its process dies before or after it. When the
//! faults have stopped, every job must end, and the content of the folder must be right.
//!
//! A schedule follows from its seed alone. `ADU_SIMULATION_SEED=n` plays one again and prints its effects,
//! `ADU_SIMULATION_SCHEDULES=n` sets how many are played, `ADU_SIMULATION_BASE=n` sets the first seed. `make
//! test` plays the same seeds in every run, so that it fails only for a change and not by chance; `make
//! simulate` plays new seeds.

mod broker;
mod bus;
mod check;
mod depot;
mod dice;
mod disk;
mod faults;
mod folder;
mod found;
mod held;
mod ledger;
mod play;
mod process;
mod schedule;
mod source;
mod witness;
mod world;

use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use dice::Dice;
use play::{Played, Stage};
use schedule::Schedule;

/// The allocator of the daemon. It is faster than the default on many small allocations.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

thread_local! {
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok().filter(|t| !t.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, it is `{text}`")))
}

/// Counts panics: the runtime catches those of tasks, and the simulation must not miss them.
fn count_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            hook(info);
        }));
    });
}

fn play(stage: &Stage, seed: u64, traced: bool) -> Played {
    let mut dice = Dice::new(seed);
    let schedule = Schedule::roll(&mut dice);
    perform(stage, &schedule, dice, traced)
}

fn perform(stage: &Stage, schedule: &Schedule, dice: Dice, traced: bool) -> Played {
    let panics = PANICS.get();
    let mut played = stage.play(schedule, dice, traced);
    if PANICS.get() > panics {
        played.broken.push("a task panicked".into());
    }
    if traced {
        played.trace.insert(0, format!("{schedule:#?}"));
    }
    played
}

#[test]
fn many_schedules_keep_every_promise() {
    count_panics();
    if let Some(seed) = number("ADU_SIMULATION_SEED") {
        let played = play(&Stage::new(), seed, true);
        played.trace.iter().for_each(|line| println!("{line}"));
        assert!(played.broken.is_empty(), "seed {seed}: {:#?}", played.broken);
        return;
    }
    let schedules = number("ADU_SIMULATION_SCHEDULES").unwrap_or(60_000);
    let base = number("ADU_SIMULATION_BASE").unwrap_or(0);
    println!("seeds from {base}");
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let failed: Mutex<Vec<(u64, Vec<String>)>> = Mutex::default();
    let (steps, seconds) = (AtomicU64::new(0), AtomicU64::new(0));
    let begun = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let stage = Stage::new();
                loop {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    if nth >= schedules || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let seed = base + nth;
                    let played = play(&stage, seed, false);
                    steps.fetch_add(played.steps, Ordering::Relaxed);
                    seconds.fetch_add(played.seconds, Ordering::Relaxed);
                    if !played.broken.is_empty() {
                        let mut failed = failed.lock().expect("no thread panics with it");
                        failed.push((seed, played.broken));
                        if failed.len() >= 5 {
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no thread panics with it");
    println!(
        "{} schedules, {} effects, {} simulated hours in {:.1} s",
        next.load(Ordering::Relaxed).min(schedules),
        steps.into_inner(),
        seconds.into_inner() / 3600,
        begun.elapsed().as_secs_f64()
    );
    for (seed, broken) in &failed {
        println!("ADU_SIMULATION_SEED={seed}");
        broken.iter().for_each(|text| println!("    {text}"));
    }
    assert!(failed.is_empty(), "promises were broken; replay with ADU_SIMULATION_SEED");
}

#[test]
fn a_seed_plays_the_same_schedule_every_time() {
    count_panics();
    let stage = Stage::new();
    for seed in 0..20 {
        let (first, second) = (play(&stage, seed, true), play(&stage, seed, true));
        let differs = first.trace.iter().zip(&second.trace).position(|(a, b)| a != b);
        if let Some(at) = differs {
            panic!("seed {seed} differs at line {at}: {} and {}", first.trace[at], second.trace[at]);
        }
        assert_eq!(first.trace.len(), second.trace.len(), "seed {seed}");
        assert!(first.steps > 20, "seed {seed} does something");
    }
}
