//! `GET /v1/models` for several upstreams is the union of their lists, and `/v1/models/{id}` goes to
//! the upstream of that model.

use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::program::signal;
use crate::harness::proxy::Builder;
use crate::harness::{Proxy, Request, Response, Upstream, chunk, free_address, proxy, sized, upstream};

const JSON: &str = "application/json";

/// A list of these models, as OpenAI writes it.
fn list(ids: &[&str]) -> String {
    let model = |id: &&str| {
        format!("{{\"id\": \"{id}\", \"object\": \"model\", \"created\": 7, \"owned_by\": \"x\"}}")
    };
    let models: Vec<_> = ids.iter().map(model).collect();
    format!("{{\"object\": \"list\", \"data\": [{}]}}", models.join(", "))
}

/// An upstream that responds to all requests alike, and the requests.
fn listing(response: Vec<u8>) -> (Upstream, Receiver<Request>) {
    let (seen, requests) = mpsc::channel();
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            let _ = seen.send(request);
            connection.send(&response);
        }
    });
    (up, requests)
}

fn with(ids: &[&str]) -> (Upstream, Receiver<Request>) {
    listing(sized("200 OK", JSON, list(ids).as_bytes()))
}

/// An upstream that reads requests and is silent.
fn silent() -> Upstream {
    upstream(|connection| while connection.request().is_some() {})
}

fn get(proxy: &Proxy, path: &str) -> Response {
    get_with(proxy, path, "")
}

fn get_with(proxy: &Proxy, path: &str, headers: &str) -> Response {
    proxy.client().send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n")).response()
}

fn ids(response: &Response) -> Vec<String> {
    assert_eq!(response.status(), 200, "{}", response.text());
    assert_eq!(response.header("content-type"), Some(JSON));
    let list: Value = serde_json::from_str(response.text()).unwrap();
    list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
}

/// Two upstreams, `a` for models named `llama*`, `b` for all others.
fn routed(a: &Upstream, b: &Upstream, lines: &str) -> Builder {
    proxy().other("a", a.address).tables(lines).other("b", b.address).tables(
        "models = { \"fast\" = \"gpt-4o\", \"llama-x\" = \"gpt-4o\" }\n[[routes]]\nmodel = \"llama*\"\nupstream = \"a\"\n\
         [[routes]]\nupstream = \"b\"",
    )
}

#[test]
fn list_is_the_union_of_the_models_that_routes_reach() {
    let (a, asked_a) = with(&["llama-3", "mistral", "llama-x"]);
    let (b, asked_b) = with(&["gpt-4o", "llama-3", "gpt-4o-mini"]);
    let proxy = routed(&a, &b, "").run();
    let response =
        get_with(&proxy, "/v1/models?limit=1", "authorization: Bearer client\r\naccept-encoding: gzip\r\n");
    // `mistral` would go to b, and the alias `llama-x` of b to a.
    assert_eq!(ids(&response), ["llama-3", "llama-x", "gpt-4o", "gpt-4o-mini", "fast"]);
    let body: Value = serde_json::from_str(response.text()).unwrap();
    assert_eq!(body["object"], "list");
    assert!(
        response.text().contains(
            "{\"id\": \"gpt-4o-mini\", \"object\": \"model\", \"created\": 7, \"owned_by\": \"x\"}"
        ),
        "an entry keeps its bytes"
    );
    assert_eq!(body["data"][4], json!({"id": "fast", "object": "model", "created": 7, "owned_by": "x"}));
    for asked in [asked_a, asked_b] {
        let request = asked.recv().unwrap();
        assert_eq!(request.line(), "GET /v1/models HTTP/1.1");
        assert_eq!(request.header("authorization"), Some("Bearer sk-upstream"));
        assert_eq!(request.header("accept-encoding"), None);
    }

    let record = proxy.record();
    assert_eq!(
        (&record["status"], &record["outcome"], &record["endpoint"], &record["usage_source"]),
        (&200.into(), &"complete".into(), &"models".into(), &"none".into())
    );
    assert_eq!((&record["upstream"], &record["group"]), (&Value::Null, &Value::Null));
    assert_eq!(record["id"], response.header("x-streamgauge-id").unwrap());
    assert_eq!(record["response_bytes"], response.text().len());
    let attempts = record["attempts"].as_array().unwrap();
    let attempt =
        |attempt: &Value| (attempt["upstream"].clone(), attempt["status"].clone(), attempt["billed"].clone());
    assert_eq!(
        attempts.iter().map(attempt).collect::<Vec<_>>(),
        [("a".into(), 200.into(), "no".into()), ("b".into(), 200.into(), "no".into())]
    );
    assert!(proxy.stop().is_empty(), "one record");
}

