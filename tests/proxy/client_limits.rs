//! Limits of clients and teams: what is admitted, held, settled and refused.

use std::collections::BTreeSet;
use std::thread;

use serde_json::Value;
use streamgauge::config::reload::ReloadOutcome;

use crate::harness::{
    Client, EVENTS_HEAD, PATIENCE, Proxy, Response, Upstream, chunk, proxy, sized, until, upstream,
};

const COMPLETION: &[u8] = br#"{"model":"m","choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":60,"completion_tokens":40,"total_tokens":100}}"#;

fn clients(limits: &str, team: &str) -> String {
    format!(
        "[clients.search]\nkey = {{ value = \"sg-search-0123456789\" }}\nteam = \"engineering\"\nlimits = [{limits}]\n\
         [clients.other]\nkey = {{ value = \"sg-other-01234567890\" }}\nteam = \"engineering\"\n\
         [teams.engineering]\nlimits = [{team}]\n"
    )
}

/// A proxy whose upstream responds with 100 tokens.
fn limited(limits: &str, team: &str) -> Proxy {
    let up = Upstream::responding(sized("200 OK", "application/json", COMPLETION));
    proxy().upstream(&up).tables(&clients(limits, team)).admin().run()
}

fn ask_as(client: &mut Client, key: &str, body: &str) -> Response {
    client
        .send(format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
        .response()
}

const BODY: &str = r#"{"model":"m","max_tokens":50,"messages":[{"role":"user","content":"Hello"}]}"#;

fn ask(proxy: &Proxy) -> Response {
    ask_as(&mut proxy.client(), "sg-search-0123456789", BODY)
}

/// A value of the admin port's metrics.
fn metric(proxy: &Proxy, name: &str) -> Option<f64> {
    let admin = proxy.admin();
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {admin}\r\n\r\n");
    let metrics = Client::connect(admin).send(request).response();
    let line = metrics.text().lines().find(|line| line.starts_with(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn requests_beyond_rate_get_429_with_exact_pause() {
    let proxy = limited("{ requests = 2, per = \"hour\", burst = 2 }", "");
    for _ in 0..2 {
        assert_eq!(ask(&proxy).status(), 200);
        assert_eq!(proxy.record()["outcome"], "complete");
    }
    let refused = ask(&proxy);
    assert_eq!(refused.status(), 429, "{}", refused.text());
    let error = refused.error();
    assert_eq!((&error["code"], &error["param"]), (&"rate_limit_exceeded".into(), &Value::Null));
    let message = error["message"].as_str().unwrap();
    assert!(
        message.starts_with(
            "The client search has used or reserved 2 of 2 requests, and this request may need 1 \
             (limits[0] in [clients.search]). There is room again in "
        ),
        "{message}"
    );
    // Two an hour: there is room after half an hour, for which no SDK should wait.
    assert_eq!((refused.header("x-should-retry"), refused.header("retry-after")), (Some("false"), None));
    assert_eq!(refused.header("x-ratelimit-limit-requests"), Some("2"));
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), Some("0"));
    let record = proxy.record();
    assert_eq!(
        (&record["outcome"], &record["status"], &record["client"]),
        (&"rejected".into(), &429.into(), &"search".into())
    );
    let other = ask_as(&mut proxy.client(), "sg-other-01234567890", BODY);
    assert_eq!(other.status(), 200, "another client has no such limit");
}

#[test]
fn short_pause_is_told_in_seconds_and_milliseconds() {
    let proxy = limited("{ requests = 1, per = \"minute\" }", "");
    assert_eq!(ask(&proxy).status(), 200);
    let refused = ask(&proxy);
    let millis: u64 = refused.header("retry-after-ms").unwrap().parse().unwrap();
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!(millis <= 60_000 && millis > 50_000, "{millis}");
    assert_eq!(seconds, millis.div_ceil(1000));
    assert_eq!(refused.header("x-should-retry"), None);
}

#[test]
fn tokens_are_settled_by_what_the_service_reports() {
    // The hold of 22 tokens of input and 50 of output fits beside 100 used ones.
    let proxy = limited("{ tokens = 180, per = \"hour\" }", "");
    assert_eq!(ask(&proxy).status(), 200);
    proxy.record();
    let used = metric(&proxy, "streamgauge_limit_used_ratio{").unwrap();
    assert!((0.54..=0.56).contains(&used), "100 of 180 tokens: {used}");
    assert_eq!(ask(&proxy).status(), 200);
    proxy.record();
    let used = metric(&proxy, "streamgauge_limit_used_ratio{").unwrap();
    assert!(used > 1.1, "the debt: {used}");
    let refused = ask(&proxy);
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.header("x-ratelimit-limit-tokens"), Some("180"));
    assert!(metric(&proxy, "streamgauge_limit_exceeded_total{").unwrap() >= 1.0);
}

#[test]
fn expected_input_follows_what_upstream_has_reported() {
    // 10,000 bytes that have 5,000 tokens, and none that are output.
    let reported = String::from_utf8_lossy(COMPLETION).replace(":60,", ":5000,").replace(":40,", ":0,");
    let up = Upstream::responding(sized("200 OK", "application/json", reported.as_bytes()));
    let proxy = proxy().upstream(&up).tables(&clients("{ tokens = 1, per = \"hour\" }", "")).admin().run();
    let asks = |model: &str| {
        let rest = format!(r#""model":"{model}","max_tokens":1,"messages":[]"#);
        format!("{{{rest}{}}}", " ".repeat(9_998 - rest.len()))
    };
    // A larger request than the limit is admitted while nothing is used; its debt refuses the next.
    assert_eq!(ask_as(&mut proxy.client(), "sg-search-0123456789", &asks("m")).status(), 200);
    proxy.record();
    let wants = |model: &str| {
        let refused = ask_as(&mut proxy.client(), "sg-search-0123456789", &asks(model));
        assert_eq!(refused.status(), 429, "{}", refused.text());
        let message = refused.error()["message"].as_str().unwrap().to_owned();
        proxy.record();
        message.split_once("may need ").unwrap().1.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(wants("other"), 2_858 + 1, "3.5 bytes a token where nothing is known");
    // One report of 10,000 bytes beside the 7,680 that are left of the beginning.
    let ratio = (8_192.0 * 15.0 / 16.0 / 3.5 + 5_000.0) / (8_192.0 * 15.0 / 16.0 + 10_000.0);
    assert_eq!(wants("m"), (10_000.0_f64 * ratio).ceil() as u64 + 1);
}

#[test]
fn refusal_has_the_form_of_its_endpoint() {
    let up = Upstream::responding(sized("200 OK", "application/json", COMPLETION));
    let folder = tempfile::tempdir().unwrap();
    for (limit, code) in [
        ("{ requests = 1, per = \"minute\" }", "rate_limit_exceeded"),
        ("{ requests = 1, per = \"month\" }", "insufficient_quota"),
    ] {
        let ledger = folder.path().join(code);
        let proxy = proxy().upstream(&up).tables(&clients(limit, "")).ledger(&ledger).run();
        assert_eq!(ask(&proxy).status(), 200);
        proxy.record();
        // The second is refused before its body is read.
        for body in [BODY.to_owned(), BODY.replace("Hello", &"long ".repeat(20_000))] {
            for path in ["chat/completions", "responses", "messages"] {
                let refused = proxy
                    .client()
                    .send(format!(
                        "POST /v1/{path} HTTP/1.1\r\nhost: localhost\r\nx-api-key: sg-search-0123456789\r\n\
                         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                        body.len()
                    ))
                    .response();
                assert_eq!(refused.status(), 429, "{path}");
                let response: Value = serde_json::from_str(refused.text()).unwrap();
                let error = &response["error"];
                assert_eq!(error["code"], code);
                assert!(error["message"].as_str().unwrap().contains("1 of 1 requests"), "{error}");
                let has_anthropics_form = response["type"] == "error"
                    && error["type"] == "rate_limit_error"
                    && response["request_id"] == refused.header("x-streamgauge-id").unwrap();
                assert_eq!(has_anthropics_form, path == "messages", "{response}");
                assert_eq!(error["type"] == "streamgauge_error", path != "messages", "{response}");
                let pause = (refused.header("retry-after").is_some(), refused.header("x-should-retry"));
                let is_rate = code == "rate_limit_exceeded";
                assert_eq!(pause, (is_rate, (!is_rate).then_some("false")), "{path} {code}");
                let record = proxy.record();
                assert_eq!((&record["outcome"], &record["endpoint"]), (&"rejected".into(), &path.into()));
            }
        }
    }
}

/// The used tokens of the first limit, of 1,000 an hour.
fn used_tokens(proxy: &Proxy) -> f64 {
    metric(proxy, "streamgauge_limit_used_ratio{").unwrap() * 1_000.0
}

#[test]
fn attempts_whose_response_was_thrown_away_count() {
    let busy = r#"{"error":{"message":"x"},"usage":{"prompt_tokens":25,"completion_tokens":1}}"#;
    let a = Upstream::responding(sized("503 Busy", "application/json", busy.as_bytes()));
    let b = Upstream::responding(sized("200 OK", "application/json", COMPLETION));
    let group = "[groups.chat]\ntiers = [[\"a\"], [\"b\"]]\n[[routes]]\nupstream = \"chat\"\n";
    let tables = clients("{ tokens = 1000, per = \"hour\" }", "") + group;
    let proxy = proxy().other("a", a.address).other("b", b.address).tables(&tables).admin().run();
    assert_eq!(ask(&proxy).status(), 200);
    assert_eq!(proxy.record()["attempts"][0]["tokens"]["input_tokens"], 25);
    let used = used_tokens(&proxy);
    assert!((124.0..=126.0).contains(&used), "{used}");
}

#[test]
fn response_without_counts_is_settled_by_what_was_seen() {
    let up = upstream(move |connection| {
        let request = connection.request().unwrap();
        if request.body.windows(5).any(|word| word == b"never") {
            connection.wait_for_close();
            return;
        }
        connection.send(EVENTS_HEAD);
        (0..40).for_each(|_| connection.send(chunk(b"data: {\"new\":\"form\"}\n\n")));
    });
    let proxy = proxy().upstream(&up).tables(&clients("{ tokens = 1000, per = \"hour\" }", "")).admin().run();
    let send = |prompt: &str| {
        let body = format!("{{\"model\":\"m\",\"stream\":true,\"max_tokens\":50,\"prompt\":{prompt:?}}}");
        // No tokens of this endpoint are estimated.
        let mut client = proxy.client();
        client.send(format!(
            "POST /v1/fim/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sg-search-0123456789\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        ));
        (client, (body.len() as f64 / 3.5).ceil())
    };
    let (mut client, input) = send(&"long ".repeat(50));
    client.head();
    let record = proxy.record();
    assert_eq!((&record["outcome"], &record["usage_source"]), (&"truncated".into(), &"none".into()));
    let used = used_tokens(&proxy);
    assert!((input + 39.0..=input + 40.0).contains(&used), "{input} and 40 events: {used}");

    let (client, more) = send("never");
    until(PATIENCE, "the hold", || (used_tokens(&proxy) > used + more + 40.0).then_some(()));
    drop(client);
    let record = proxy.record();
    assert_eq!((&record["outcome"], &record["status"]), (&"client_disconnected".into(), &Value::Null));
    let (before, used) = (used, used_tokens(&proxy));
    assert!((before + more - 1.0..=before + more).contains(&used), "{before} and {more}: {used}");
}

#[test]
fn request_without_tokens_passes_in_debt_and_a_form_does_not() {
    let up = Upstream::responding(sized("200 OK", "application/json", COMPLETION));
    let proxy = proxy().upstream(&up).tables(&clients("{ tokens = 90, per = \"hour\" }", "")).run();
    assert_eq!(ask(&proxy).status(), 200);
    let send = |line: &str, head: &str, body: &str| {
        let request = format!(
            "{line} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sg-search-0123456789\r\n{head}\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        proxy.client().send(request).response().status()
    };
    assert_eq!(send("GET /v1/responses/resp_1", "", ""), 200);
    assert_eq!(send("POST /v1/moderations", "", "{\"model\":\"m\",\"input\":\"x\"}"), 200);
    let form = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b--\r\n";
    let head = "content-type: multipart/form-data; boundary=b\r\n";
    assert_eq!(send("POST /v1/audio/transcriptions", head, form), 429);
}

#[test]
fn refused_request_holds_nothing_of_the_teams_limit() {
    let proxy = limited("{ requests = 10, per = \"hour\" }", "{ requests = 3, per = \"hour\" }");
    for key in ["sg-search-0123456789", "sg-other-01234567890", "sg-search-0123456789"] {
        assert_eq!(ask_as(&mut proxy.client(), key, BODY).status(), 200);
    }
    for key in ["sg-search-0123456789", "sg-other-01234567890"] {
        let error = ask_as(&mut proxy.client(), key, BODY).error();
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains(
                "team engineering has used or reserved 3 of 3 requests, and this request may need 1 \
                 (limits[0] in [teams.engineering])"
            ),
            "{message}"
        );
    }
    let own = metric(&proxy, "streamgauge_limit_used_ratio{whose=\"clients.search\"").unwrap();
    assert!((0.199..=0.2).contains(&own), "2 of 10: {own}");
}

#[test]
fn concurrent_counts_requests_until_their_end_or_departure() {
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            if request.body.windows(4).any(|word| word == b"slow") {
                connection.send(EVENTS_HEAD);
                connection.send(chunk(b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"));
                // Until the proxy leaves.
                connection.request();
                return;
            }
            connection.send(sized("200 OK", "application/json", COMPLETION));
        }
    });
    let proxy = proxy().upstream(&up).tables(&clients("{ concurrent = 1 }", "")).run();
    let mut first = proxy.client();
    let body = BODY.replace("Hello", "slow");
    first.send(format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sg-search-0123456789\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    ));
    first.head();
    let refused = ask(&proxy);
    assert_eq!(refused.status(), 429, "{}", refused.text());
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(refused.text().contains("1 of 1 running requests"), "{}", refused.text());
    assert_eq!(proxy.record()["outcome"], "rejected");
    // The client leaves.
    drop(first);
    assert_eq!(proxy.record()["outcome"], "client_disconnected");
    assert_eq!(ask(&proxy).status(), 200);
}

#[test]
fn limit_that_warns_lets_requests_pass_with_a_note() {
    let proxy = limited("{ requests = 1, per = \"hour\", at_limit = \"warn\" }", "");
    assert_eq!(ask(&proxy).status(), 200);
    assert_eq!(proxy.record()["error"], Value::Null);
    assert_eq!(ask(&proxy).status(), 200);
    let record = proxy.record();
    assert!(record["error"].as_str().unwrap().contains("at_limit = \"warn\" had no room"), "{record}");
    assert_eq!(metric(&proxy, "streamgauge_limit_exceeded_total{"), Some(1.0));
}

#[test]
fn limit_of_tokens_that_warns_lets_requests_pass_in_debt() {
    let proxy = limited("{ tokens = 80, per = \"hour\", at_limit = \"warn\" }", "");
    for request in 0..3 {
        assert_eq!(ask(&proxy).status(), 200);
        let error = &proxy.record()["error"];
        assert_eq!(error.is_string(), request > 0, "the first finds a full bucket: {error}");
    }
    let used = metric(&proxy, "streamgauge_limit_used_ratio{").unwrap();
    assert!((3.7..=3.75).contains(&used), "300 of 80 tokens: {used}");
    assert_eq!(metric(&proxy, "streamgauge_limit_exceeded_total{"), Some(2.0));
}

#[test]
fn background_response_counts_when_it_is_retrieved() {
    let response = |status: &str, usage: &str| {
        let body = format!(
            "{{\"id\":\"resp_1\",\"object\":\"response\",\"background\":true,\"status\":\"{status}\",\"model\":\"m\",\"usage\":{usage}}}"
        );
        sized("200 OK", "application/json", body.as_bytes())
    };
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            connection.send(match request.head.starts_with("POST") {
                true => response("queued", "null"),
                false => {
                    response("completed", "{\"input_tokens\":60,\"output_tokens\":40,\"total_tokens\":100}")
                }
            });
        }
    });
    let with = |endpoints: &str| {
        let tables = clients("{ tokens = 1000, per = \"hour\" }", "");
        let tables = tables.replacen("[clients.search]\n", &format!("[clients.search]\n{endpoints}\n"), 1);
        proxy().upstream(&up).tables(&tables).admin().run()
    };
    let send = |proxy: &Proxy, line: &str, body: &str| {
        let request = format!(
            "{line} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sg-search-0123456789\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let response = proxy.client().send(request).response();
        proxy.record();
        response.status()
    };
    const ASKED: &str = r#"{"model":"m","input":"Hi","background":true}"#;
    assert_eq!(send(&with(""), "POST /v1/responses", ASKED), 403);
    let proxy = with("endpoints = \"all\"");
    assert_eq!(send(&proxy, "POST /v1/responses", ASKED), 200);
    assert!(used_tokens(&proxy) < 1.0, "its tokens are not known yet");
    for look in 0..2 {
        assert_eq!(send(&proxy, "GET /v1/responses/resp_1", ""), 200);
        let used = used_tokens(&proxy);
        assert!((99.0..=100.0).contains(&used), "look {look}: {used}");
    }
}

#[test]
fn reload_keeps_counts_and_holds() {
    let up = upstream(move |connection| {
        let request = connection.request().unwrap();
        if request.body.windows(4).any(|word| word == b"slow") {
            connection.send(EVENTS_HEAD);
            connection.send(chunk(b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"));
            connection.wait_for_close();
            return;
        }
        connection.send(sized("200 OK", "application/json", COMPLETION));
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("streamgauge.toml");
    let configured = |limits: &str| {
        let builder = proxy().upstream(&up).tables(&clients(limits, "")).admin();
        std::fs::write(&path, builder.text()).unwrap();
        builder
    };
    let proxy = configured("{ tokens = 1000, per = \"hour\" }, { concurrent = 2 }").run_from(&path);
    assert_eq!(ask(&proxy).status(), 200);
    proxy.record();
    let mut running = proxy.client();
    let body = BODY.replace("Hello", "slow");
    running.send(format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sg-search-0123456789\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    ));
    running.head();
    // Another order and other bounds, under which the running request leaves no place.
    configured("{ concurrent = 1 }, { tokens = 500, per = \"hour\" }");
    assert!(matches!(proxy.reload(), ReloadOutcome::Taken { .. }));
    let used = |limit: &str| {
        metric(&proxy, &format!("streamgauge_limit_used_ratio{{whose=\"clients.search\",limit=\"{limit}\""))
            .unwrap()
    };
    assert_eq!(used("limits[0]"), 1.0);
    let refused = ask(&proxy);
    assert!(refused.text().contains("has 1 of 1 running requests (limits[0]"), "{}", refused.text());
    proxy.record();
    drop(running);
    assert_eq!(proxy.record()["outcome"], "client_disconnected");
    assert_eq!(used("limits[0]"), 0.0, "the hold is settled at the limit that goes on");
    // The first bucket had more left than the second can hold.
    assert!(used("limits[1]") < 0.2);
    assert_eq!(ask(&proxy).status(), 200);
}

#[test]
fn use_of_a_period_is_read_from_the_ledger() {
    let up = Upstream::responding(sized("200 OK", "application/json", COMPLETION));
    let folder = tempfile::tempdir().unwrap();
    let (ledger, path) = (folder.path().join("usage.db"), folder.path().join("streamgauge.toml"));
    let configured = |limits: &str, team: &str| {
        let builder = proxy().upstream(&up).tables(&clients(limits, team)).admin().ledger(&ledger);
        std::fs::write(&path, builder.text()).unwrap();
        builder
    };
    let first = configured("{ requests = 2, per = \"hour\" }", "").run_from(&path);
    // A refused request counts nowhere.
    assert_eq!([ask(&first).status(), ask(&first).status(), ask(&first).status()], [200, 200, 429]);
    first.stop();

    let proxy = configured("{ tokens = 300, per = \"month\" }", "").run_from(&path);
    let used = metric(&proxy, "streamgauge_limit_used_ratio{").unwrap();
    assert!((0.666..0.667).contains(&used), "200 of 300: {used}");
    assert_eq!(ask(&proxy).status(), 200);
    let refused = ask(&proxy);
    assert_eq!((refused.status(), &refused.error()["code"]), (429, &"insufficient_quota".into()));
    assert_eq!((refused.header("x-should-retry"), refused.header("retry-after")), (Some("false"), None));
    let error = refused.error();
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("has used or reserved 300 of 300 tokens, and this request may need 7"),
        "{message}"
    );
    assert!(message.contains("The count begins again at 2"), "{message}");

    // A limit that is new after a reload, of a team whose other client has asked once.
    let limits = "{ tokens = 900, per = \"month\" }";
    configured(limits, "{ requests = 3, per = \"month\" }");
    until(PATIENCE, "the ledger's third row", || {
        assert!(matches!(proxy.reload(), ReloadOutcome::Taken { .. }));
        let team = metric(&proxy, "streamgauge_limit_used_ratio{whose=\"teams.engineering\"")?;
        if team < 1.0 {
            // Begins the count again.
            configured(limits, "");
            assert!(matches!(proxy.reload(), ReloadOutcome::Taken { .. }));
            configured(limits, "{ requests = 3, per = \"month\" }");
        }
        (team == 1.0).then_some(())
    });
    let refused = ask_as(&mut proxy.client(), "sg-other-01234567890", BODY);
    assert!(
        refused.text().contains("team engineering has used or reserved 3 of 3 requests"),
        "{}",
        refused.text()
    );
    let own = metric(&proxy, "streamgauge_limit_used_ratio{whose=\"clients.search\"").unwrap();
    assert!((0.333..0.334).contains(&own), "the count goes on under another bound: {own}");
}

#[test]
fn many_clients_at_once_never_exceed_a_limit_and_leave_no_hold() {
    let proxy = limited(
        "{ requests = 50, per = \"hour\" }, { tokens = \"100k\", per = \"hour\" }, { concurrent = 8 }",
        "",
    );
    let address = proxy.address;
    let ask = move || ask_as(&mut Client::connect(address), "sg-search-0123456789", BODY).status();
    let workers: Vec<_> =
        (0..8).map(|_| thread::spawn(move || (0..20).filter(|_| ask() == 200).count())).collect();
    let admitted: usize = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
    assert_eq!(admitted, 50);
    let records: Vec<_> = (0..160).map(|_| proxy.record()).collect();
    let tokens: u64 = records
        .iter()
        .filter_map(|record| Some(record["input_tokens"].as_u64()? + record["output_tokens"].as_u64()?))
        .sum();
    assert_eq!(tokens, 5_000);
    until(PATIENCE, "the end of all holds", || {
        let held =
            metric(&proxy, "streamgauge_limit_used_ratio{whose=\"clients.search\",limit=\"limits[2]\"")?;
        let used =
            metric(&proxy, "streamgauge_limit_used_ratio{whose=\"clients.search\",limit=\"limits[1]\"")?;
        (held == 0.0 && used <= 0.05).then_some(())
    });
}

#[test]
fn united_list_of_models_counts_as_a_request() {
    let list = br#"{"object":"list","data":[{"id":"m","object":"model"}]}"#;
    let up = Upstream::responding(sized("200 OK", "application/json", list));
    let routes = "[[routes]]\nmodel = \"o*\"\nupstream = \"up\"\n[[routes]]\nupstream = \"up\"\n";
    let tables = clients("{ requests = 2, per = \"hour\", burst = 2 }", "") + routes;
    let proxy = proxy().upstream(&up).tables(&tables).run();
    let get = || {
        let head = "GET /v1/models HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sg-search-0123456789\r\n\r\n";
        proxy.client().send(head).response()
    };
    assert_eq!([get().status(), get().status()], [200, 200]);
    let refused = get();
    assert_eq!((refused.status(), &refused.error()["code"]), (429, &"rate_limit_exceeded".into()));
    assert_eq!(ask(&proxy).status(), 429, "it is the same limit");
}

/// Requests with every kind of end, from several clients at once. After it each limit has counted
/// what the ledger has.
#[test]
fn counts_of_periods_equal_the_ledger_after_every_kind_of_end() {
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            let has = |word: &str| request.body.windows(word.len()).any(|part| part == word.as_bytes());
            if has("whole") {
                connection.send(sized("200 OK", "application/json", COMPLETION));
                continue;
            } else if has("busy") {
                connection.send(sized("429 Too Many Requests", "application/json", b"{}"));
                continue;
            }
            connection.send(EVENTS_HEAD);
            let event = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"m\",\
                         \"usage\":{\"input_tokens\":20,\"output_tokens\":1}}}\n\n";
            connection.send(chunk(event.as_bytes()));
            let delta = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\
                         \"delta\":{\"type\":\"text_delta\",\"text\":\" word\"}}\n\n";
            // A stream without an end is cut by a limit, or left by its client.
            let mut events = if has("endless") { usize::MAX } else { 20 };
            while events > 0 && connection.try_send(&chunk(delta.as_bytes())) {
                events -= 1;
            }
            if has("broken") || events > 0 {
                return;
            }
            let end = "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":20}}\n\n\
                       event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
            connection.send([chunk(end.as_bytes()), b"0\r\n\r\n".to_vec()].concat());
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let (ledger, path) = (folder.path().join("usage.db"), folder.path().join("streamgauge.toml"));
    let limits =
        "{ tokens = \"20k\", per = \"month\", at_limit = \"cut\" }, { requests = 50, per = \"month\" }";
    let tables = clients(limits, "{ tokens = \"30k\", per = \"month\", at_limit = \"warn\" }");
    let builder = proxy().upstream(&up).tables(&tables).admin().ledger(&ledger);
    std::fs::write(&path, builder.text()).unwrap();
    let proxy = builder.run_from(&path);
    let address = proxy.address;
    let agent = move |number: usize| {
        for kind in ["whole", "busy", "stream", "broken", "endless", "left", "drained", "stream", "whole"] {
            let body =
                format!("{{\"model\":\"m\",\"max_tokens\":99,\"stream\":true,\"messages\":\"{kind}\"}}");
            let (drain, body) = match kind {
                "drained" => ("x-streamgauge-on-disconnect: drain\r\n", body),
                "left" => ("", body.replace("left", "left endless")),
                _ => ("", body),
            };
            let key = if number.is_multiple_of(4) { "sg-other-01234567890" } else { "sg-search-0123456789" };
            let mut client = Client::connect(address);
            client.send(format!(
                "POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nx-api-key: {key}\r\nconnection: close\r\n{drain}\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            ));
            match kind {
                "left" | "drained" => client.read_up_to(300),
                // Nothing cuts the other client.
                "endless" if number.is_multiple_of(4) => client.read_up_to(3_000),
                _ => drop(client.rest()),
            }
        }
    };
    const AGENTS: usize = 8;
    let agents: Vec<_> = (0..AGENTS).map(|number| thread::spawn(move || agent(number))).collect();
    agents.into_iter().for_each(|agent| agent.join().unwrap());
    let outcomes: BTreeSet<String> =
        (0..AGENTS * 9).map(|_| proxy.record()["outcome"].as_str().unwrap().to_owned()).collect();
    for outcome in ["complete", "rate_limited", "truncated", "client_disconnected", "cut", "rejected"] {
        assert!(outcomes.contains(outcome), "{outcome}: {outcomes:?}");
    }
    let drifts = || -> Option<[f64; 3]> {
        proxy.compare_limits();
        let drift = |whose: &str, limit: u8| {
            let name = format!("streamgauge_limit_drift{{whose=\"{whose}\",limit=\"limits[{limit}]\"}}");
            metric(&proxy, &name)
        };
        Some([drift("clients.search", 0)?, drift("clients.search", 1)?, drift("teams.engineering", 0)?])
    };
    until(PATIENCE, "equal counts", || (drifts() == Some([0.0; 3])).then_some(()));

    // A record that is lost, and records that have more than was counted.
    let connection = rusqlite::Connection::open(&ledger).unwrap();
    let one = "SELECT min(rowid) FROM usage_records WHERE client = 'search' AND usage_source = 'reported'";
    let tokens: f64 = connection
        .query_row(
            &format!("SELECT input_tokens + output_tokens FROM usage_records WHERE rowid = ({one})"),
            [],
            |row| row.get(0),
        )
        .unwrap();
    connection.execute(&format!("DELETE FROM usage_records WHERE rowid = ({one})"), []).unwrap();
    assert_eq!(drifts(), Some([tokens, 1.0, tokens]));
    let more = "UPDATE usage_records SET input_tokens = input_tokens + 1000 WHERE client = 'search' AND usage_source = 'reported'";
    assert!(connection.execute(more, []).unwrap() > 0);
    let [of_client, _, of_team] = drifts().unwrap();
    assert!(of_client < 0.0 && of_client == of_team, "{of_client} {of_team}");
    // The limit has taken it over.
    assert_eq!(drifts(), Some([0.0, 1.0, 0.0]));
    // A record of a clock that was ten years ahead counts in no period of today, however often it is
    // compared.
    let ahead = format!(
        "UPDATE usage_records SET started_at = started_at + 315576000000000000 WHERE rowid = ({one})"
    );
    assert_eq!(connection.execute(&ahead, []).unwrap(), 1);
    let [of_client, requests, _] = drifts().unwrap();
    assert!(of_client > 1_000.0 && requests == 2.0, "{of_client} {requests}");
    assert_eq!(drifts().unwrap()[0], of_client);
}
