//! Limits of models and upstreams, by weight: what each counts equals the ledger's sums.

use std::path::Path;

use jiff::Timestamp;
use streamgauge::llm::price::Prices;
use streamgauge::sinks::ledger::{Bounds, By, Selection, Sums, report};

use crate::harness::{
    EVENTS_HEAD, PATIENCE, Proxy, Response, Upstream, chunk, proxy, sized, until, upstream,
};

pub(super) const KEY: &str = "sg-search-0123456789";

/// 40 tokens of plain input, 20 of cached input, 30 of output and 10 of reasoning.
pub(super) const COMPLETION: &[u8] = br#"{"model":"m","choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":60,"completion_tokens":40,"total_tokens":100,"prompt_tokens_details":{"cached_tokens":20},"completion_tokens_details":{"reasoning_tokens":10}}}"#;

pub(super) const BUSY: &[u8] =
    br#"{"error":{"message":"x"},"usage":{"prompt_tokens":25,"completion_tokens":1}}"#;

pub(super) fn client(limits: &str) -> String {
    format!("[clients.search]\nkey = {{ value = \"{KEY}\" }}\nlimits = [{limits}]\n")
}

pub(super) fn ok() -> Upstream {
    Upstream::responding(sized("200 OK", "application/json", COMPLETION))
}

fn limited(limits: &str) -> Proxy {
    proxy().upstream(&ok()).tables(&client(limits)).admin().run()
}

