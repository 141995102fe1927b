//! The events of a schedule besides the work itself: tables, requests and disturbances, all from one seed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::dice::Dice;
use crate::faults::Faults;
use crate::source::Quirks;

/// The most hosts of a random schedule.
const SOME_HOSTS: u64 = 3;

/// Something that happens at a certain time.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A message for the requests queue, with its `message_id`.
    Send(Value, String),
    /// An ordinary transaction: older snapshots keep seeing the old rows.
    Update(String),
    /// A rewrite with other rows: older snapshots cannot read the table.
    Rewrite(String),
    /// The keepers of one host, or of all, lose their sessions.
    KillKeepers(Option<usize>),
    /// The broker loses all tasks and all messages to the coordinator.
    Wipe,
    /// The broker closes all connections.
    Restart,
    /// The broker ends the sessions that hold a task. The task goes to the next worker, and the first one
    /// works on.
    TakeAway,
    /// kill -9
    Kill(usize),
    /// SIGTERM
    Terminate(usize),
}

/// A requested job.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) tables: Vec<String>,
    pub(crate) snapshot: bool,
    /// The job may end as cancelled.
    pub(crate) ends_early: bool,
    pub(crate) on_conflict: &'static str,
}

#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pub(crate) faults: Faults,
    pub(crate) hosts: usize,
    pub(crate) slots: u32,
    /// Tables are published in the depot.
    pub(crate) depot: bool,
    /// Tables and how many rows they have.
    pub(crate) tables: BTreeMap<String, i64>,
    pub(crate) quirks: Quirks,
    pub(crate) jobs: Vec<Job>,
    /// By time, in milliseconds.
    pub(crate) events: Vec<(u64, Event)>,
}

impl Schedule {
    pub(crate) fn roll(dice: &mut Dice) -> Self {
        let faults = Faults::roll(dice);
        let hosts = usize::try_from(dice.between(1, SOME_HOSTS)).expect("few");
        let mut tables = BTreeMap::new();
        for n in 0..dice.between(1, 4) {
            let rows = if dice.one_in(6) { 0 } else { dice.between(1, 12) };
            tables.insert(format!("t{n}"), i64::try_from(rows).expect("few"));
        }
        let names: Vec<String> = tables.keys().cloned().collect();
        let mut some = |one_in: u64| -> BTreeSet<String> {
            names.iter().filter(|_| dice.one_in(one_in)).cloned().collect()
        };
        let quirks = Quirks { unfit: some(8), broken: some(15), ..Quirks::default() };
        let last = u64::try_from(faults.last.as_millis()).expect("short");
        let mut schedule = Self {
            faults,
            hosts,
            slots: u32::try_from(dice.between(1, 4)).expect("few"),
            depot: dice.one_in(3),
            tables,
            quirks,
            jobs: Vec::new(),
            events: Vec::new(),
        };
        let jobs = dice.pick(&[1, 1, 1, 2, 2, 3]);
        for n in 0..jobs {
            schedule.job(dice, n, &names, last);
        }
        schedule.mischief(dice, &names, last);
        schedule.events.sort_by_key(|(at, _)| *at);
        schedule
    }

    fn job(&mut self, dice: &mut Dice, n: u64, names: &[String], last: u64) {
        let id = format!("j{n}");
        let mut tables: Vec<String> = names.iter().filter(|_| !dice.one_in(4)).cloned().collect();
        if tables.is_empty() {
            tables.push(names[0].clone());
        }
        let asked: Vec<Value> = tables
            .iter()
            .map(|t| match dice.below(3) {
                0 => json!(format!("s.{t}")),
                _ => json!({"table": format!("s.{t}"), "chunk_rows": dice.between(2, 6)}),
            })
            .collect();
        let on_conflict = dice.pick(&["version", "version", "version", "timestamp", "fail"]);
        let snapshot = !dice.one_in(4);
        let mut body = json!({
            "job_id": id, "tables": asked, "output": {"on_conflict": on_conflict},
            "consistency": if snapshot { "snapshot" } else { "none" },
        });
        if dice.one_in(6) {
            body["verify"] = json!("count");
        }
        if dice.one_in(6) {
            body["output"]["directory"] = json!("crm");
        }
        let deadline = dice.one_in(10);
        if deadline {
            body["deadline"] = json!(format!("{}s", dice.between(1, 5)));
        }
        let at = dice.below(if n == 0 { 200 } else { 2_000 });
        self.events.push((at, Event::Send(body.clone(), format!("m{n}"))));
        if dice.one_in(4) {
            self.events.push((at + dice.below(last + 2_000), Event::Send(body, format!("m{n}"))));
        }
        let cancelled = dice.one_in(7);
        if cancelled {
            let at = at + dice.below(3_000);
            self.events.push((at, Event::Send(json!({"cancel": id}), format!("c{n}"))));
        }
        if dice.one_in(10) {
            let at = at + dice.below(last + 2_000);
            self.events.push((at, Event::Send(json!({"retry": id}), format!("r{n}"))));
        }
        self.jobs.push(Job { id, tables, snapshot, ends_early: deadline || cancelled, on_conflict });
    }

    fn mischief(&mut self, dice: &mut Dice, names: &[String], last: u64) {
        let hosts = self.hosts as u64;
        let host = |dice: &mut Dice| usize::try_from(dice.below(hosts)).expect("few");
        let table =
            |dice: &mut Dice| names[usize::try_from(dice.below(names.len() as u64)).expect("few")].clone();
        let mut several = |dice: &mut Dice, one_in: u64, most: u64, event: &dyn Fn(&mut Dice) -> Event| {
            if dice.one_in(one_in) {
                for _ in 0..dice.between(1, most) {
                    let at = dice.below(last);
                    let event = event(dice);
                    self.events.push((at, event));
                }
            }
        };
        several(dice, 3, 4, &|d| Event::Update(table(d)));
        several(dice, 5, 3, &|d| Event::Rewrite(table(d)));
        several(dice, 5, 3, &|d| Event::KillKeepers(if d.one_in(2) { None } else { Some(host(d)) }));
        several(dice, 8, 2, &|_| Event::Wipe);
        several(dice, 8, 2, &|_| Event::Restart);
        several(dice, 5, 3, &|d| Event::Kill(host(d)));
        several(dice, 6, 2, &|d| Event::Terminate(host(d)));
    }
}
