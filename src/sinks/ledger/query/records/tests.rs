use super::super::tests::ledger;
use super::*;
use crate::sinks::ledger::support;

#[test]
fn record_found_by_id_is_the_written_one() {
    // Ids that contain the times of their records, as the proxy's do.
    let journal = crate::record::Journal::new(300);
    for _ in 0..300 {
        drop(crate::record::Entry::open(&journal, &"anonymous".into()));
    }
    let written = journal.take();
    let (_folder, path) = ledger(&written);
    for row in &written {
        let found =
            record(&path, row.id, &Bounds::default()).unwrap().map(|row| serde_json::to_value(row).unwrap());
        assert_eq!(found, Some(serde_json::to_value(row).unwrap()));
    }
    for id in ["01890000-0000-7000-8000-000000000000", "11111111-1111-4111-8111-111111111111"] {
        assert_eq!(record(&path, id.parse().unwrap(), &Bounds::default()).unwrap(), None);
    }
}

fn latest_of(path: &Path, limit: usize) -> Vec<Record> {
    records(path, &Selection::since(Timestamp::UNIX_EPOCH), limit, None, &Bounds::default()).unwrap().records
}

#[test]
fn pages_one_behind_the_other_are_all_records() {
    let mut written = support::records(2000);
    for row in &mut written {
        row.error = Some("e".repeat(1000).into());
    }
    let (_folder, path) = ledger(&written);
    let all = Selection::since(Timestamp::UNIX_EPOCH);
    let (mut found, mut next, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = records(&path, &all, 2000, next.as_ref(), &Bounds::default()).unwrap();
        found.extend(page.records);
        pages += 1;
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    let ids: Vec<_> = found.iter().map(|record| record.get("id").as_str().unwrap().to_owned()).collect();
    let expected: Vec<_> = written.iter().rev().map(|row| row.id.to_string()).collect();
    assert_eq!(ids, expected);
    assert!(pages > 10, "{pages}");
}

#[test]
fn latest_selected_records_come_first() {
    let written = support::records(200);
    let (_folder, path) = ledger(&written);
    let selection =
        Selection { client: Some("client-2".to_owned()), ..Selection::since(Timestamp::UNIX_EPOCH) };
    let found = records(&path, &selection, 5, None, &Bounds::default()).unwrap().records;
    let expected = written.iter().rev().filter(|row| &*row.client == "client-2").take(5);
    let expected: Vec<_> = expected.map(|row| serde_json::to_value(row).unwrap()).collect();
    assert_eq!(found.iter().map(|row| serde_json::to_value(row).unwrap()).collect::<Vec<_>>(), expected);
}

#[test]
fn record_begins_with_id_and_unknown_field_is_null() {
    let (_folder, path) = ledger(&support::records(1));
    let found = latest_of(&path, 5);
    let text = serde_json::to_string(&found[0]).unwrap();
    assert!(text.starts_with("{\"id\":\"0"), "{text}");
    assert_eq!((found[0].get("seq"), found[0].get("client")), (&Value::Null, &"client-0".into()));
}
