//! Refusals of unknown clients: any number of them makes a bounded number of records.

use std::collections::HashSet;
use std::time::Instant;

use serde_json::Value;

use crate::harness::{CHAT_BODY, PATIENCE, Proxy, Upstream, proxy, sized, until};

const REFUSALS: usize = 500;

fn run() -> (Upstream, Proxy) {
    let up = Upstream::responding(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
    let proxy = proxy().upstream(&up).admin().tables("[clients.ada]\nkey = { value = \"sk-ada\" }").run();
    (up, proxy)
}

/// The number of requests in the records.
fn requests(records: &[Value]) -> u64 {
    records.iter().map(|record| record["count"].as_u64().unwrap_or(1)).sum()
}

#[test]
fn refusals_beyond_a_rate_share_records_that_count_them() {
    let (_up, proxy) = run();
    let begun = Instant::now();
    let mut ids = HashSet::new();
    for _ in 0..REFUSALS {
        let response = proxy.client().get("/v1/models").response();
        assert_eq!(response.status(), 401);
        ids.insert(response.header("x-streamgauge-id").unwrap().to_owned());
    }
    let seconds = begun.elapsed().as_secs() as usize + 1;
    let records = proxy.stop();
    assert_eq!(requests(&records), REFUSALS as u64);
    assert!(records.len() <= 11 * (seconds + 1), "{} records in {seconds} s", records.len());
    let recorded: HashSet<_> =
        records.iter().map(|record| record["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, recorded, "each client is told the record that counts its request");
    assert!(records.iter().all(|record| record["error"].as_str().unwrap().starts_with("missing_api_key: ")));
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn metrics_count_every_refusal_soon() {
    let (_up, proxy) = run();
    for _ in 0..50 {
        assert_eq!(proxy.client().get("/v1/models").response().status(), 401);
    }
    // The series begins with the first record that the metrics get.
    let series = "streamgauge_requests_total{upstream=\"\",endpoint=\"\",status=\"401\",outcome=\"rejected\",model=\"other\",client=\"anonymous\"} ";
    let counted = || {
        let metrics = proxy.page("/metrics");
        metrics.text().lines().find_map(|line| line.strip_prefix(series)?.parse::<usize>().ok())
    };
    until(PATIENCE, "50 refusals in the metrics", || (counted()? >= 50).then_some(()));
    assert_eq!(counted(), Some(50));
}

#[test]
fn malformed_heads_share_records_too() {
    let (_up, proxy) = run();
    for _ in 0..50 {
        assert_eq!(proxy.client().send("G@RBAGE\r\n\r\n").response().status(), 400);
    }
    let records = proxy.stop();
    assert_eq!(requests(&records), 50);
    assert!(records.len() < 50, "each has one of its own");
}

#[test]
fn known_client_has_a_record_for_each_refusal() {
    let (_up, proxy) = run();
    let mut refused = 0;
    for _ in 0..30 {
        let request = "DELETE /nowhere HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer sk-ada\r\n\r\n";
        refused += usize::from(proxy.client().send(request).response().status() == 404);
    }
    assert_eq!(refused, 30);
    let records = proxy.stop();
    assert_eq!(records.len(), 30);
    assert!(records.iter().all(|record| record["count"].is_null() && record["client"] == "ada"));
}

#[test]
fn refusals_after_authentication_have_a_record_each() {
    let up = Upstream::responding(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
    let proxy = proxy().upstream(&up).run();
    for _ in 0..30 {
        assert_eq!(proxy.client().get("/nowhere").response().status(), 404);
    }
    let records = proxy.stop();
    assert_eq!(records.len(), 30);
    assert!(records.iter().all(|record| record["count"].is_null()));
}
