//! The alerts and the scrape configuration of `config/prometheus`.

use std::collections::BTreeMap;

use crate::prometheus::{Prometheus, promtool};
use crate::scene::Scene;
use crate::until;

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn prometheus_takes_the_configuration_and_evaluates_every_alert() {
    let mut scene = Scene::start();
    let prometheus = Prometheus::start(&scene);
    promtool(&["check", "config", prometheus.configuration().to_str().unwrap()], "");
    prometheus.wait_for_requests(scene.send_traffic());
    prometheus.wait_for_requests(scene.send_traffic());
    let states = || {
        let response = prometheus.api("rules", &[]);
        let rules = response["groups"][0]["rules"].as_array().unwrap().iter();
        let rules = rules.map(|rule| {
            assert_ne!(rule["health"], "err", "{rule}");
            let text = |member: &str| rule[member].as_str().unwrap().to_owned();
            (text("name"), (text("health"), text("state")))
        });
        rules.collect::<BTreeMap<_, _>>()
    };
    // The traffic fails often, much of it is estimated, and a client exceeds its limit; the other
    // alerts are for worse conditions.
    let is = |state: &str| ("ok".to_owned(), state.to_owned());
    let now = until("the alerts that the traffic raises", || {
        let now = states();
        let raised = ["UpstreamFails", "UsageNotReported", "RateLimited", "LimitReached"];
        raised.iter().all(|name| now[&format!("Streamgauge{name}")] == is("pending")).then_some(now)
    });
    assert!(now.len() >= 12 && now.values().all(|(health, _)| health == "ok"), "{now:?}");
    for name in [
        "Down",
        "MemberOut",
        "GroupsFull",
        "UsageLost",
        "SinkStuck",
        "ThreadFails",
        "Panics",
        "LogLost",
        "LedgerDisconnected",
        "KeysUnknown",
        "LedgerRefused",
        "CertificateBroken",
    ] {
        assert_eq!(now[&format!("Streamgauge{name}")], is("inactive"), "{name}");
    }
    scene.postgres.stop();
    for name in ["LedgerDisconnected", "KeysUnknown"] {
        until("the alerts that PostgreSQL is away", || {
            (states()[&format!("Streamgauge{name}")] == is("pending")).then_some(())
        });
    }
}