#[test]
fn list_is_kept_for_a_moment() {
    let ((a, asked_a), (b, asked_b)) = (with(&["llama-3"]), with(&["gpt-4o"]));
    let proxy = routed(&a, &b, "").run();
    let first = get(&proxy, "/v1/models");
    assert!(proxy.record()["attempts"].is_array());
    let second = get(&proxy, "/v1/models?x");
    assert_eq!(first.text(), second.text());
    assert!(proxy.record()["attempts"].is_null(), "no upstream was asked");
    assert_eq!((asked_a.try_iter().count(), asked_b.try_iter().count()), (1, 1));
}

#[test]
fn long_lists_in_both_forms_are_kept_for_any_query() {
    // This has the length of a list of a service with 400 models.
    let long: Vec<_> = (0..400).map(|number| format!("gpt-{number:0>1700}")).collect();
    let long: Vec<_> = long.iter().map(String::as_str).collect();
    let ((a, asked_a), (b, asked_b)) = (with(&["llama-3"]), with(&long));
    let proxy = routed(&a, &b, "").run();
    for path in ["/v1/models", "/v1/models/", "/v1/models?limit=1", "/v1/models?after=x"] {
        for headers in ["", "anthropic-version: 2023-06-01\r\n"] {
            assert!(ids(&get_with(&proxy, path, headers)).len() > 400);
        }
    }
    assert_eq!((asked_a.try_iter().count(), asked_b.try_iter().count()), (2, 2));
}

#[test]
fn single_upstream_keeps_its_list_byte_for_byte() {
    let odd = b"{ \"data\" :[{\"id\":\"a\"}] }\n";
    let (up, requests) = listing(sized("200 OK", JSON, odd));
    let (other, _) = with(&["b"]);
    let only = proxy().upstream(&up).run();
    let by_path = proxy()
        .other("other", other.address)
        .upstream(&up)
        .tables("[[routes]]\npath = \"/other\"\nupstream = \"other\"\n[[routes]]\nupstream = \"up\"")
        .run();
    for proxy in [only, by_path] {
        let response = get_with(&proxy, "/v1/models?limit=2", "x-own: 1\r\n");
        assert_eq!(response.text().as_bytes(), odd);
        let request = requests.recv().unwrap();
        assert_eq!((request.line(), request.header("x-own")), ("GET /v1/models?limit=2 HTTP/1.1", Some("1")));
        let record = proxy.record();
        assert_eq!((&record["upstream"], &record["attempts"]), (&"up".into(), &Value::Null));
    }
}

#[test]
fn route_with_a_prefix_has_a_list_of_its_own() {
    let ((a, _), (b, _), (c, _)) = (with(&["x-1"]), with(&["y-1"]), with(&["z-1"]));
    let proxy = proxy()
        .other("a", a.address)
        .other("b", b.address)
        .other("c", c.address)
        .tables(
            "[[routes]]\npath = \"/team\"\nmodel = \"x*\"\nupstream = \"a\"\n[[routes]]\npath = \"/team\"\nupstream = \"b\"\n\
             [[routes]]\nmodel = \"z*\"\nupstream = \"c\"",
        )
        .run();
    assert_eq!(ids(&get(&proxy, "/team/v1/models")), ["x-1", "y-1"]);
    assert_eq!(ids(&get(&proxy, "/v1/models/")), ["z-1"]);
}

