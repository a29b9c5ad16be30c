//! Usage requested for the client: the record has it, and the client gets the stream that it would
//! have got.

use std::sync::mpsc::{self, Receiver};

use serde_json::{Value, json};

use crate::harness::{
    CHAT_BODY, CHAT_REQUEST, CHAT_STREAM, Connection, EVENTS_HEAD, Http2, LAST_CHUNK, Request, Upstream,
    chunk, proxy, sized, upstream, write,
};

pub(crate) const PATH: &str = "/v1/chat/completions";
const ASKS: &str = "\"stream_options\":{\"include_usage\":true}";
/// A request without `include_usage`.
pub(crate) const UNASKED: &str = "{\"model\":\"m\",\"messages\":[],\"stream\":true}";
const REFUSAL: &str = "{\"object\":\"error\",\"message\":{\"detail\":[{\"type\":\"extra_forbidden\",\"loc\":[\"body\",\"stream_options\"],\"msg\":\"Extra inputs are not permitted\"}]}}";

/// [`CHAT_STREAM`] without the usage event.
pub(crate) fn stripped() -> String {
    let events =
        CHAT_STREAM.split_inclusive("\n\n").filter(|event| !event.contains("\"choices\":[],\"usage\":{"));
    events.collect()
}

pub(crate) fn events(stream: &str) -> Vec<u8> {
    [EVENTS_HEAD.as_bytes(), &chunk(stream.as_bytes()), LAST_CHUNK.as_bytes()].concat()
}

/// An upstream that passes its requests to the test, and responds as the test says.
pub(crate) fn telling(
    response: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static,
) -> (Upstream, Receiver<Request>) {
    let (tell, told) = mpsc::channel();
    let up = upstream(move |connection: &mut Connection| {
        while let Some(request) = connection.request() {
            let response = response(&request);
            tell.send(request).unwrap();
            connection.send(response);
        }
    });
    (up, told)
}

/// An upstream that sends usage on request, as OpenAI does.
fn honouring() -> (Upstream, Receiver<Request>) {
    telling(|request| if asks(request) { events(CHAT_STREAM) } else { events(&stripped()) })
}

/// An upstream that refuses `include_usage`.
fn refusing(status: &'static str, body: &'static str) -> (Upstream, Receiver<Request>) {
    telling(move |request| {
        if asks(request) { sized(status, "application/json", body.as_bytes()) } else { events(&stripped()) }
    })
}

pub(crate) fn asks(request: &Request) -> bool {
    text(request).contains("\"include_usage\":true")
}

fn text(request: &Request) -> &str {
    std::str::from_utf8(&request.body).unwrap()
}

#[test]
fn client_that_did_not_ask_sees_no_usage_and_record_has_it() {
    let (up, told) = honouring();
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    for path in [PATH, "/v1/completions"] {
        let response = client.post(path, UNASKED).response();
        assert_eq!(response.text(), stripped());
        let request = told.recv().unwrap();
        assert_eq!(text(&request), format!("{{{ASKS},{}", &UNASKED[1..]));
        assert_eq!(request.header("content-length"), Some(&*request.body.len().to_string()));
        let record = proxy.record();
        assert_eq!(record["usage_source"], "reported");
        assert_eq!((&record["input_tokens"], &record["output_tokens"]), (&json!(9), &json!(2)));
        assert_eq!(record["outcome"], "complete");
        assert_eq!(record["request_bytes"], UNASKED.len(), "what the client sent");
        assert_eq!(record["response_bytes"], CHAT_STREAM.len(), "what the upstream sent");
        assert_eq!(record["events"], 5, "what the upstream sent");
    }
}

