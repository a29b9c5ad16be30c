//! The last use of keys.

use super::*;

#[test]
fn last_use_is_the_start_of_the_latest_request() {
    let all = records(50);
    let (_folder, path) = ledger(&all);
    let ids = ["00000000", "00000001", "unused"].map(str::to_owned);
    for since in [Timestamp::UNIX_EPOCH, all[44].started_at, all[49].started_at] {
        let mut expected = std::collections::HashMap::new();
        for row in all.iter().filter(|row| row.started_at >= since) {
            if let Some(id) = &row.key_id {
                expected.insert(id.to_string(), row.started_at);
            }
        }
        assert_eq!(last_used(&path, &ids, since, &Bounds::default()).unwrap(), expected, "{since}");
    }
    let one = last_used(&path, &ids[..1], Timestamp::UNIX_EPOCH, &Bounds::default()).unwrap();
    assert_eq!(one.len(), 1);
    let gone = last_used(&path.with_extension("gone"), &ids, Timestamp::UNIX_EPOCH, &Bounds::default());
    assert!(gone.unwrap_err().to_string().contains("there is no such file"));
}