#[test]
fn members_models_and_exact_routes_are_names() {
    let ((a, _), (b, _)) = (with(&["gpt-4o", "gpt-4o-mini"]), with(&["claude-1", "claude-2"]));
    let tables = "[groups.any]\ntiers = [[\"a\"], [{ upstream = \"b\", model = \"claude-2\" }]]\n\
                  [[routes]]\nmodel = \"chat\"\nupstream = \"any\"\n[[routes]]\nmodel = \"claude*\"\nupstream = \"b\"\n\
                  [[routes]]\nupstream = \"any\"";
    let proxy = proxy().other("a", a.address).other("b", b.address).tables(tables).run();
    assert_eq!(ids(&get(&proxy, "/v1/models")), ["chat", "claude-1", "claude-2", "gpt-4o", "gpt-4o-mini"]);

    // A group alone: the model of a member is a name of its own, and its upstream's others are not.
    let tables = "[groups.any]\ntiers = [[\"a\"], [{ upstream = \"b\", model = \"claude-2\" }]]\n[[routes]]\nupstream = \"any\"";
    let proxy = crate::harness::proxy().other("a", a.address).other("b", b.address).tables(tables).run();
    assert_eq!(ids(&get(&proxy, "/v1/models")), ["gpt-4o", "gpt-4o-mini", "claude-2"]);
    assert_eq!(proxy.record()["group"], "any");
}