#[test]
fn an_http2_upstream_is_asked_and_asked_once_more_without_too() {
    for honours in [true, false] {
        let (tell, told) = mpsc::channel();
        let up = Http2::default().run(move |mut exchange| {
            let tell = tell.clone();
            async move {
                let asks = String::from_utf8(exchange.body().await).unwrap().contains(ASKS);
                tell.send(asks).unwrap();
                match (asks, honours) {
                    (true, true) => exchange.respond("text/event-stream", CHAT_STREAM.as_bytes()).await,
                    (true, false) => {
                        let head = [("content-type", "application/json")];
                        let mut stream = exchange.head(422, &head, false);
                        write(&mut stream, REFUSAL).await;
                        stream.send_data(bytes::Bytes::new(), true).unwrap();
                    }
                    (false, _) => exchange.respond("text/event-stream", stripped().as_bytes()).await,
                }
            }
        });
        let proxy = proxy().http2(up.address).run();
        assert_eq!(proxy.client().post(PATH, UNASKED).response().text(), stripped());
        let asked: Vec<bool> = (0..if honours { 1 } else { 2 }).map(|_| told.recv().unwrap()).collect();
        assert_eq!(asked, if honours { vec![true] } else { vec![true, false] });
        let record = proxy.record();
        assert_eq!(record["usage_source"], if honours { "reported" } else { "estimated" }, "{record}");
        assert_eq!((&record["outcome"], &record["status"]), (&json!("complete"), &json!(200)));
        assert_eq!(up.accepted(), 1, "on the same connection");
    }
}

#[test]
fn a_client_that_asks_gets_what_it_asked_for() {
    let (up, told) = honouring();
    let proxy = proxy().upstream(&up).run();
    assert_eq!(proxy.client().post(PATH, CHAT_REQUEST).response().text(), CHAT_STREAM);
    assert_eq!(text(&told.recv().unwrap()), CHAT_REQUEST);
    assert_eq!(proxy.record()["usage_source"], "reported");
}

#[test]
fn the_other_options_stay() {
    let (up, told) = honouring();
    let proxy = proxy().upstream(&up).run();
    let body = |options: &str| format!("{{\"stream\":true,\"model\":\"m\",\"stream_options\":{options}}}");
    for (options, edited) in [
        ("{\"include_obfuscation\":false}", "{\"include_usage\":true,\"include_obfuscation\":false}"),
        ("{\"include_usage\": false}", "{\"include_usage\": true}"),
        ("null", "{\"include_usage\":true}"),
    ] {
        let response = proxy.client().post(PATH, &body(options)).response();
        assert_eq!(response.text(), stripped());
        assert_eq!(text(&told.recv().unwrap()), body(edited));
    }
}

#[test]
fn nothing_is_asked_where_it_is_not_asked_for_or_not_clear() {
    let (up, told) = honouring();
    let proxy = proxy().upstream(&up).run();
    for (path, body) in [
        (PATH, "{\"model\":\"m\",\"messages\":[]}"),
        (PATH, "{\"model\":\"m\",\"stream\":false}"),
        (PATH, "{\"model\":\"m\",\"stream\":true,\"stream_options\":7}"),
        (PATH, "{\"model\":\"m\",\"stream\":true,\"stream\":true}"),
        (PATH, "{\"model\":\"m\",\"stream\":true,\"data_sources\":[]}"),
        ("/v1/responses", "{\"model\":\"m\",\"stream\":true}"),
        ("/v1/embeddings", "{\"model\":\"m\",\"stream\":true}"),
        ("/v1/messages", "{\"model\":\"m\",\"stream\":true}"),
        ("/v1/images/generations", "{\"model\":\"m\",\"stream\":true}"),
    ] {
        proxy.client().post(path, body).response();
        assert_eq!(text(&told.recv().unwrap()), body, "{path}");
    }
}

#[test]
fn never_does_not_ask_and_always_asks_in_spite_of_what_is_known() {
    let (up, told) = honouring();
    let never = proxy().upstream(&up).tables("include_usage = \"never\"").run();
    assert_eq!(never.client().post(PATH, UNASKED).response().text(), stripped());
    assert_eq!(text(&told.recv().unwrap()), UNASKED);
    assert_eq!(never.record()["usage_source"], "estimated");

    let always = proxy().upstream(&up).tables("include_usage = \"always\"").run();
    let body = "{\"model\":\"m\",\"stream\":true,\"data_sources\":[]}";
    assert_eq!(always.client().post(PATH, body).response().text(), stripped());
    assert!(asks(&told.recv().unwrap()));
}

