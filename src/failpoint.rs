//! Points at which a fault test kills, stops or fails this process. They exist only with the feature
//! `failpoints`, never in a release build, where every function here is empty.
//!
//! The name of a point is `<moment>:<step>:<subject>`. These exist:
//!
//! | seam | steps | subjects |
//! | --- | --- | --- |
//! | `folder/disk.rs`, moments `before`, `after` | `create`, `link`, `make`, `rename`, `remove`, `point`, `read`, `list`, `stat` | `request`, `cancel`, `plan`, `plan-failure`, `record`, `failure`, `start`, `target`, `outcome`, `commit`, `by-date`, `name`, `part`, `ready`, `workspace`, `latest`, `trash`, … |
//! | `folder/exclusive.rs` | `before:fsync`, `before:name`, `after:name` | the same |
//! | `bus/rabbitmq`, moments `before`, `after` | `publish` | `plan-task`, `chunk-task`, `wake-job`, `wake-chunk`, `alive`, `planned`, `cancel`, `census`, `finished`, `job.accepted`, … |
//! | | `ack`, `before:release` | `requests`, `work`, `coordinator`, `control` |
//! | others | `mid:link:ready`, `mid:copy:<table>`, `mid:join:keeper` | |
//! | pages, where `error` leaves the step out | `mid:count:pages`, `mid:look:visible`, `mid:cut:pages`, `mid:copy:listed` | |
//! | Greenplum, where `error` leaves the step out | `mid:prove:snapshot`, `mid:confirm:cursor` | |
//!
//! `FAILPOINTS='after:create:record=1*return(kill)'` configures them, in the syntax of the crate `fail`.
//! `kill` sends SIGKILL, `stop` sends SIGSTOP, and `error` makes the operation fail: before it has an effect
//! (`before`) or although it had one (`after`).

use std::io;

#[cfg(feature = "failpoints")]
pub(crate) use armed::*;
#[cfg(not(feature = "failpoints"))]
pub(crate) use disarmed::*;

/// The empty functions of a release build.
#[cfg(not(feature = "failpoints"))]
mod disarmed {
    use super::*;

    pub(crate) struct Armed;

    pub(crate) fn arm() -> Armed {
        Armed
    }

    #[inline]
    pub(crate) fn step(_moment: &str, _step: &str, _subject: &str) {}

    #[inline]
    pub(crate) fn is_left_out(_step: &str, _subject: &str) -> bool {
        false
    }

    #[inline]
    pub(crate) fn file(_moment: &str, _step: &str, _path: &str) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(feature = "failpoints")]
mod armed {
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    /// The points of this process. They are removed when this is dropped.
    pub(crate) struct Armed {
        _scenario: fail::FailScenario<'static>,
    }

    /// Reads the points from `FAILPOINTS`.
    pub(crate) fn arm() -> Armed {
        Armed { _scenario: fail::FailScenario::setup() }
    }

    fn at(point: &str) -> io::Result<()> {
        fail::fail_point!(point, |action| {
            tracing::warn!(point, action, "a failpoint is reached");
            match action.as_deref() {
                Some("kill") => signal(Signal::KILL),
                Some("stop") => signal(Signal::STOP),
                Some("error") => Err(io::Error::other(format!("failpoint {point}"))),
                _ => Err(io::Error::other(format!("failpoint {point}: use kill, stop or error"))),
            }
        });
        Ok(())
    }

    fn signal(signal: Signal) -> io::Result<()> {
        Ok(kill_process(getpid(), signal)?)
    }

    /// A step that cannot fail.
    pub(crate) fn step(moment: &str, step: &str, subject: &str) {
        let _ = at(&format!("{moment}:{step}:{subject}"));
    }

    /// Whether a step is left out, to show that it is needed.
    pub(crate) fn is_left_out(step: &str, subject: &str) -> bool {
        at(&format!("mid:{step}:{subject}")).is_err()
    }

    /// A step on a path of the export folder, relative or absolute.
    pub(crate) fn file(moment: &str, step: &str, path: &str) -> io::Result<()> {
        let verb = step.split(' ').next().unwrap_or(step);
        at(&format!("{moment}:{verb}:{}", subject(path)))
    }

    /// The subject for a path of the export folder.
    fn subject(path: &str) -> &'static str {
        let mut names = path.split('/').skip_while(|name| !matches!(*name, ".temp" | ".archive" | ".latest"));
        let (area, place, below) = (names.next(), names.next(), names.next());
        let file = path.rsplit('/').next().unwrap_or_default();
        match (area, place, below) {
            (Some(".latest"), ..) => "latest",
            (Some(".archive"), Some("by-id"), _) => "commit",
            (Some(".archive"), Some("jobs"), _) => "by-date",
            (Some(".archive"), ..) => "name",
            (Some(_), None, _) => "temp",
            (Some(_), Some("trash"), _) => "trash",
            (Some(_), Some(_), None) => "workspace",
            (Some(_), Some(_), Some("plans")) if file.contains(".fail-") => "plan-failure",
            (Some(_), Some(_), Some("plans")) => "plan",
            (Some(_), Some(_), Some("ready")) => "ready",
            (Some(_), Some(_), Some("parts")) if file.ends_with(".parquet") => "part",
            (Some(_), Some(_), Some("parts")) => "parts",
            (Some(_), Some(_), Some("records")) if !file.ends_with(".json") => "records",
            (Some(_), Some(_), Some("records")) if file.contains(".fail-") => "failure",
            (Some(_), Some(_), Some("records")) if file.contains(".start-") => "start",
            (Some(_), Some(_), Some("records")) => "record",
            (Some(_), Some(_), Some("tables")) if file.contains(".target-") => "target",
            (Some(_), Some(_), Some("tables")) => "outcome",
            (Some(_), Some(_), Some("request.json")) => "request",
            (Some(_), Some(_), Some("cancel.json")) => "cancel",
            (Some(_), Some(_), Some(_)) => "workspace",
            (None, ..) if file == ".adu-root" => "root-id",
            (None, ..) => "public",
        }
    }

    #[cfg(test)]
    mod tests {
        use super::subject;

        #[test]
        fn a_path_is_named_by_what_it_stands_for() {
            for (path, expected) in [
                (".temp/job_a/request.json", "request"),
                (".temp/job_a", "workspace"),
                (".temp", "temp"),
                (".temp/trash/job_a-6f", "trash"),
                (".temp/job_a/plans/e1.json", "plan"),
                (".temp/job_a/plans/e1.fail-6f.json", "plan-failure"),
                (".temp/job_a/ready/e1-6f/2", "ready"),
                ("/data/.temp/job_a/parts/e1/2/000017.6f.parquet", "part"),
                ("/data/.temp/job_a/records/e1/2/000017.json", "record"),
                (".temp/job_a/records/e1/2/000017.fail-6f.json", "failure"),
                (".temp/job_a/records/e1/2/000017.start-6f.json", "start"),
                (".temp/job_a/tables/2.e1.target-1.json", "target"),
                (".temp/job_a/tables/2.e1.outcome.json", "outcome"),
                (".archive/by-id/a.json", "commit"),
                (".archive/jobs", "by-date"),
                (".archive/names/public_a.json", "name"),
                ("crm/.latest/public_a", "latest"),
                (".adu-root", "root-id"),
                ("public_a", "public"),
            ] {
                assert_eq!(subject(path), expected, "{path}");
            }
        }
    }
}
