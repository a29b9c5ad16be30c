//! Rate limits of members against the clock, members that fail often, and requests that are no
//! evidence against a member.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use streamgauge::simulator::{self, SimulatorSettings};

use crate::harness::{CHAT_BODY, Client, PATIENCE, Proxy, Upstream, proxy, sized, until, upstream};

const PATH: &str = "/v1/chat/completions";

const JSON: &str = "application/json";

/// A proxy whose group tries `a` and then `b`, which is asked for the model `sim`.
fn fallback(a: SocketAddr, b: SocketAddr, lines: &str) -> Proxy {
    proxy()
        .other("a", a)
        .other("b", b)
        .admin()
        .tables(&format!(
            "[groups.chat]\ntiers = [[\"a\"], [{{ upstream = \"b\", model = \"sim\" }}]]\nsticky = []\n\
             [groups.chat.retry]\n{lines}\n[[routes]]\nupstream = \"chat\""
        ))
        .run()
}

fn body(model: &str, prompt: &str) -> String {
    json!({"model": model, "messages": [{"role": "user", "content": prompt}]}).to_string()
}

/// The upstream that served, and the number of attempts.
fn served(client: &mut Client, body: &str) -> (String, String) {
    let response = client.post(PATH, body).response();
    assert_eq!(response.status(), 200, "{}", response.text());
    let header = |name| response.header(name).unwrap().to_owned();
    (header("x-streamgauge-upstream"), header("x-streamgauge-attempts"))
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn limited_member_is_asked_again_when_its_limit_ends() {
    let simulators = [(); 2].map(|()| {
        let settings = SimulatorSettings { listen: ([127, 0, 0, 1], 0).into(), workers: 1, api_key: None };
        let bound = simulator::bind(&settings).unwrap();
        (bound.address(), bound.spawn())
    });
    let proxy = fallback(simulators[0].0, simulators[1].0, "budget = 10");
    const LIMIT: Duration = Duration::from_millis(1_500);
    // The form, and how much earlier and later than the service means it the end may be in it.
    let forms = [("openai", 0, 0), ("seconds", 0, 1000), ("date", 1000, 1000), ("millis", 0, 0)];
    let others = [("reset", 0, 0), ("anthropic", 1000, 1000), ("google", 1000, 1000)];
    thread::scope(|scope| {
        for (form, early, late) in forms.into_iter().chain(others) {
            let address = proxy.address;
            scope.spawn(move || {
                let mut client = Client::connect(address);
                let body = body(&format!("sim:status=429,limit={form},after=1500ms"), form);
                let before = Instant::now();
                let twice = |served: (String, String)| served == ("b".to_owned(), "2".to_owned());
                assert!(twice(served(&mut client, &body)), "{form}: the limit is known after it");
                let after = Instant::now();
                let again = loop {
                    let begun = Instant::now();
                    if twice(served(&mut client, &body)) {
                        break begun;
                    }
                    assert!(after.elapsed() < PATIENCE, "{form}: it is not asked again");
                };
                let [early, late] = [early, late].map(Duration::from_millis);
                // The request may take a moment to arrive at the choice.
                let latest = after + LIMIT + late + Duration::from_millis(500);
                assert!(Instant::now() >= before + LIMIT - early, "{form}: early by {:?}", before.elapsed());
                assert!(again <= latest, "{form}: {:?} late", again - latest);
            });
        }
    });
}

#[test]
fn member_that_fails_six_of_ten_is_left_out() {
    // Never five failures in a row.
    let pattern = [false, false, true, false, true, false, false, true, false, true];
    let asked = AtomicUsize::new(0);
    let a = upstream(move |connection| {
        while connection.request().is_some() {
            let is_good = pattern[asked.fetch_add(1, Ordering::SeqCst) % 10];
            let status = if is_good { "200 OK" } else { "500 Internal Server Error" };
            connection.send(sized(status, JSON, CHAT_BODY.as_bytes()));
        }
    });
    let b = Upstream::responding(sized("200 OK", JSON, CHAT_BODY.as_bytes()));
    let proxy = fallback(a.address, b.address, "budget = 10");
    let mut client = proxy.client();
    let begun = Instant::now();
    let left_out = (1..=60).find(|number| {
        served(&mut client, &body("m", &number.to_string())) == ("b".to_owned(), "1".to_owned())
    });
    let left_out = left_out.unwrap_or_else(|| panic!("it is asked all the time"));
    assert!((20..=30).contains(&left_out) && begun.elapsed() < Duration::from_secs(30), "{left_out}");
    let opened = "streamgauge_breaker_opened_total{upstream=\"a\",reason=\"success_rate\"} 1";
    until(PATIENCE, "the opening is counted", || {
        proxy.page("/metrics").text().lines().any(|line| line == opened).then_some(())
    });
}

#[test]
fn poisonous_prompt_and_forbidden_model_close_nothing_else() {
    let a = upstream(|connection| {
        while let Some(request) = connection.request() {
            let text = String::from_utf8_lossy(&request.body).into_owned();
            if text.contains("poison") {
                return;
            }
            let status = if text.contains("forbidden") { "403 Forbidden" } else { "200 OK" };
            connection.send(sized(status, JSON, CHAT_BODY.as_bytes()));
        }
    });
    let b = Upstream::responding(sized("200 OK", JSON, CHAT_BODY.as_bytes()));
    let proxy = fallback(a.address, b.address, "on = [\"retryable\", \"doubtful\"]\nbudget = 10");
    let mut client = proxy.client();
    let by = |upstream: &str, attempts: &str| (upstream.to_owned(), attempts.to_owned());
    for _ in 0..40 {
        assert_eq!(served(&mut client, &body("m", "poison")), by("b", "2"));
    }
    assert_eq!(served(&mut client, &body("m", "fine")), by("a", "1"), "the prompt closed nothing");
    assert_eq!(served(&mut client, &body("forbidden", "fine")), by("b", "2"));
    assert_eq!(served(&mut client, &body("forbidden", "fine")), by("b", "1"), "the model is left out");
    assert_eq!(served(&mut client, &body("m", "fine")), by("a", "1"), "and no other one");
}