#[test]
fn azure_is_asked_in_all_of_its_forms_but_in_old_versions() {
    let (up, told) = honouring();
    let azure = |version: &str| {
        format!(
            "[upstreams.azure]\nurl = \"http://{}\"\napi_key = {{ value = \"k\" }}\napi_version = \"{version}\"",
            up.address
        )
    };
    for (version, path, asked) in [
        ("v1", PATH, true),
        ("2024-10-21", PATH, true),
        ("2024-02-01", PATH, false),
        ("v1", "/openai/v1/chat/completions", true),
        ("v1", "/openai/deployments/d/chat/completions?api-version=2024-10-21", true),
        ("v1", "/openai/deployments/d/completions?api-version=2025-01-01-preview", true),
        ("v1", "/openai/deployments/d/chat/completions?api-version=2024-02-01", false),
    ] {
        let proxy = proxy().tables(&azure(version)).run();
        assert_eq!(proxy.client().post(path, UNASKED).response().text(), stripped());
        assert_eq!(asks(&told.recv().unwrap()), asked, "{version} {path}");
        assert_eq!(proxy.record()["usage_source"], if asked { "reported" } else { "estimated" });
    }
}

#[test]
fn upstream_that_refuses_is_asked_daily_unseen_by_the_client() {
    for (status, refusal) in [
        ("422 Unprocessable Entity", REFUSAL),
        ("500 Internal Server Error", REFUSAL),
        ("501 Not Implemented", "stream_options is not supported"),
        ("404 Not Found", "{\"detail\":\"include_usage\"}"),
        (
            "400 Bad Request",
            "{\"error\":{\"message\":\"Unrecognized request argument supplied: stream_options\"}}",
        ),
        ("400 Bad Request", "{\"error\":{\"code\":\"400\",\"message\":\"Param Incorrect\"}}"),
    ] {
        let (up, told) = refusing(status, refusal);
        let proxy = proxy().upstream(&up).run();
        let mut client = proxy.client();
        for (number, (model, requests)) in [("m", 2), ("m", 1), ("n", 2), ("n", 1)].into_iter().enumerate() {
            let body = UNASKED.replace("\"m\"", &format!("\"{model}\""));
            let response = client.post(PATH, &body).response();
            assert_eq!((response.status(), response.text()), (200, &*stripped()));
            for request in 0..requests {
                let asked = requests - request == 2;
                assert_eq!(asks(&told.recv().unwrap()), asked, "request {request} of exchange {number}");
            }
            let record = proxy.record();
            assert_eq!((&record["status"], &record["outcome"]), (&json!(200), &json!("complete")));
            assert_eq!(record["usage_source"], "estimated");
        }
        assert_eq!(up.accepted(), 1, "the connection was used again");
        assert!(proxy.stop().is_empty(), "one record for each of the client's requests");
    }
}

