use super::*;

fn made(is_known: bool) -> Stored {
    Stored { kind: StoredKind::Response, id: None, is_known }
}

fn look(kind: StoredKind, id: &str) -> Stored {
    Stored { kind, id: Some(id.to_owned()), is_known: true }
}

fn response(id: &str, pending: bool, background: Option<bool>) -> Tally {
    let usage = Usage { input_tokens: Some(9), ..Usage::default() };
    Tally { id: Some(id.into()), pending, background, usage: (!pending).then_some(usage), ..Tally::default() }
}

fn settle(looks: &Looks, stored: &Stored, upstream: &str, tally: &Tally, is_whole: bool) -> Option<Verdict> {
    looks.settle(stored, upstream, tally, is_whole).map(|settled| settled.verdict)
}

const COUNTS: Option<Verdict> = Some(Verdict::Counts);
const PASSES: Option<Verdict> = Some(Verdict::Passes);

#[test]
fn first_final_response_counts_and_no_other() {
    let looks = Looks::default();
    let of = |stored: &Stored, tally: &Tally| settle(&looks, stored, "up", tally, true);
    assert_eq!(of(&made(true), &response("r", true, None)), PASSES, "queued");
    let seen = look(StoredKind::Response, "r");
    assert_eq!(of(&seen, &response("r", true, None)), PASSES, "in progress");
    assert_eq!(of(&seen, &response("r", false, None)), COUNTS);
    for background in [None, Some(true), Some(false)] {
        assert_eq!(of(&seen, &response("r", false, background)), PASSES);
    }
}

#[test]
fn broken_stream_is_counted_where_it_is_resumed() {
    let looks = Looks::default();
    assert_eq!(settle(&looks, &made(true), "up", &response("r", false, Some(true)), false), PASSES);
    let seen = look(StoredKind::Response, "r");
    assert_eq!(settle(&looks, &seen, "up", &response("r", false, Some(true)), true), COUNTS);
    assert_eq!(settle(&looks, &seen, "up", &response("r", false, Some(true)), true), PASSES);
}

#[test]
fn request_read_on_after_a_counted_look_does_not_count_again() {
    let looks = Looks::default();
    let whole = response("r", false, Some(true));
    assert_eq!(settle(&looks, &look(StoredKind::Response, "r"), "up", &whole, true), COUNTS);
    assert_eq!(settle(&looks, &made(true), "up", &whole, true), PASSES);
    assert_eq!(settle(&looks, &made(true), "up", &response("r", true, Some(true)), true), PASSES);
    assert_eq!(settle(&looks, &look(StoredKind::Response, "r"), "up", &whole, true), PASSES);
}

#[test]
fn unseen_result_counts_only_if_made_in_the_background() {
    let looks = Looks::default();
    let of = |id: &str, said| {
        settle(&looks, &look(StoredKind::Response, id), "up", &response(id, false, said), true)
    };
    assert_eq!(of("a", Some(false)), PASSES);
    assert_eq!(of("b", None), Some(Verdict::LeftOut));
    assert_eq!(of("b", None), Some(Verdict::LeftOut));
    assert_eq!(of("c", Some(true)), COUNTS);
    assert_eq!(of("c", Some(true)), PASSES);
    for kind in [StoredKind::Run, StoredKind::Video, StoredKind::Batch] {
        assert_eq!(settle(&looks, &look(kind, "d"), "up", &response("d", false, None), true), COUNTS);
        assert_eq!(settle(&looks, &look(kind, "d"), "up", &response("d", false, None), true), PASSES);
    }
}

#[test]
fn a_response_that_is_not_in_the_background_is_its_requests_own() {
    let looks = Looks::default();
    assert_eq!(settle(&looks, &made(true), "up", &response("r", false, Some(false)), true), None);
    assert_eq!(settle(&looks, &made(false), "up", &response("r", false, None), true), None);
    assert_eq!(settle(&looks, &made(false), "up", &response("r", false, Some(true)), true), COUNTS);
}

#[test]
fn upstreams_do_not_share_ids() {
    let looks = Looks::default();
    let whole = response("r", false, Some(true));
    assert_eq!(settle(&looks, &look(StoredKind::Response, "r"), "a", &whole, true), COUNTS);
    assert_eq!(settle(&looks, &look(StoredKind::Response, "r"), "b", &whole, true), COUNTS);
}

#[test]
fn memory_of_looks_is_bounded_and_keeps_the_latest() {
    let mut memory = Memory::default();
    let all = 3 * REMEMBERED as u64;
    (0..all).for_each(|key| memory.put(key, Known::Counted));
    assert!(memory.young.len() + memory.old.len() <= 2 * REMEMBERED);
    assert_eq!(memory.get(0), None);
    assert_eq!(memory.get(all - REMEMBERED as u64), Some(Known::Counted));
}

#[test]
fn results_that_an_earlier_process_counted_count_once() {
    let whole = response("r", false, Some(true));
    let seen = look(StoredKind::Response, "r");
    let earlier = Looks::default().settle(&seen, "up", &whole, true).unwrap();
    let looks = Looks::default();
    looks.remember(&[7, earlier.key.unwrap()]);
    assert_eq!(settle(&looks, &seen, "up", &whole, true), PASSES);
    assert_eq!(settle(&looks, &look(StoredKind::Response, "s"), "up", &whole, true), COUNTS);
}
