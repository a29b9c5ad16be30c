use super::*;
use crate::balance::{GroupSpec, MemberSpec, UpstreamGroup};

#[test]
fn upstream_keeps_its_health_and_its_number() {
    let registry = HealthRegistry::new(Instant::now());
    let (one, two) = (UpstreamId::from("one"), UpstreamId::from("two"));
    let first = registry.upstream(&one);
    assert_eq!((first.index(), registry.upstream(&two).index()), (0, 1));
    assert!(Arc::ptr_eq(&first, &registry.upstream(&UpstreamId::from("one"))));
}

#[test]
fn groups_share_what_is_known_of_a_model() {
    let registry = HealthRegistry::new(Instant::now());
    let group = |name: &str, model: Option<&str>| {
        let member = MemberSpec { model: model.map(Into::into), ..MemberSpec::from(UpstreamId::from("u")) };
        UpstreamGroup::new(GroupSpec { name: name.into(), ..GroupSpec::of(vec![vec![member]]) }, &registry)
    };
    let (one, two) = (group("one", None), group("two", Some("m")));
    let row = one.row(Some("alias"), |_| Some("m".into()));
    assert!(Arc::ptr_eq(&row[0], &two.row(Some("other"), |_| unreachable!("it has a model"))[0]));
    assert!(Arc::ptr_eq(&row, &one.row(Some("alias"), |_| unreachable!("it is remembered"))));
    assert_eq!(row[0].name(), "m");
    let other = one.row(Some("other"), |_| Some("n".into()));
    for (name, known) in [(Some("alias"), &row), (Some("other"), &other), (Some("alias"), &row)] {
        assert!(Arc::ptr_eq(known, &one.row(name, |_| unreachable!("it is remembered"))), "{name:?}");
    }
    assert!(!Arc::ptr_eq(&row, &one.row(None, |_| None)));
}

#[test]
fn time_is_never_zero_and_survives_a_year() {
    let start = Instant::now();
    let registry = HealthRegistry::new(start);
    assert_eq!(registry.tick(start), 1);
    let year = Duration::from_secs(365 * 24 * 3600);
    assert_eq!(registry.instant(registry.tick(start + year)), start + year);
}

/// Counted from the sizes of the types and of the C library's pieces of memory.
#[test]
fn state_of_10_000_pairs_takes_at_most_2_mb() {
    let piece = |size: usize| (size + 8).next_multiple_of(16).max(32);
    // With the counters of an Arc.
    let health = piece(16 + size_of::<ModelHealth>());
    let name = piece("gpt-5.6-mini-2026".len());
    // A place in a map, with its control byte; of the places 5,000 of 8,192 are taken.
    let place = (size_of::<(u64, Arc<ModelHealth>)>() + 1) * 16_384 / PAIRS;
    let pair = health + name + place;
    assert!(pair * PAIRS <= 2 << 20, "{pair} bytes each: {health} + {name} + {place}");
}

#[test]
fn names_of_models_from_clients_are_bounded() {
    let registry = HealthRegistry::new(Instant::now());
    let upstream = registry.upstream(&UpstreamId::from("u"));
    for number in 0..3 * PAIRS {
        registry.model(&upstream, &format!("{number} {}", "long".repeat(100)));
    }
    let models = registry.models();
    assert!((PAIRS / 2..=PAIRS).contains(&models.len()), "{}", models.len());
    assert!(models.iter().all(|model| model.name().len() <= 64));
}

#[test]
fn place_that_frees_locks_no_room_while_no_request_waits() {
    let registry = HealthRegistry::new(Instant::now());
    let member = MemberSpec::from(UpstreamId::from("u"));
    let spec = GroupSpec { wait: Some(Duration::from_secs(9)), ..GroupSpec::of(vec![vec![member]]) };
    let _group = UpstreamGroup::new(spec, &registry);
    let held = registry.rooms.lock().unwrap();
    // Locking the rooms would block here for ever.
    registry.notify();
    drop(held);
}
