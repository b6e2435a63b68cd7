//! Whatever rows there are, they make a tree that is bounded.

use chrono::TimeDelta;

use super::*;

fn member(id: RunId, above: Option<RunId>, at: DateTime<Utc>) -> Member {
    Member {
        id,
        trace: above.unwrap_or(id),
        above: above.map(|run| Above { run, trace: run, attempt: None }),
        environment: "dev".into(),
        task: "hello".into(),
        status: RunStatus::Executing,
        version: None,
        queue: "task/hello".into(),
        machine: None,
        batch: None,
        tags: vec![],
        created_at: at,
        started_at: Some(at),
        finished_at: None,
        error: None,
        cpu_ms: 0,
        under_way: Some((1, at)),
    }
}

fn measured(run: RunId, id: u64, parent: Option<u64>, begin: DateTime<Utc>) -> Measured {
    let (id, parent) = (SpanId::of(id).unwrap(), parent.and_then(SpanId::of));
    Measured { run, attempt: 1, id, parent, name: id.to_string(), begin, end: None, attributes: Map::new(), error: None }
}

/// How many spans are above one.
fn level(trace: &Trace, span: &Span) -> usize {
    span.parent.and_then(|parent| trace.span(parent)).map_or(0, |parent| 1 + level(trace, parent))
}

#[test]
fn a_guest_cannot_make_a_tree_that_is_too_deep_or_no_tree_at_all() {
    let (run, at) = (RunId::new(), Utc::now());
    let mut spans: Vec<Measured> =
        (1..=500u32).map(|n| measured(run, n.into(), Some(u64::from(n) - 1), at + TimeDelta::milliseconds(n.into()))).collect();
    spans.extend([measured(run, 1001, Some(1002), at), measured(run, 1002, Some(1001), at), measured(run, 1003, Some(1003), at)]);
    let trace = trace(Parts { members: vec![member(run, None, at)], measured: spans, at, ..Parts::default() }).unwrap();
    assert_eq!((trace.spans.len(), trace.is_cut), (505, false), "the run, its attempt, and every span");
    let deepest = trace.spans.iter().map(|span| level(&trace, span)).max();
    assert_eq!(deepest, Some(MAX_GUEST_LEVELS + 1));
    for (place, span) in trace.spans.iter().enumerate().skip(1) {
        let parent = trace.spans.iter().position(|other| Some(other.id) == span.parent).expect("a parent");
        assert!(parent < place, "each span comes after its parent");
    }
}

#[test]
fn a_trace_with_more_spans_than_are_shown_says_so_and_keeps_the_first() {
    let (run, at) = (RunId::new(), Utc::now());
    let spans = (1..=MAX_SPANS as u64 + 5).map(|n| measured(run, n, None, at)).collect();
    let members = vec![member(run, None, at), member(RunId::new(), Some(run), at)];
    let cut = trace(Parts { members, measured: spans, at, ..Parts::default() }).unwrap();
    assert_eq!((cut.spans.len(), cut.is_cut, cut.spans[0].kind), (MAX_SPANS, true, SpanKind::Run));
    assert!(trace(Parts::default()).is_none());
}