#[test]
fn upstream_that_is_dead_or_refuses_is_left_out() {
    let (good, _) = with(&["gpt-4o"]);
    let (refusing, _) = listing(sized("401 Unauthorized", JSON, b"{}"));
    let tables = "[groups.all]\ntiers = [[\"dead\", \"refusing\", \"good\"]]\n[[routes]]\nupstream = \"all\"";
    let proxy = proxy()
        .other("dead", free_address())
        .tables("models = { \"gone\" = \"gpt-4o\" }")
        .other("refusing", refusing.address)
        .other("good", good.address)
        .tables(tables)
        .run();
    assert_eq!(ids(&get(&proxy, "/v1/models")), ["gpt-4o"]);
    let record = proxy.record();
    assert_eq!((&record["outcome"], &record["group"]), (&"complete".into(), &"all".into()));
    let attempts = record["attempts"].as_array().unwrap();
    assert!(attempts[0]["error"].as_str().unwrap().starts_with("upstream_unreachable: "), "{record}");
    assert_eq!((&attempts[1]["status"], &attempts[2]["status"]), (&401.into(), &200.into()));
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn upstream_that_is_slow_is_left_out_after_three_seconds() {
    let ((good, _), slow) = (with(&["gpt-4o"]), silent());
    let trickling = upstream(|connection| {
        while connection.request().is_some() {
            connection.send(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{\"data\":[",
            );
        }
    });
    let tables =
        "[groups.all]\ntiers = [[\"slow\", \"trickling\", \"good\"]]\n[[routes]]\nupstream = \"all\"";
    let proxy = proxy()
        .other("slow", slow.address)
        .other("trickling", trickling.address)
        .other("good", good.address)
        .tables(tables)
        .run();
    for (least, most) in [(2.9, 4.5), (0.0, 1.0)] {
        let start = Instant::now();
        assert_eq!(ids(&get(&proxy, "/v1/models")), ["gpt-4o"]);
        let elapsed = start.elapsed().as_secs_f64();
        assert!((least..most).contains(&elapsed), "{elapsed}: the second one finds the failures");
    }
    let attempts = proxy.record()["attempts"].as_array().unwrap().clone();
    assert!(attempts[0]["error"].as_str().unwrap().starts_with("first_byte_timeout: "), "{attempts:?}");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn request_that_had_no_turn_keeps_no_failure() {
    let (seen, requests) = mpsc::channel();
    let (let_go, may_go) = mpsc::channel::<()>();
    let may_go = std::sync::Mutex::new(may_go);
    let slow = upstream(move |connection| {
        while connection.request().is_some() {
            seen.send(()).unwrap();
            let _ = may_go.lock().unwrap().recv();
            connection.send(sized("200 OK", JSON, list(&["gpt-4o"]).as_bytes()));
        }
    });
    let (a, _) = with(&["llama-3"]);
    let proxy = routed(&a, &slow, "").run();
    let ask = || {
        let mut client = proxy.client();
        client.send("GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n");
        client
    };
    let mut first = ask();
    requests.recv_timeout(Duration::from_secs(10)).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    // This one asks after the first has given up, with a second left.
    let mut second = ask();
    assert_eq!(ids(&first.response()), ["llama-3"]);
    requests.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(ids(&second.response()), ["llama-3"]);
    let_go.send(()).unwrap();
    let_go.send(()).unwrap();
    drop(let_go);
    assert_eq!(ids(&get(&proxy, "/v1/models")), ["llama-3", "gpt-4o", "fast"], "the upstream is asked again");
}

#[test]
fn without_any_list_the_error_names_each_upstream() {
    let (failing, _) = listing(sized("500 Internal Server Error", JSON, b"{}"));
    let tables = "[groups.all]\ntiers = [[\"dead\", \"failing\"]]\n[[routes]]\nupstream = \"all\"";
    let proxy = proxy().other("dead", free_address()).other("failing", failing.address).tables(tables).run();
    let response = get(&proxy, "/v1/models");
    assert_eq!(response.status(), 502);
    let error: Value = serde_json::from_str(response.text()).unwrap();
    assert_eq!(error["error"]["code"], "models_unavailable");
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.ends_with("Upstreams: dead: upstream_unreachable, failing: 500."), "{message}");
    assert_eq!(proxy.record()["outcome"], "upstream_error");
}

#[test]
fn upstream_without_a_list_has_its_configured_names() {
    let (none, _) = listing(sized("404 Not Found", JSON, b"{\"error\":{}}"));
    let (other, _) = listing(sized("200 OK", "text/html", b"<html>"));
    let proxy = proxy()
        .other("none", none.address)
        .tables("models = { \"small\" = \"m-1\" }")
        .other("other", other.address)
        .tables("[[routes]]\nmodel = \"other\"\nupstream = \"other\"\n[[routes]]\nupstream = \"none\"")
        .run();
    let response = get(&proxy, "/v1/models");
    assert_eq!(ids(&response), ["other", "small", "default-model"]);
    let list: Value = serde_json::from_str(response.text()).unwrap();
    assert_eq!(list["data"][1], json!({"id": "small", "object": "model", "created": 0, "owned_by": "none"}));
}

#[test]
fn anthropic_client_gets_its_form() {
    let claude = br#"{"data":[{"type":"model","id":"claude-1","display_name":"One","created_at":"2025-01-01T00:00:00Z"}],"has_more":false,"first_id":"claude-1","last_id":"claude-1"}"#;
    let ((a, asked), (b, _)) = (listing(sized("200 OK", JSON, claude)), with(&["gpt-4o"]));
    let tables = "[[routes]]\nmodel = \"claude*\"\nupstream = \"a\"\n[[routes]]\nupstream = \"b\"";
    let proxy = proxy().other("a", a.address).other("b", b.address).tables(tables).run();
    let list =
        |headers| -> Value { serde_json::from_str(get_with(&proxy, "/v1/models", headers).text()).unwrap() };
    let anthropic = list("anthropic-version: 2023-06-01\r\n");
    assert_eq!(anthropic["data"][0]["display_name"], "One");
    assert_eq!(
        anthropic["data"][1],
        json!({"type": "model", "id": "gpt-4o", "display_name": "gpt-4o", "created_at": "1970-01-01T00:00:07Z"})
    );
    assert_eq!((&anthropic["first_id"], &anthropic["last_id"]), (&"claude-1".into(), &"gpt-4o".into()));
    assert_eq!(asked.recv().unwrap().header("anthropic-version"), Some("2023-06-01"));
    let openai = list("");
    assert_eq!(
        openai["data"][0],
        json!({"id": "claude-1", "object": "model", "created": 1_735_689_600, "owned_by": "a"})
    );
    assert_eq!(asked.recv().unwrap().header("anthropic-version"), None);
}

#[test]
fn azure_lists_deployments_and_its_own_paths_ask_azure_alone() {
    let ((azure, asked), (other, asked_other)) = (with(&["gpt-4o-base", "dep-1"]), with(&["llama-3"]));
    let proxy = proxy()
        .tables(&format!(
            "[upstreams.azure]\nprovider = \"azure\"\nurl = \"http://{}\"\napi_version = \"2024-10-21\"\n\
             api_key = {{ value = \"az\" }}\ndeployments = {{ \"gpt-4o\" = \"dep-1\" }}",
            azure.address
        ))
        .other("other", other.address)
        .tables("[[routes]]\nmodel = \"gpt*\"\nupstream = \"azure\"\n[[routes]]\nupstream = \"other\"")
        .run();
    assert_eq!(ids(&get(&proxy, "/v1/models")), ["gpt-4o", "llama-3"]);
    let request = asked.recv().unwrap();
    assert_eq!(request.line(), "GET /openai/models?api-version=2024-10-21 HTTP/1.1");
    assert_eq!(request.header("api-key"), Some("az"));
    assert_eq!(asked_other.try_iter().count(), 1);
    assert_eq!(ids(&get(&proxy, "/openai/models?api-version=2024-06-01")), ["gpt-4o-base"]);
    assert_eq!(asked.recv().unwrap().line(), "GET /openai/models?api-version=2024-06-01 HTTP/1.1");
    let kept = get(&proxy, "/openai/models/?x=1&api-version=2024-06-01&y=2");
    assert_eq!((ids(&kept).len(), asked.try_iter().count()), (1, 0), "it is the same list");
    assert_eq!(asked_other.try_iter().count(), 0);
}

#[test]
fn list_needs_a_clients_key() {
    let ((a, asked), (b, _)) = (with(&["llama-3"]), with(&["gpt-4o"]));
    let proxy = routed(&a, &b, "").tables("[clients.ada]\nkey = { value = \"sk-a-key-of-sixteen\" }").run();
    assert_eq!(get(&proxy, "/v1/models").status(), 401);
    assert_eq!((asked.try_iter().count(), &proxy.record()["outcome"]), (0, &"rejected".into()));
    let response = get_with(&proxy, "/v1/models", "authorization: Bearer sk-a-key-of-sixteen\r\n");
    assert_eq!(ids(&response).len(), 3);
    assert_eq!(proxy.record()["client"], "ada");
}

#[test]
fn list_beyond_its_limit_counts_as_none() {
    let (big, _) = listing(sized("200 OK", JSON, list(&[&"x".repeat(3 << 20)]).as_bytes()));
    let (small, _) = with(&["llama-3"]);
    let proxy = routed(&small, &big, "").run();
    assert_eq!(ids(&get(&proxy, "/v1/models")), ["llama-3", "fast", "default-model"]);
}

#[test]
fn lists_take_their_memory_from_the_budget_of_bodies() {
    let (a, _) = with(&["llama-3"]);
    let (b, _) = listing(sized("200 OK", JSON, list(&[&"x".repeat(1 << 20)]).as_bytes()));
    let proxy =
        routed(&a, &b, "").server("max_request_bytes = \"64KiB\"\nmax_buffered_bytes = \"256KiB\"").run();
    let response = get(&proxy, "/v1/models");
    assert_eq!(response.status(), 503, "{}", response.text());
    assert_eq!(proxy.record()["outcome"], "rejected");
}

#[test]
fn list_takes_memory_while_it_arrives_and_for_its_entries() {
    // Chunks of a list that does not end.
    let endless = upstream(|connection| {
        if connection.request().is_some() {
            connection.send(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
            );
            connection.send(chunk(b"{\"data\":["));
            for _ in 0..16 {
                connection.send(chunk(list(&[&"x".repeat(64 << 10)]).as_bytes()));
                connection.send(chunk(b","));
            }
            connection.wait_for_close();
        }
    });
    let many: Vec<_> = (0..8000).map(|number| number.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let entries: Vec<_> = many.iter().map(|id| format!("{{\"id\":\"{id}\"}}")).collect();
    let body = format!("[{}]", entries.join(","));
    assert!(body.len() < 200 << 10);
    let (small_entries, _) = listing(sized("200 OK", JSON, body.as_bytes()));
    for up in [&endless, &small_entries] {
        let (a, _) = with(&["llama-3"]);
        let proxy =
            routed(&a, up, "").server("max_request_bytes = \"64KiB\"\nmax_buffered_bytes = \"256KiB\"").run();
        let response = get(&proxy, "/v1/models");
        assert_eq!(response.error()["code"], "overloaded", "{}", response.text());
        assert_eq!(proxy.record()["status"], 503);
    }
}

#[test]
fn client_that_leaves_has_a_record_and_frees_the_upstreams() {
    let (closed, closing) = mpsc::channel();
    let (began, beginning) = mpsc::channel();
    let a = upstream(move |connection| {
        if connection.request().is_some() {
            began.send(()).unwrap();
            connection.wait_for_close();
            let _ = closed.send(());
        }
    });
    let (b, _) = with(&["gpt-4o"]);
    let proxy = routed(&a, &b, "").run();
    let mut client = proxy.client();
    client.send("GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n");
    beginning.recv_timeout(Duration::from_secs(10)).unwrap();
    drop(client);
    closing.recv_timeout(Duration::from_secs(2)).expect("sooner than the limit of lists");
    assert_eq!(proxy.record()["outcome"], "client_disconnected");
}

#[test]
fn one_model_is_asked_for_where_it_is_routed() {
    let ((a, asked_a), (b, asked_b)) = (with(&["llama-3"]), with(&["gpt-4o"]));
    let proxy = routed(&a, &b, "").run();
    for (method, path, asked, line) in [
        ("GET", "/v1/models/llama-3", &asked_a, "/v1/models/llama-3"),
        ("GET", "/v1/models/llama%2D3/?x=%20", &asked_a, "/v1/models/llama%2D3/?x=%20"),
        ("DELETE", "/v1/models/llama:ft:1", &asked_a, "/v1/models/llama:ft:1"),
        ("GET", "/v1/models/gpt-4o", &asked_b, "/v1/models/gpt-4o"),
        ("GET", "/v1/models/fast", &asked_b, "/v1/models/gpt-4o"),
    ] {
        let response =
            proxy.client().send(format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).response();
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(asked.recv().unwrap().line(), format!("{method} {line} HTTP/1.1"));
        let record = proxy.record();
        let model = path.split(['/', '?']).nth(3).unwrap().replace("%2D", "-");
        assert_eq!(
            (&record["endpoint"], &record["model_requested"]),
            (&"models".into(), &model.into()),
            "{path}"
        );
    }
    assert_eq!((asked_a.try_iter().count(), asked_b.try_iter().count()), (0, 0));
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn program_lists_the_models_of_simulators_while_one_is_stopped() {
    use crate::group_processes::{Simulator, program};
    let addresses = [free_address(), free_address()];
    let program = program(&addresses, "");
    let simulators = addresses.map(|address| Simulator::start(&program, address));
    let serving = program.serve();
    let list = || {
        let mut client = crate::harness::Client::connect(serving.address);
        ids(&client.send("GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n").response())
    };
    let all = ["sim", "gpt-4.1", "gpt-4.1-mini", "text-embedding-3-small"];
    assert_eq!(list(), all);
    let [stopped, _running] = &simulators;
    signal(&stopped.0, "-STOP");
    let start = Instant::now();
    // The lists of the first request are fresh for five seconds, and then one of them is missing.
    while start.elapsed() < Duration::from_secs(6) {
        assert_eq!(list(), all);
    }
    signal(&stopped.0, "-CONT");
}

#[test]
fn list_that_waited_for_a_limit_says_how_long() {
    let (a, _asked) = with(&["llama-3"]);
    let (b, _asked) = with(&["gpt-4o"]);
    let limit = "{ requests = 20, per = \"minute\", burst = 1, at_limit = \"wait\" }";
    let client = format!("[clients.ada]\nkey = {{ value = \"sk-a-key-of-sixteen\" }}\nlimits = [{limit}]");
    let proxy = routed(&a, &b, "").tables(&client).run();
    let list = || get_with(&proxy, "/v1/models", "authorization: Bearer sk-a-key-of-sixteen\r\n");
    assert_eq!(list().header("x-streamgauge-waited-ms"), None);
    let second = list();
    assert_eq!(ids(&second), ["llama-3", "gpt-4o", "fast"]);
    let waited: f64 = second.header("x-streamgauge-waited-ms").unwrap().parse().unwrap();
    proxy.record();
    let recorded = proxy.record()["time_waiting_ms"].as_f64().unwrap();
    assert!((recorded - waited).abs() <= 0.5, "{recorded} {waited}");
}
