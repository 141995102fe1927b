//! Ids of spans that several processes must agree on, and who decides whether a job is traced.

use std::collections::HashMap;

use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, ShouldSample};
use sha2::{Digest, Sha256};

use super::{JobTrace, Known};

/// The trace of a job.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    pub(super) id: TraceId,
    /// The caller's span; invalid without one.
    pub(super) caller: SpanId,
    pub(super) sampled: bool,
}

impl Trace {
    /// The caller's trace. A job without a caller's trace has one of its own, whose id follows from the job.
    pub(super) fn of(job: &JobTrace<'_>, sampler: &Sampler) -> Self {
        let caller = job.traceparent.and_then(caller);
        let id = caller.as_ref().map_or_else(|| own(job), SpanContext::trace_id);
        let above = caller.clone().map(|caller| Context::new().with_remote_span_context(caller));
        let said = sampler.should_sample(above.as_ref(), id, "job", &SpanKind::Internal, &[], &[]);
        Self {
            id,
            caller: caller.map_or(SpanId::INVALID, |caller| caller.span_id()),
            sampled: said.decision == SamplingDecision::RecordAndSample,
        }
    }

    /// What a span below or beside this one must know of it.
    pub(super) fn context(&self, span: SpanId) -> SpanContext {
        let flags = TraceFlags::default().with_sampled(self.sampled);
        SpanContext::new(self.id, span, flags, true, TraceState::default())
    }
}

/// The span that a request names as its own. A text that is no trace context counts as none.
fn caller(traceparent: &str) -> Option<SpanContext> {
    let carrier = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
    let found = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    Some(found.span().span_context().clone()).filter(SpanContext::is_valid)
}

fn own(job: &JobTrace<'_>) -> TraceId {
    let digest = digest(job, "trace");
    TraceId::from_bytes(*digest.first_chunk().expect("a hash is longer"))
}

/// The id of a span that every process can name.
pub(super) fn span(job: &JobTrace<'_>, of: Known) -> SpanId {
    let digest = match of {
        Known::Job => digest(job, "job"),
        Known::Table(epoch, table) => digest(job, &format!("table {} {}", epoch.0, table.0)),
    };
    SpanId::from_bytes(*digest.first_chunk().expect("a hash is longer"))
}

fn digest(job: &JobTrace<'_>, what: &str) -> [u8; 32] {
    let text = format!("adu-export {} {} {what}", job.root, job.job);
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use uuid::Uuid;

    use super::*;
    use crate::message::{Epoch, JobId, TableNo};

    const ASKED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn always() -> Sampler {
        Sampler::ParentBased(Box::new(Sampler::AlwaysOn))
    }

    #[test]
    fn ids_follow_from_folder_job_epoch_and_table() {
        let (one, other) = (JobId::parse("j").expect("valid"), JobId::parse("j2").expect("valid"));
        let mut seen = HashSet::new();
        for root in [Uuid::from_u128(1), Uuid::from_u128(2)] {
            for job in [&one, &other] {
                let trace = JobTrace { root, job, traceparent: None };
                assert!(seen.insert(Trace::of(&trace, &always()).id.to_string()));
                for of in [
                    Known::Job,
                    Known::Table(Epoch(1), TableNo(11)),
                    Known::Table(Epoch(11), TableNo(1)),
                    Known::Table(Epoch(1), TableNo(1)),
                ] {
                    assert_eq!(span(&trace, of), span(&trace, of));
                    assert!(seen.insert(span(&trace, of).to_string()), "{of:?}");
                }
            }
        }
        // Daemons of two releases work on one job: the ids must stay what they are.
        let trace = JobTrace { root: Uuid::nil(), job: &one, traceparent: None };
        let ids = [span(&trace, Known::Job), span(&trace, Known::Table(Epoch(2), TableNo(3)))];
        let all = (Trace::of(&trace, &always()).id.to_string(), ids.map(|id| id.to_string()));
        assert_eq!(all, (FIXED.0.to_owned(), [FIXED.1, FIXED.2].map(str::to_owned)));
    }

    const FIXED: (&str, &str, &str) =
        ("7d7157ab5c21f741a8ac44dd7f25d835", "139505b5ccfe14c1", "3dd14df6f851d103");

    #[test]
    fn the_trace_of_the_request_goes_on() {
        let job = JobId::parse("j").expect("valid");
        let of = |traceparent: &str| {
            Trace::of(&JobTrace { root: Uuid::nil(), job: &job, traceparent: Some(traceparent) }, &always())
        };
        let asked = of(ASKED);
        assert_eq!(asked.id.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!((asked.caller.to_string().as_str(), asked.sampled), ("b7ad6b7169203331", true));
        assert!(!of(&ASKED.replace("-01", "-00")).sampled, "the caller decided");
        let own = Trace::of(&JobTrace { root: Uuid::nil(), job: &job, traceparent: None }, &always());
        for wrong in ["", "nonsense", "00-00000000000000000000000000000000-b7ad6b7169203331-01"] {
            assert_eq!((of(wrong).id, of(wrong).caller), (own.id, SpanId::INVALID), "{wrong}");
        }
    }

    #[test]
    fn samplers_decide_for_the_whole_job() {
        let decided = |sampler: &Sampler, traceparent: Option<&str>| {
            let jobs = (0..200).map(|n| JobId::parse(&format!("j{n}")).expect("valid"));
            let traced = jobs.filter(|job| {
                let trace = JobTrace { root: Uuid::nil(), job, traceparent };
                Trace::of(&trace, sampler).sampled
            });
            traced.count()
        };
        assert_eq!(decided(&Sampler::AlwaysOff, Some(ASKED)), 0);
        assert_eq!(decided(&Sampler::AlwaysOn, Some(&ASKED.replace("-01", "-00"))), 200);
        let some = decided(&Sampler::TraceIdRatioBased(0.25), None);
        assert!((20..80).contains(&some), "{some} of 200");
        assert_eq!(
            decided(&Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(0.25))), Some(ASKED)),
            200
        );
    }
}
