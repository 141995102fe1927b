//! The faults of a schedule, and what they do to a single effect.

use std::time::Duration;

use crate::dice::Dice;

/// What an effect acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Looks at the folder.
    Look,
    /// Changes the folder.
    Change,
    /// Talks to the broker.
    Bus,
    /// Asks the source.
    Source,
}

/// When something happens to an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Never,
    Before,
    /// The effect has happened nevertheless.
    After,
}

/// What happens to one effect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fate {
    pub(crate) delay: u64,
    pub(crate) dies: When,
    pub(crate) fails: When,
    /// For how many milliseconds the process is stopped before the effect.
    pub(crate) stopped: u64,
    /// If the process dies before a change, the change was sent already and happens later.
    pub(crate) late: bool,
}

impl Fate {
    /// Whether only a part of the effect happens.
    pub(crate) fn is_half(&self) -> bool {
        self.dies == When::Before
    }

    /// Whether the effect happens as a whole, some time after its process died.
    pub(crate) fn is_late(&self) -> bool {
        self.late && self.dies == When::Before
    }

    /// The fate of an effect that lands late: no further fault hits it.
    pub(crate) fn landing(self) -> Self {
        Self { dies: When::Never, ..self }
    }
}

/// Rates are per ten thousand effects. Each schedule has some of the faults, not all: with all faults at
/// once, the interaction of two is never seen.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    /// How long the faults last.
    pub(crate) last: Duration,
    /// Longest usual delay of an effect, in milliseconds.
    pub(crate) delay: u64,
    pub(crate) crash: u32,
    pub(crate) fail_look: u32,
    pub(crate) fail_change: u32,
    pub(crate) fail_bus: u32,
    pub(crate) fail_source: u32,
    pub(crate) stop: u32,
    /// How many of a hundred new names are hidden from another host, and for how long at most.
    pub(crate) hide: u32,
    pub(crate) hide_longest: u64,
    pub(crate) duplicate: u32,
    pub(crate) lose: u32,
    /// Longest delay of a message, in milliseconds.
    pub(crate) travel: u64,
}

impl Faults {
    /// No faults: effects only take some time.
    pub(crate) fn none() -> Self {
        Self {
            last: Duration::from_secs(6),
            delay: 5,
            crash: 0,
            fail_look: 0,
            fail_change: 0,
            fail_bus: 0,
            fail_source: 0,
            stop: 0,
            hide: 0,
            hide_longest: 0,
            duplicate: 0,
            lose: 0,
            travel: 5,
        }
    }

    pub(crate) fn roll(dice: &mut Dice) -> Self {
        let mut some = |rates: &[u32]| {
            if dice.one_in(3) { dice.pick(rates) } else { 0 }
        };
        let crash = some(&[20, 60, 150]);
        let fail_look = some(&[20, 100]);
        let fail_change = some(&[30, 150, 400]);
        let fail_bus = some(&[50, 200]);
        let fail_source = some(&[100, 500]);
        let stop = some(&[15, 60]);
        let hide = some(&[20, 60, 100]);
        let duplicate = some(&[300, 2000]);
        let lose = some(&[300, 1500]);
        Self {
            last: Duration::from_millis(dice.between(2_000, 7_000)),
            delay: dice.pick(&[3, 10, 40, 200]),
            crash,
            fail_look,
            fail_change,
            fail_bus,
            fail_source,
            stop,
            hide,
            hide_longest: dice.pick(&[300, 2_000, 4_500]),
            duplicate,
            lose,
            travel: dice.pick(&[2, 20, 300]),
        }
    }

    pub(crate) fn fate(&self, dice: &mut Dice, kind: Kind, stormy: bool) -> Fate {
        let roll = dice.roll();
        // Half of the effects happen without delay, so that whole runs of one task happen too.
        let delay = if roll & 1 == 0 { 0 } else { (roll >> 1) % (self.delay + 1) };
        let mut fate = Fate { delay, dies: When::Never, fails: When::Never, stopped: 0, late: false };
        if !stormy {
            return fate;
        }
        if self.crash > 0 && kind != Kind::Look && dice.chance(self.crash) {
            fate.dies = if dice.one_in(2) { When::Before } else { When::After };
            fate.late = dice.one_in(3);
        }
        let fails = match kind {
            Kind::Look => self.fail_look,
            Kind::Change => self.fail_change,
            Kind::Bus => self.fail_bus,
            Kind::Source => self.fail_source,
        };
        if fails > 0 && dice.chance(fails) {
            fate.fails = if dice.one_in(2) { When::Before } else { When::After };
        }
        if self.stop > 0 && dice.chance(self.stop) {
            fate.stopped = dice.between(200, 7_000);
        }
        fate
    }
}