pub(super) fn body(model: &str) -> String {
    format!(r#"{{"model":"{model}","max_tokens":50,"messages":[{{"role":"user","content":"Hello"}}]}}"#)
}

pub(super) fn request(line: &str, body: &str) -> String {
    format!(
        "{line} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {KEY}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub(super) fn send(proxy: &Proxy, line: &str, body: &str) -> Response {
    proxy.client().send(request(line, body)).response()
}

pub(super) fn ask(proxy: &Proxy, model: &str) -> Response {
    send(proxy, "POST /v1/chat/completions", &body(model))
}

/// The amount that the client's limit of this number has counted, of `most`.
pub(super) fn counted(proxy: &Proxy, number: usize, most: f64) -> f64 {
    let labels = format!("{{whose=\"clients.search\",limit=\"limits[{number}]\"}}");
    (proxy.metric(&format!("streamgauge_limit_used_ratio{labels}")) * most * 1e6).round() / 1e6
}

#[test]
fn limit_of_a_model_counts_the_models_that_requests_name() {
    let alias = "models = { fast = \"gpt-5\" }\n";
    let limits = "{ requests = 2, per = \"day\", model = \"gpt-5*\" }";
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("usage.db");
    let builder = || proxy().upstream(&ok()).tables(alias).tables(&client(limits)).admin().ledger(&ledger);
    let first = builder().run();
    // The alias is another model, whatever the service gets.
    let statuses = ["gpt-5", "o3", "fast", "gpt-5-mini", "fast"].map(|model| ask(&first, model).status());
    assert_eq!(statuses, [200; 5]);
    let refused = ask(&first, "gpt-5");
    assert_eq!((refused.status(), &refused.error()["code"]), (429, &"insufficient_quota".into()));
    assert!(refused.text().contains("2 of 2 requests"), "{}", refused.text());
    assert_eq!(ask(&first, "o3").status(), 200);
    first.stop();
    let second = builder().run();
    assert_eq!(counted(&second, 0, 2.0), 2.0, "as the ledger has it");
    assert_eq!(ask(&second, "gpt-5").status(), 429);
}

#[test]
fn body_does_not_hide_the_deployment_of_an_azure_path() {
    let up = ok();
    let azure = format!(
        "[upstreams.azure]\nprovider = \"azure\"\nurl = \"http://{}\"\napi_key = {{ value = \"k\" }}\n",
        up.address
    );
    let limits = client("{ requests = 1, per = \"hour\", model = \"gpt-5*\" }");
    let proxy = proxy().tables(&azure).tables(&limits).run();
    let line = "POST /openai/deployments/gpt-5/chat/completions?api-version=2024-10-21";
    let hidden = send(&proxy, line, &body("x"));
    assert_eq!((hidden.status(), &hidden.error()["code"]), (400, &"model_ambiguous".into()));
    assert_eq!(
        [send(&proxy, line, &body("gpt-5")), send(&proxy, line, &body("gpt-5"))].map(|r| r.status()),
        [200, 429]
    );
}

#[test]
fn request_without_a_model_counts_for_the_default_one() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("usage.db");
    let limits = client("{ requests = 5, per = \"day\", model = \"default-*\" }");
    let builder = || proxy().upstream(&ok()).tables(&limits).admin().ledger(&ledger);
    let first = builder().run();
    assert_eq!(send(&first, "POST /v1/chat/completions", r#"{"messages":[]}"#).status(), 200);
    assert_eq!(send(&first, "GET /v1/responses/resp_1", "").status(), 200);
    first.record();
    first.record();
    assert_eq!(counted(&first, 0, 5.0), 1.0);
    first.stop();
    assert_eq!(counted(&builder().run(), 0, 5.0), 1.0);
}

#[test]
fn each_user_of_a_client_has_the_limit_for_itself() {
    let limits = "{ requests = 2, per = \"day\", each = \"user\" }, { tokens = 500, per = \"month\", each = \"user\" }";
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("usage.db");
    let builder = || proxy().upstream(&ok()).tables(&client(limits)).admin().ledger(&ledger);
    let of = |proxy: &Proxy, user: &str| {
        let body = body("m").replacen('{', &format!("{{{user}"), 1);
        send(proxy, "POST /v1/chat/completions", &body)
    };
    let statuses = |proxy: &Proxy, user| [(); 3].map(|()| of(proxy, user).status());
    let (alice, bob) = ("\"user\":\"alice\",", "\"user\":\"bob\",");
    let first = builder().run();
    assert_eq!([alice, ""].map(|user| statuses(&first, user)), [[200, 200, 429]; 2]);
    assert_eq!(of(&first, bob).status(), 200);
    let refused = of(&first, alice);
    assert_eq!(&refused.error()["code"], "insufficient_quota");
    let whose = "The user alice of client search has used or reserved 2 of 2 requests";
    assert!(refused.text().contains(whose), "{}", refused.text());
    assert!(of(&first, "").text().contains("The part without a user of client search has used"));
    (0..9).for_each(|_| drop(first.record()));
    let labels = "{whose=\"clients.search\",limit=\"limits[0]\"}";
    let shown = |proxy: &Proxy, name| proxy.metric(&format!("streamgauge_limit_{name}{labels}"));
    let names = ["used_ratio", "users", "exceeded_total"];
    assert_eq!(names.map(|name| shown(&first, name)), [1.0, 3.0, 4.0]);
    assert_eq!(counted(&first, 1, 500.0), 200.0, "the user that has used most");
    first.stop();
    // The ledger has what each has used.
    let second = builder().run();
    assert_eq!([shown(&second, "used_ratio"), shown(&second, "users")], [1.0, 3.0]);
    assert_eq!(counted(&second, 1, 500.0), 200.0);
    assert_eq!([alice, "", bob].map(|user| of(&second, user).status()), [429, 429, 200]);
    assert_eq!(of(&second, bob).status(), 429);
}

#[test]
fn responses_tell_what_is_left_of_the_tightest_limit() {
    let limits = "{ requests = 9, per = \"hour\" }, { requests = 5, per = \"hour\", model = \"m*\" }, \
                  { requests = 1, per = \"hour\", model = \"other\" }, { tokens = 5000, per = \"hour\" }, \
                  { concurrent = 3 }";
    let told = client(limits).replacen('\n', "\nlimit_headers = true\n", 1);
    let page = "origins = [\"https://app.example\"]";
    let proxy = proxy().server(page).upstream(&ok()).tables(&told).run();
    let left = |response: &Response, kind: &str| -> Option<u64> {
        Some(response.header(&format!("x-streamgauge-remaining-{kind}"))?.parse().unwrap())
    };
    let first = ask(&proxy, "m");
    assert_eq!((left(&first, "requests"), left(&first, "cost")), (Some(4), None));
    // 50 tokens of output and the input are held.
    let tokens = left(&first, "tokens").unwrap();
    assert!((4_900..4_950).contains(&tokens), "{tokens}");
    proxy.record();
    let second = proxy
        .client()
        .send(request("POST /v1/chat/completions", &body("m")).replacen(
            "\r\n",
            "\r\norigin: https://app.example\r\n",
            1,
        ))
        .response();
    assert_eq!(left(&second, "requests"), Some(3));
    // The input that is held follows what the service has reported.
    let more = tokens - left(&second, "tokens").unwrap();
    assert!((95..=105).contains(&more), "{more}");
    let exposed = second.header("access-control-expose-headers").unwrap();
    assert!(exposed.contains("x-streamgauge-remaining-requests"), "{exposed}");
    assert_eq!(left(&ask(&limited(limits), "m"), "requests"), None);
}

#[test]
fn request_for_more_output_than_the_client_may_ask_for_gets_400() {
    let table = client("").replacen('\n', "\nmax_output = 50\n", 1);
    let proxy = proxy().upstream(&ok()).tables(&table).run();
    assert_eq!(ask(&proxy, "m").status(), 200);
    for (path, field, key) in [
        ("chat/completions", "max_tokens", "messages"),
        ("chat/completions", "max_completion_tokens", "messages"),
        ("responses", "max_output_tokens", "input"),
        ("messages", "max_tokens", "messages"),
    ] {
        let send = |most: &str| {
            let body = format!(r#"{{"model":"m","{field}":{most},"{key}":[]}}"#);
            send(&proxy, &format!("POST /v1/{path}"), &body)
        };
        assert_eq!(send("50").status(), 200, "{path}");
        for most in ["51", "50.5", "1e9", "\"51\""] {
            let refused = send(most);
            assert_eq!(refused.status(), 400, "{path} {most}");
            let error = refused.error();
            assert_eq!(error["code"], "max_output_exceeded");
            assert!(path == "messages" || error["param"] == field, "{error}");
        }
    }
    let none = send(&proxy, "POST /v1/chat/completions", r#"{"model":"m","messages":[]}"#);
    assert_eq!(none.status(), 200, "it asks for no number");
    let unread = send(&proxy, "POST /v1/chat/completions", "{\"max_tokens\":");
    assert_eq!((unread.status(), &unread.error()["code"]), (403, &"model_unknown".into()));
}

#[test]
fn unread_model_is_refused_beside_limit_of_some_models() {
    let proxy = limited("{ requests = 5, per = \"hour\", model = \"gpt-5*\" }");
    let refused = send(&proxy, "POST /v1/chat/completions", "no JSON");
    assert_eq!((refused.status(), &refused.error()["code"]), (403, &"model_unknown".into()));
    let message = refused.error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("the client search has a limit that depends on it."), "{message}");
    // A form is read up to its model.
    let form = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\ngpt-5-audio\r\n--b--\r\n";
    let head = "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer";
    let form = format!(
        "{head} {KEY}\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    );
    assert_eq!(proxy.client().send(form).response().status(), 200);
    (0..2).for_each(|_| drop(proxy.record()));
    assert_eq!(counted(&proxy, 0, 5.0), 1.0);
}

#[test]
fn limit_of_an_upstream_counts_at_a_route_to_it() {
    let limits = "{ requests = 1, per = \"hour\", upstream = \"a\" }";
    let routes = "[[routes]]\nmodel = \"x\"\nupstream = \"a\"\n[[routes]]\nupstream = \"b\"\n";
    let builder = proxy().other("a", ok().address).other("b", ok().address).tables(&client(limits));
    let proxy = builder.tables(routes).run();
    let statuses = ["y", "x", "y", "x", "y"].map(|model| ask(&proxy, model).status());
    assert_eq!(statuses, [200, 200, 200, 429, 200]);
}

/// A proxy with a group of `a` before `b`.
pub(super) fn group(a: Upstream, b: Upstream, limits: &str, ledger: Option<&Path>) -> Proxy {
    let group = "[groups.chat]\ntiers = [[\"a\"], [\"b\"]]\n[[routes]]\nupstream = \"chat\"\n";
    let builder = proxy().other("a", a.address).other("b", b.address).tables(&client(limits));
    let builder = builder.tables(group).admin();
    match ledger {
        Some(path) => builder.ledger(path).run(),
        None => builder.run(),
    }
}

#[test]
fn member_whose_limit_has_no_room_is_skipped() {
    let limits = "{ requests = 1, per = \"hour\", upstream = \"a\" }, { requests = 2, per = \"day\", upstream = \"b\" }";
    let folder = tempfile::tempdir().unwrap();
    let proxy = group(ok(), ok(), limits, Some(&folder.path().join("usage.db")));
    let served = || {
        let response = ask(&proxy, "m");
        let upstream = response.header("x-streamgauge-upstream").map(str::to_owned);
        assert!(upstream.is_none() || response.header("x-streamgauge-attempts").is_none_or(|n| n == "1"));
        proxy.record();
        upstream
    };
    assert_eq!([served(), served(), served()], ["a", "b", "b"].map(|name| Some(name.to_owned())));
    let refused = ask(&proxy, "m");
    // The last member that was skipped.
    assert_eq!((refused.status(), &refused.error()["code"]), (429, &"insufficient_quota".into()));
    assert!(refused.text().contains("limits[1] in [clients.search]"), "{}", refused.text());
    proxy.record();
    assert_eq!([counted(&proxy, 0, 1.0).ceil(), counted(&proxy, 1, 2.0)], [1.0, 2.0]);
}

#[test]
fn attempt_that_is_thrown_away_counts_its_tokens_at_its_member() {
    let busy = Upstream::responding(sized("503 Busy", "application/json", BUSY));
    let of = |upstream: &str| {
        format!(
            "{{ tokens = 1000, per = \"day\", upstream = \"{upstream}\" }},\
             {{ requests = 1000, per = \"day\", upstream = \"{upstream}\" }},\
             {{ concurrent = 10, upstream = \"{upstream}\" }},"
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("usage.db");
    let limits = of("a") + &of("b") + "{ tokens = 1000, per = \"day\" }";
    let proxy = group(busy, ok(), &limits, Some(&ledger));
    let response = ask(&proxy, "m");
    assert_eq!((response.status(), response.header("x-streamgauge-upstream")), (200, Some("b")));
    proxy.record();
    let all = |proxy: &Proxy| [0, 1, 2, 3, 4, 5, 6].map(|number| counted(proxy, number, 1000.0));
    let expected = [26.0, 0.0, 0.0, 100.0, 1.0, 0.0, 126.0];
    assert_eq!(all(&proxy), expected);
    proxy.stop();
    let again = group(ok(), ok(), &limits, Some(&ledger));
    assert_eq!(all(&again), expected, "as the ledger has it");
}

#[test]
fn running_attempt_holds_at_its_member_only() {
    let running = || {
        upstream(|connection| {
            connection.request();
            connection.send(EVENTS_HEAD);
            connection.send(chunk(b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"));
            connection.wait_for_close();
        })
    };
    let limits = "{ concurrent = 1, upstream = \"a\" }, { concurrent = 1, upstream = \"b\" }";
    let proxy = group(running(), running(), limits, None);
    let stream = || {
        let mut client = proxy.client();
        client.send(request("POST /v1/chat/completions", &body("m").replacen('{', "{\"stream\":true,", 1)));
        let head = client.head();
        (client, head)
    };
    let (first, head) = stream();
    assert!(head.contains("x-streamgauge-upstream: a"), "{head}");
    assert_eq!([counted(&proxy, 0, 1.0), counted(&proxy, 1, 1.0)], [1.0, 0.0]);
    let (_second, head) = stream();
    assert!(head.contains("x-streamgauge-upstream: b"), "{head}");
    assert_eq!(ask(&proxy, "m").status(), 429);
    proxy.record();
    drop(first);
    proxy.record();
    assert_eq!([counted(&proxy, 0, 1.0), counted(&proxy, 1, 1.0)], [0.0, 1.0]);
    let (_third, head) = stream();
    assert!(head.contains("x-streamgauge-upstream: a"), "{head}");
}

#[test]
fn tokens_count_by_the_weights_of_their_kinds() {
    let count = "count = { input = 1, cached_input = 0.1, output = 4, reasoning = 5.5 }";
    let proxy = limited(&format!("{{ tokens = 1000, per = \"hour\", {count} }}"));
    assert_eq!(ask(&proxy, "m").status(), 200);
    proxy.record();
    // 40 + 2 + 120 + 55; the bucket fills by a quarter of a token a second.
    let used = counted(&proxy, 0, 1000.0);
    assert!((215.0..=217.0).contains(&used), "{used}");
    let refused = ask(&limited(&format!("{{ tokens = 1000, per = \"hour\", {count} }}")), "m");
    assert_eq!(refused.status(), 200);
}

/// An upstream whose response depends on the request's model.
pub(super) fn mixed() -> Upstream {
    upstream(|connection| {
        while let Some(request) = connection.request() {
            let has = |word: &str| request.body.windows(word.len()).any(|part| part == word.as_bytes());
            if has("gpt-5-silent") {
                connection.wait_for_close();
                return;
            }
            if has("gpt-5-stream") {
                connection.send(EVENTS_HEAD);
                connection.send(chunk(b"data: {\"choices\":[{\"delta\":{\"content\":\"some words\"}}]}\n\n"));
                if has("gpt-5-stream-cut") {
                    return;
                }
                connection.wait_for_close();
                return;
            }
            let (status, body) = if has("busy") { ("503 Busy", BUSY) } else { ("200 OK", COMPLETION) };
            connection.send(sized(status, "application/json", body));
        }
    })
}

/// Sends 80 requests of many ends, of which the first `most` are admitted. Returns the number of
/// those that were not refused.
pub(super) fn drive(proxy: &Proxy, most: i32) -> i32 {
    let mut admitted = 0;
    for round in 0..80 {
        let model =
            ["gpt-5", "o3", "gpt-5-busy", "gpt-5-stream", "gpt-5-stream-cut", "gpt-5-silent"][round % 6];
        let mut client = proxy.client();
        client.send(request("POST /v1/chat/completions", &body(model).replacen('{', "{\"stream\":true,", 1)));
        match model {
            "gpt-5-silent" | "gpt-5-stream" if admitted < most => {
                if model == "gpt-5-stream" {
                    client.head();
                } else {
                    let labels = "streamgauge_limit_used_ratio{whose=\"clients.search\",limit=\"limits[0]\"}";
                    let taken = (f64::from(admitted) + 1.0) / f64::from(most);
                    until(PATIENCE, "the hold", || (proxy.metric(labels) >= taken - 1e-9).then_some(()));
                }
                drop(client);
            }
            _ => {
                let head = client.head();
                client.body_and_end(&head);
            }
        }
        let record = proxy.record();
        admitted += i32::from(record["outcome"] != "rejected");
    }
    admitted
}

/// The sums of the ledger, with attempts.
pub(super) fn sums(ledger: &Path, prices: &Prices) -> Sums {
    let selection = Selection { attempts: true, ..Selection::since(Timestamp::UNIX_EPOCH) };
    let report = report(ledger, &selection, &[By::Outcome, By::Upstream], prices, &Bounds::default());
    let mut sum = Sums::default();
    for group in report.unwrap().groups {
        let is_refused = group.key[0].as_deref() == Some("rejected");
        sum.add(&Sums { requests: if is_refused { 0 } else { group.sums.requests }, ..group.sums });
    }
    sum
}

#[test]
fn counts_equal_ledger_through_drops_errors_and_refusals() {
    let count = "count = { input = 1, cached_input = 0.1, output = 4, reasoning = 5.5 }";
    let limits = format!(
        "{{ requests = 60, per = \"day\" }}, {{ tokens = 100000, per = \"day\" }},\
         {{ tokens = 100000, per = \"day\", {count} }},\
         {{ tokens = 100000, per = \"month\", model = \"gpt-5*\" }},\
         {{ tokens = 100000, per = \"week\", upstream = \"a\", {count} }},\
         {{ tokens = 100000, per = \"week\", upstream = \"b\" }},\
         {{ requests = 60, per = \"day\", upstream = \"b\" }}"
    );
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("usage.db");
    let proxy = group(mixed(), ok(), &limits, Some(&ledger));
    assert_eq!(drive(&proxy, 60), 60, "the rest was refused");
    let all = |proxy: &Proxy| {
        let most = [60.0, 1e5, 1e5, 1e5, 1e5, 1e5, 60.0];
        std::array::from_fn::<_, 7, _>(|number| counted(proxy, number, most[number]))
    };
    let counts = all(&proxy);
    proxy.stop();
    let sums = sums(&ledger, &Prices::default());
    let tokens = sums.input_tokens.unwrap() + sums.output_tokens.unwrap();
    assert_eq!((counts[0], counts[1]), (sums.requests as f64, tokens as f64));
    assert!(counts.iter().all(|count| *count > 0.0), "{counts:?}");
    // The same sums by another path: a new process adds up the ledger's rows.
    assert_eq!(all(&group(mixed(), ok(), &limits, Some(&ledger))), counts);
}