#[test]
fn any_other_refusal_passes_untouched() {
    let long = "x".repeat(70_000) + "stream_options";
    let framed = |body: &str| {
        format!(
            "HTTP/1.1 400 Bad Request\r\nx-b: 1\r\nX-A: 2\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\ntrailer: x-t\r\n\r\n{}0\r\nx-t: 1\r\n\r\n",
            String::from_utf8(chunk(body.as_bytes())).unwrap()
        )
    };
    let closed = |body: &str| {
        format!("HTTP/1.1 422 Unprocessable Entity\r\nx-b: 1\r\nconnection: close\r\n\r\n{body}")
    };
    let whole =
        |status: &str, body: &str| String::from_utf8(sized(status, "text/plain", body.as_bytes())).unwrap();
    for (wire, status, body) in [
        (
            whole("400 Bad Request", "{\"error\":{\"param\":\"messages\"}}"),
            400,
            "{\"error\":{\"param\":\"messages\"}}",
        ),
        (framed("no"), 400, "no"),
        (closed("no"), 422, "no"),
        (whole("400 Bad Request", ""), 400, ""),
        (whole("400 Bad Request", &long), 400, &*long),
        (whole("404 Not Found", "no such model"), 404, "no such model"),
        (whole("500 Internal Server Error", &long), 500, &*long),
    ] {
        let direct = wire.clone();
        let up = upstream(move |connection| {
            if connection.request().is_some() {
                connection.send(&wire);
            }
        });
        let asking = proxy().upstream(&up).run();
        let response = asking.client().post(PATH, UNASKED).response();
        assert_eq!((response.status(), response.text()), (status, body));
        assert_eq!(up.accepted(), 1, "it was sent once");
        let outcome = if status >= 500 { "upstream_error" } else { "invalid_request" };
        assert_eq!(asking.record()["outcome"], outcome);

        let never = proxy().upstream(&up).tables("include_usage = \"never\"").run();
        let plain = never.client().post(PATH, UNASKED).response();
        let headers = |head: &str| {
            let lines =
                head.lines().filter(|line| !line.starts_with("date:") && !line.starts_with("x-streamgauge"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(headers(&response.head), headers(&plain.head), "of {direct:.60}");
    }
}

#[test]
fn a_refusal_that_breaks_off_passes_as_it_came() {
    let up = upstream(|connection| {
        connection.request();
        connection.send("HTTP/1.1 400 Bad Request\r\ncontent-length: 100\r\n\r\n{\"error\":\"stream_options");
    });
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    client.post(PATH, UNASKED);
    assert!(client.head().starts_with("HTTP/1.1 400 "));
    assert_eq!(client.rest(), b"{\"error\":\"stream_options");
    assert_eq!(proxy.record()["outcome"], "truncated");
}

#[test]
fn refusal_of_other_fields_too_passes_and_is_not_remembered() {
    // A validator that repeats the request in its message.
    let (up, told) = telling(|request| sized("422 Unprocessable Entity", "application/json", &request.body));
    let proxy = proxy().upstream(&up).run();
    for _ in 0..2 {
        let response = proxy.client().post(PATH, UNASKED).response();
        assert_eq!(
            (response.status(), response.text()),
            (422, UNASKED),
            "the response to the client's own request"
        );
        assert!(asks(&told.recv().unwrap()) && !asks(&told.recv().unwrap()));
        assert_eq!(proxy.record()["status"], 422);
    }
}

/// Services that send the head of a stream before they read the request, or send every error with
/// 200.
#[test]
fn refusal_in_a_stream_before_content_costs_one_more_request() {
    let json = |content_type: &'static str| move || sized("200 OK", content_type, REFUSAL.as_bytes());
    let event = || {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let event = format!(": ping\n\nevent: error\ndata: {REFUSAL}\n\n");
        let chunks: Vec<u8> = event.as_bytes().chunks(7).flat_map(chunk).collect();
        [head.as_bytes(), &chunks, LAST_CHUNK.as_bytes()].concat()
    };
    let refusals: [&(dyn Fn() -> Vec<u8> + Send + Sync); 3] =
        [&event, &json("text/event-stream"), &json("application/json")];
    for refusal in refusals.map(|refusal| refusal()) {
        let (up, told) =
            telling(move |request| if asks(request) { refusal.clone() } else { events(&stripped()) });
        let proxy = proxy().upstream(&up).run();
        for requests in [2, 1] {
            let response = proxy.client().post(PATH, UNASKED).response();
            assert_eq!((response.status(), response.text()), (200, &*stripped()));
            assert_eq!(
                told.try_iter().map(|request| asks(&request)).collect::<Vec<_>>(),
                [true, false][2 - requests..]
            );
            let record = proxy.record();
            assert_eq!(
                (&record["outcome"], &record["usage_source"]),
                (&json!("complete"), &json!("estimated"))
            );
            assert_eq!(record["error"], Value::Null, "{record}");
        }
    }
}

#[test]
fn another_error_in_a_stream_passes_and_is_not_asked_again() {
    let event = "data: {\"error\":{\"message\":\"overloaded\",\"code\":503}}\n\n";
    let (up, told) = telling(move |_| events(event));
    let proxy = proxy().upstream(&up).run();
    for _ in 0..2 {
        assert_eq!(proxy.client().post(PATH, UNASKED).response().text(), event);
        assert_eq!(told.try_iter().map(|request| asks(&request)).collect::<Vec<_>>(), [true]);
        let record = proxy.record();
        assert_eq!((&record["outcome"], &record["usage_source"]), (&json!("upstream_error"), &json!("none")));
    }
}

#[test]
fn always_leaves_the_refusal_to_the_client() {
    let (up, told) = refusing("422 Unprocessable Entity", REFUSAL);
    let proxy = proxy().upstream(&up).tables("include_usage = \"always\"").run();
    for _ in 0..2 {
        let response = proxy.client().post(PATH, UNASKED).response();
        assert_eq!((response.status(), response.text()), (422, REFUSAL));
        assert!(asks(&told.recv().unwrap()));
    }
    assert!(told.try_recv().is_err(), "nothing was sent twice");
}

#[test]
fn second_request_ends_with_the_clients_deadline_and_client() {
    let (tell, told) = mpsc::channel();
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            if asks(&request) {
                connection.send(sized("422 Unprocessable Entity", "application/json", REFUSAL.as_bytes()));
            } else {
                tell.send("sent").unwrap();
                connection.wait_for_close();
                tell.send("closed").unwrap();
                return;
            }
        }
    });
    let timed = proxy().upstream(&up).tables("[upstreams.up.timeouts]\ntotal = \"300ms\"").run();
    let response = timed.client().post(PATH, UNASKED).response();
    assert_eq!((response.status(), &response.error()["code"]), (504, &json!("total_timeout")));
    assert_eq!([told.recv().unwrap(), told.recv().unwrap()], ["sent", "closed"]);
    assert_eq!(timed.record()["outcome"], "timed_out");

    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    client.post(PATH, UNASKED);
    assert_eq!(told.recv().unwrap(), "sent");
    drop(client);
    assert_eq!(told.recv().unwrap(), "closed");
    assert_eq!(proxy.record()["outcome"], "client_disconnected");
}

