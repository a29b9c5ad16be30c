//! Limits with `each = "user"` that replicas share through a real Redis.

use crate::harness::redis::Redis;
use crate::harness::{PATIENCE, Proxy, until};
use crate::shared_limits::{Ledgers, request, tables};

/// The number of requests of `count` by a user that are admitted, in turn by each of the replicas.
fn admitted(replicas: &[&Proxy], user: &str, count: usize) -> usize {
    let user = if user.is_empty() { String::new() } else { format!(r#""user":"{user}","#) };
    let body =
        format!(r#"{{"model":"m",{user}"max_tokens":50,"messages":[{{"role":"user","content":"Hi"}}]}}"#);
    let statuses = (0..count)
        .map(|index| replicas[index % replicas.len()].client().send(request(&body)).response().status());
    statuses.filter(|status| *status == 200).count()
}

/// The sums that all instances have reported of each user, in ascending order.
fn reported(redis: &Redis) -> Vec<u64> {
    let keys = redis.ask(&["KEYS", "*:user=*"]);
    let spent = |key: &str| {
        let fields = redis.ask(&["HGETALL", key]);
        let lines: Vec<_> = fields.lines().collect();
        let spent = lines.chunks(2).filter(|pair| pair[0].starts_with("s:"));
        spent.map(|pair| pair[1].parse::<u64>().unwrap()).sum()
    };
    let mut all: Vec<_> = keys.lines().filter(|key| !key.is_empty()).map(spent).collect();
    all.sort_unstable();
    all
}

fn until_reported(redis: &Redis, expected: &[u64]) {
    until(PATIENCE, "all use is reported", || (reported(redis) == expected).then_some(()));
}

#[test]
fn each_user_has_one_limit_at_all_replicas() {
    let (redis, ledgers) = (Redis::start(), Ledgers::new());
    for limit in [
        "{ requests = 4, per = \"day\", each = \"user\" }",
        "{ requests = 4, per = \"hour\", each = \"user\" }",
    ] {
        redis.ask(&["FLUSHALL"]);
        let per = if limit.contains("day") { "day" } else { "hour" };
        let tables = tables(&redis.url(), "", limit);
        let [one, other] = ["one", "other"].map(|name| ledgers.replica(&format!("{name}-{per}"), &tables));
        for user in ["ann", "bob", ""] {
            assert_eq!(admitted(&[&one, &other], user, 7), 4, "{user:?} {per}");
        }
        until_reported(&redis, &[4, 4, 4]);
        assert!(!redis.ask(&["KEYS", "*"]).contains("ann"), "names are personal");
    }
}

#[test]
fn cluster_keeps_the_limits_of_users_at_all_nodes() {
    let (nodes, ledgers) = (Redis::cluster(), Ledgers::new());
    let limit =
        "{ requests = 3, per = \"hour\", each = \"user\" }, { requests = 3, per = \"day\", each = \"user\" }";
    let [one, other] =
        [0, 1].map(|node| ledgers.replica(&node.to_string(), &tables(&nodes[node].url(), "", limit)));
    for user in 0..12 {
        assert_eq!(admitted(&[&one, &other], &format!("user-{user}"), 5), 3, "{user}");
    }
    let all = || nodes.iter().map(|node| reported(node).len()).collect::<Vec<_>>();
    until(PATIENCE, "all use is reported", || {
        let spent: u64 = nodes.iter().flat_map(reported).sum();
        (spent == 12 * 3 * 2).then_some(())
    });
    assert!(all().iter().all(|users| *users > 0) && all().iter().sum::<usize>() == 24, "{:?}", all());
}

#[test]
fn tokens_of_a_user_at_another_replica_count() {
    let (redis, ledgers) = (Redis::start(), Ledgers::new());
    let tables = tables(&redis.url(), "", "{ tokens = 500, per = \"day\", each = \"user\" }");
    let [one, other] = ["one", "other"].map(|name| ledgers.replica(name, &tables));
    // Each holds about 70 tokens and uses 100.
    let count = admitted(&[&one, &other], "ann", 12);
    assert!((4..=5).contains(&count), "{count}");
    until_reported(&redis, &[count as u64 * 100_000]);
}

#[test]
fn idle_users_are_reported_again_to_an_emptied_redis() {
    let (mut redis, ledgers) = (Redis::start(), Ledgers::new());
    let limits = "{ requests = 5, per = \"day\", each = \"user\" }, { requests = 900, per = \"day\" }";
    let tables = tables(&redis.url(), "", limits);
    let [one, other] = ["one", "other"].map(|name| ledgers.replica(name, &tables));
    for (user, count) in [("ann", 2), ("bob", 3), ("eve", 4)] {
        assert_eq!(admitted(&[&one, &other], user, count), count);
    }
    until_reported(&redis, &[2, 3, 4]);
    // The limit of all users shows that it is empty.
    redis.ask(&["FLUSHALL"]);
    until_reported(&redis, &[2, 3, 4]);
    redis.kill();
    redis.resume();
    until_reported(&redis, &[2, 3, 4]);
    until(PATIENCE, "the rest is admitted", || {
        admitted(&[&one, &other], "ann", 2);
        (reported(&redis) == [3, 4, 5]).then_some(())
    });
}

#[test]
fn users_count_once_after_a_restart_and_beside_another_process() {
    let (redis, ledgers) = (Redis::start(), Ledgers::new());
    let tables = tables(&redis.url(), "", "{ requests = 9, per = \"day\", each = \"user\" }");
    let one = ledgers.replica("one", &tables);
    assert_eq!(admitted(&[&one], "ann", 2), 2);
    one.stop();
    let one = ledgers.replica("one", &tables);
    until_reported(&redis, &[2]);
    assert_eq!(admitted(&[&one], "ann", 1), 1);
    // A second process of the same ledger reports only its own part, also when the first has ended.
    let next = ledgers.replica("one", &tables);
    assert_eq!(admitted(&[&next], "ann", 2), 2);
    until_reported(&redis, &[5]);
    one.stop();
    assert_eq!(admitted(&[&next], "ann", 1), 1);
    until_reported(&redis, &[6]);
    next.stop();
    let last = ledgers.replica("one", &tables);
    assert_eq!(admitted(&[&last], "ann", 9), 3);
    until_reported(&redis, &[9]);
}