#[test]
fn a_stream_that_began_with_comments_of_ours_is_retried_too() {
    let (up, _told) = refusing("422 Unprocessable Entity", REFUSAL);
    let proxy = proxy().upstream(&up).tables("keep_alive_comments = \"5ms\"").run();
    let response = proxy.client().post(PATH, UNASKED).response();
    assert_eq!(response.text().replace(": keep-alive\n\n", ""), stripped());
}

#[test]
fn a_declared_length_is_not_kept_where_an_event_may_be_withheld() {
    let (up, _told) = telling(|request| {
        let stream = if asks(request) { CHAT_STREAM.to_owned() } else { stripped() };
        sized("200 OK", "text/event-stream", stream.as_bytes())
    });
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    let response = client.post(PATH, UNASKED).response();
    assert_eq!((response.header("content-length"), response.text()), (None, &*stripped()));
    let response = client.post(PATH, CHAT_REQUEST).response();
    let length = CHAT_STREAM.len().to_string();
    assert_eq!((response.header("content-length"), response.text()), (Some(&*length), CHAT_STREAM));
    let not_a_stream = upstream(|connection| {
        connection.request();
        connection.send(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
    });
    let proxy = self::proxy().upstream(&not_a_stream).run();
    let response = proxy.client().post(PATH, UNASKED).response();
    assert!(response.header("content-length").is_some());
    assert_eq!(response.text(), CHAT_BODY);
    assert_eq!(proxy.record()["usage_source"], "reported");
}

/// The response to a request with added `include_usage`, sent in these pieces, each only after the
/// client has the last one.
fn in_pieces(pieces: &'static [(&'static str, &'static str)], end: &'static str) -> (String, Value) {
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let up = upstream(move |connection| {
        connection.request();
        connection.send(EVENTS_HEAD);
        for (piece, _) in pieces {
            connection.send(chunk(piece.as_bytes()));
            wait.lock().unwrap().recv().unwrap();
        }
        connection.send(end);
    });
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    let head = client.post(PATH, UNASKED).head();
    for (_, expected) in pieces {
        let got = client.chunks(expected.len());
        assert_eq!(String::from_utf8_lossy(&got), *expected);
        go_on.send(()).unwrap();
    }
    let (rest, _) = client.body_and_end(&head);
    (String::from_utf8(rest).unwrap(), proxy.record())
}

#[test]
fn only_the_bytes_of_an_event_that_may_be_the_one_wait() {
    let (rest, record) = in_pieces(
        &[
            (
                "data: {\"choices\":[{}]}\n\n: ping\ndata: {\"id\":\"c\",",
                "data: {\"choices\":[{}]}\n\n: ping\n",
            ),
            (
                "\"choices\":[{\"delta\":{\"content\":\"H",
                "data: {\"id\":\"c\",\"choices\":[{\"delta\":{\"content\":\"H",
            ),
            ("i\"}}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":7", "i\"}}]}\n\n"),
            ("}}\n\ndata: [D", "data: [D"),
            ("ONE]\n\n", "ONE]\n\n"),
        ],
        LAST_CHUNK,
    );
    assert_eq!(rest, "");
    assert_eq!((&record["input_tokens"], &record["usage_source"]), (&json!(7), &json!("reported")));
}

#[test]
fn an_end_inside_an_event_that_waits_lets_it_pass() {
    const BEGUN: &[(&str, &str)] = &[(
        "data: {\"choices\":[{}]}\n\ndata: {\"choices\":[],\"usage\":{\"prom",
        "data: {\"choices\":[{}]}\n\n",
    )];
    let (rest, record) = in_pieces(BEGUN, LAST_CHUNK);
    assert_eq!(rest, "data: {\"choices\":[],\"usage\":{\"prom");
    assert_eq!(record["outcome"], "complete");

    // An invalid chunk.
    let (rest, record) = in_pieces(BEGUN, "zz\r\n");
    let (event, error) = rest.split_once("\n\n").unwrap();
    assert_eq!(event, "data: {\"choices\":[],\"usage\":{\"prom");
    assert!(error.contains("\"error\""), "{error}");
    assert_eq!(record["outcome"], "upstream_error");

    // Trailers pass after the held bytes.
    let (rest, _) = in_pieces(BEGUN, "0\r\nx-t: 1\r\n\r\n");
    assert_eq!(rest, "data: {\"choices\":[],\"usage\":{\"prom");
}

#[test]
fn usage_that_rides_with_something_else_passes() {
    for event in [
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":9}}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9},\"x_groq\":{\"id\":\"r\"}}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9},\"error\":{\"message\":\"no\"}}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9},\"moderation\":{}}\n\n",
    ] {
        let up = Upstream::responding(events(event));
        let proxy = proxy().upstream(&up).run();
        assert_eq!(proxy.client().post(PATH, UNASKED).response().text(), event);
        assert_eq!(proxy.record()["input_tokens"], 9);
    }
}

/// A recorded stream, and the same without the event that `include_usage` adds.
pub(crate) struct Pair {
    pub(crate) file: String,
    pub(crate) asked: Vec<u8>,
    pub(crate) unasked: Vec<u8>,
    /// The range of the first such event, if there is one.
    pub(crate) event: Option<std::ops::Range<usize>>,
    pub(crate) tokens: Value,
}

/// Recordings of chats, those with the event first. Without the corpus, which CI has, there is
/// nothing to test.
pub(crate) fn recorded() -> Vec<Pair> {
    let root = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus"));
    let Ok(index) = std::fs::read_to_string(root.join("index.jsonl")) else {
        assert!(std::env::var_os("CI").is_none(), "the corpus is missing: {}", root.display());
        eprintln!("not tested, the corpus is missing: {}", root.display());
        return Vec::new();
    };
    let cases = index.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    // llama.cpp's server moves members with `include_usage`, and is asked once (`timings`).
    let chats = cases.filter(|case| {
        let is_chat = case["family"] == "openai-chat" && case["stream"] == true && case["note"].is_null();
        is_chat && case["provider"] != "llama.cpp"
    });
    let pair = |case: Value| {
        let file = case["file"].as_str().unwrap().to_owned();
        let asked = std::fs::read(root.join(&file)).unwrap();
        let text = std::str::from_utf8(&asked).ok()?;
        let known = |event: &&str| {
            let json = event.strip_prefix("data:").unwrap_or_default();
            let chunk: Value = serde_json::from_str(json).unwrap_or_default();
            let is_alone = ["moderation", "x_groq"].iter().all(|other| chunk[other].is_null());
            if !chunk["usage"].is_object() || !is_alone {
                return false;
            }
            let before = &text[..event.as_ptr() as usize - text.as_ptr() as usize];
            let choice = &chunk["choices"][0];
            // OpenRouter's has an empty text, after the end of the response.
            chunk["choices"] == json!([])
                || (choice["finish_reason"].is_null()
                    && choice["delta"]["content"] == ""
                    && before.contains("\"finish_reason\":\""))
        };
        let unasked =
            text.split_inclusive("\n\n").filter(|event| !known(event)).collect::<String>().into_bytes();
        let event = text.split_inclusive("\n\n").find(known);
        let event = event.map(|event| (event.as_ptr() as usize - text.as_ptr() as usize, event));
        let event = event.map(|(at, event)| at..at + event.len());
        let tokens = json!([case["expected"]["input_tokens"], case["expected"]["output_tokens"]]);
        Some(Pair { file, asked, unasked, event, tokens })
    };
    let mut pairs: Vec<_> = chats.filter_map(pair).collect();
    pairs.sort_by_key(|pair| pair.event.is_none());
    pairs
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn recorded_streams_pass_unchanged_if_client_does_not_ask() {
    let mut random = fastrand::Rng::with_seed(5);
    let pairs = recorded();
    let with_event = pairs.iter().filter(|pair| pair.event.is_some()).count();
    // All that have the event, each cut at random within it; as many of the others.
    let sample: Vec<(Pair, Vec<usize>)> = pairs
        .into_iter()
        .take(2 * with_event)
        .map(|pair| {
            let around = pair.event.clone().unwrap_or(0..pair.asked.len());
            let mut cuts: Vec<_> = (0..3).map(|_| random.usize(around.start..around.end)).collect();
            cuts.sort_unstable();
            (pair, cuts)
        })
        .collect();
    let sample = std::sync::Arc::new(sample);
    let serving = std::sync::Arc::clone(&sample);
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            assert!(asks(&request));
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            let (pair, cuts) = &serving[body["seed"].as_u64().unwrap() as usize];
            connection.send(EVENTS_HEAD);
            let mut from = 0;
            for &to in cuts.iter().chain([&pair.asked.len()]).filter(|&&to| to > 0) {
                if to > from {
                    connection.send(chunk(&pair.asked[from..to]));
                }
                from = from.max(to);
            }
            connection.send(LAST_CHUNK);
        }
    });
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    for (number, (pair, cuts)) in sample.iter().enumerate() {
        let response =
            client.post(PATH, &format!("{{\"model\":\"m\",\"stream\":true,\"seed\":{number}}}")).response();
        assert!(response.body() == pair.unasked, "{} cut at {cuts:?}", pair.file);
        let record = proxy.record();
        // If the recording has none, they are estimated.
        let is_reported = record["usage_source"] == "reported";
        let reported = json!([record["input_tokens"], record["output_tokens"]]);
        assert_eq!(if is_reported { reported } else { json!([null, null]) }, pair.tokens, "{}", pair.file);
        assert_eq!(record["response_bytes"], pair.asked.len(), "{}", pair.file);
    }
    assert!(sample.is_empty() || with_event > 75, "only {with_event} recordings have the event");
}

#[test]
fn a_refusal_that_is_encoded_is_taken_for_one() {
    // An encoded body cannot be read, and does not matter here.
    let encoded = |status: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\n\x1f?!")
    };
    let (up, told) =
        telling(
            move |request| {
                if asks(request) { encoded("400 Bad Request").into() } else { events(&stripped()) }
            },
        );
    let proxy = proxy().upstream(&up).run();
    for sent in [2, 1] {
        let response = proxy.client().post(PATH, UNASKED).response();
        assert_eq!((response.status(), response.text()), (200, &*stripped()));
        assert_eq!(told.try_iter().count(), sent);
    }
    // If a request is wrong for another reason, the client gets the response to its own request.
    let (up, told) = telling(move |_| encoded("400 Bad Request").into());
    let proxy = self::proxy().upstream(&up).run();
    let response = proxy.client().post(PATH, UNASKED).response();
    assert_eq!((response.status(), response.text()), (400, "\x1f?!"));
    assert_eq!(told.try_iter().map(|request| asks(&request)).collect::<Vec<_>>(), [true, false]);
}
