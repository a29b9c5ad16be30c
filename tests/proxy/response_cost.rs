//! `response_cost`: clients that get the cost and the tokens of a response with it.

use std::sync::mpsc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};

use crate::harness::encoders::{header_value, whole};
use crate::harness::{
    CHAT_BODY, CHAT_REQUEST, CHAT_STREAM, EVENTS_HEAD, LAST_CHUNK, Proxy, Response, Upstream, chunk,
    http2_client, proxy, sized, upstream,
};

const KEY: &str = "sg-search-0123456789";
const CLIENT: &str = "[clients.search]\nkey = { value = \"sg-search-0123456789\" }\nresponse_cost = true\n\
                      [clients.other]\nkey = { value = \"sg-other-0123456789\" }\n";
const PRICES: &str = "[[prices]]\nmodel = \"*\"\ninput = 1000\ncached_input = 100\noutput = 4000\n";
const QUESTION: &str = "{\"model\":\"m\",\"messages\":[]}";
/// 60 tokens of input, of which 20 are cached, and 40 of output.
const COMPLETION: &str = "{\"model\":\"m\",\"choices\":[{\"message\":{\"content\":\"hi\"}}],\"usage\":{\"prompt_tokens\":60,\"completion_tokens\":40,\"prompt_tokens_details\":{\"cached_tokens\":20}}}";
/// The comment in `CHAT_STREAM`: 9 tokens of input and 2 of output.
const COMMENT: &str =
    ": streamgauge {\"cost\":\"0.017\",\"input_tokens\":9,\"output_tokens\":2,\"cached_input_tokens\":0}\n\n";

fn telling(up: &Upstream) -> Proxy {
    proxy().upstream(up).tables(CLIENT).tables(PRICES).run()
}

fn request(path: &str, key: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn ask(proxy: &Proxy, body: &str) -> Response {
    proxy.client().send(request("/v1/chat/completions", KEY, body)).response()
}

/// The headers with the cost, the input, the output and the cached input.
fn told(response: &Response) -> [Option<&str>; 4] {
    ["cost", "input-tokens", "output-tokens", "cached-input-tokens"]
        .map(|name| response.header(&format!("x-streamgauge-{name}")))
}

/// `CHAT_STREAM` with the comment.
fn commented() -> String {
    CHAT_STREAM.replace("data: [DONE]", &format!("{COMMENT}data: [DONE]"))
}

#[test]
fn response_has_headers_with_its_cost_and_tokens() {
    let up = Upstream::responding(sized("200 OK", "application/json", COMPLETION.as_bytes()));
    let all = [Some("0.202"), Some("60"), Some("40"), Some("20")];
    let builder = || proxy().upstream(&up).tables(CLIENT);
    let proxy = builder().tables(PRICES).server("origins = [\"https://app.example\"]").run();
    let response = ask(&proxy, QUESTION);
    assert_eq!((told(&response), response.text()), (all, COMPLETION));
    assert_eq!(response.header("content-length"), Some(&*COMPLETION.len().to_string()));
    let record = proxy.record();
    assert_eq!((&record["outcome"], &record["input_tokens"]), (&"complete".into(), &60.into()));
    let other =
        proxy.client().send(request("/v1/chat/completions", "sg-other-0123456789", QUESTION)).response();
    assert_eq!(told(&other), [None; 4]);
    let page = request("/v1/chat/completions", KEY, QUESTION);
    let page = page.replacen("\r\n", "\r\norigin: https://app.example\r\n", 1);
    let page = proxy.client().send(page).response();
    let exposed = page.header("access-control-expose-headers").unwrap();
    assert!(exposed.contains("x-streamgauge-cost"), "{exposed}");
    assert!(exposed.contains("x-streamgauge-cached-input-tokens"), "{exposed}");
    // Without a price only the cost is unknown.
    let unpriced = ask(&builder().run(), QUESTION);
    assert_eq!(told(&unpriced), [None, all[1], all[2], all[3]]);
}

#[test]
fn only_known_values_of_own_responses_have_headers() {
    let case = |status: &str, kind: &str, body: &str| {
        let up = Upstream::responding(sized(status, kind, body.as_bytes()));
        let proxy = telling(&up);
        let response = ask(&proxy, QUESTION);
        assert_eq!(response.text(), body);
        told(&response).map(|value| value.map(str::to_owned))
    };
    let none: [Option<String>; 4] = Default::default();
    assert_eq!(case("429 Busy", "application/json", COMPLETION), none, "an error");
    assert_eq!(case("200 OK", "application/json", "{\"model\":\"m\"}"), none, "without usage");
    assert_eq!(case("200 OK", "text/plain", "[not JSON"), none);
    let partly = "{\"model\":\"m\",\"usage\":{\"completion_tokens\":5}}";
    let [_, input, output, _] = case("200 OK", "application/json", partly);
    assert_eq!((input, output.as_deref()), (None, Some("5")), "what is unknown is not 0");
    // Another request's usage.
    let up = Upstream::responding(sized("200 OK", "application/json", COMPLETION.as_bytes()));
    let looked = telling(&up)
        .client()
        .send(format!(
            "GET /v1/responses/resp_1 HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {KEY}\r\n\r\n"
        ))
        .response();
    assert_eq!((told(&looked), looked.text()), ([None; 4], COMPLETION));
}

#[test]
fn long_and_other_responses_pass_without_headers() {
    let long = format!(
        "{}{}",
        &COMPLETION[..COMPLETION.len() - 1],
        ",\"x\":\"".to_owned() + &"y".repeat(1 << 20) + "\"}"
    );
    let chunked = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunks = [chunked.as_bytes(), &chunk(long.as_bytes()), LAST_CHUNK.as_bytes()].concat();
    for response in [sized("200 OK", "application/json", long.as_bytes()), chunks] {
        let proxy = telling(&Upstream::responding(response));
        let response = ask(&proxy, QUESTION);
        assert_eq!((told(&response), response.text() == long), ([None; 4], true));
        assert_eq!(proxy.record()["output_tokens"], 40);
    }
    // A page of text is not waited for.
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let up = upstream(move |connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 8\r\n\r\nonce");
        if wait.lock().unwrap().recv().is_ok() {
            connection.send("more");
        }
    });
    let proxy = telling(&up);
    let mut client = proxy.client();
    client.send(request("/v1/audio/transcriptions", KEY, QUESTION)).head();
    assert_eq!(client.read(4), b"once");
    go_on.send(()).unwrap();
    assert_eq!(client.read(4), b"more");
}

#[test]
fn held_response_keeps_its_bytes_coding_and_failure() {
    let coded = whole("gzip", COMPLETION.as_bytes());
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n";
    let up = Upstream::responding(
        [format!("{head}content-length: {}\r\n\r\n", coded.len()).as_bytes(), &coded].concat(),
    );
    let proxy = telling(&up);
    let response = ask(&proxy, QUESTION);
    assert_eq!((told(&response)[0], response.body()), (Some("0.202"), &coded[..]));
    let half = &COMPLETION[..40];
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n";
    let up = upstream(move |connection| {
        connection.request();
        connection.send(format!("{head}{half}"));
    });
    let proxy = telling(&up);
    let mut client = proxy.client();
    let head = client.send(request("/v1/chat/completions", KEY, QUESTION)).head();
    assert!(!head.contains("x-streamgauge-cost"), "{head}");
    assert_eq!(client.cut_body(&head), half);
    assert_eq!(proxy.record()["outcome"], "truncated");
}

#[test]
fn client_that_leaves_a_held_response_has_left() {
    let (gone, wait) = mpsc::channel();
    let up = upstream(move |connection| {
        connection.request();
        connection.send(format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{COMPLETION}"
        ));
        gone.send(()).unwrap();
        connection.wait_for_close();
    });
    let proxy = telling(&up);
    let mut client = proxy.client();
    client.send(request("/v1/chat/completions", KEY, QUESTION));
    wait.recv().unwrap();
    drop(client);
    assert_eq!(proxy.record()["outcome"], "client_disconnected");
}

#[test]
fn memory_of_held_responses_is_that_of_bodies() {
    let body = COMPLETION.replace("hi", &"y".repeat(200_000));
    let up = Upstream::responding(sized("200 OK", "application/json", body.as_bytes()));
    let small = "max_request_bytes = \"64KiB\"\nmax_buffered_bytes = \"128KiB\"";
    let builder = proxy().server(small).upstream(&up).tables(CLIENT).tables(PRICES).admin();
    let proxy = builder.run();
    let response = ask(&proxy, QUESTION);
    assert_eq!((told(&response), response.text() == body), ([None; 4], true));
}

#[test]
fn stream_has_a_comment_before_its_last_event() {
    let (before, after) = CHAT_STREAM.split_at(CHAT_STREAM.find("[DONE]").unwrap() + 3);
    let chunked = [EVENTS_HEAD.as_bytes(), &chunk(before.as_bytes()), &chunk(after.as_bytes())].concat();
    for response in [
        [&chunked, LAST_CHUNK.as_bytes()].concat(),
        sized("200 OK", "text/event-stream", CHAT_STREAM.as_bytes()),
    ] {
        let up = Upstream::responding(response);
        let proxy = telling(&up);
        let response = ask(&proxy, CHAT_REQUEST);
        assert_eq!((response.text(), told(&response)), (&*commented(), [None; 4]));
        assert_eq!(response.header("content-length"), None);
        let record = proxy.record();
        let read = (&record["outcome"], &record["response_bytes"], &record["output_tokens"]);
        assert_eq!(read, (&"complete".into(), &CHAT_STREAM.len().into(), &2.into()));
    }
}

#[test]
fn comment_follows_usage_that_the_client_did_not_ask_for() {
    let up = Upstream::responding(sized("200 OK", "text/event-stream", CHAT_STREAM.as_bytes()));
    let proxy = telling(&up);
    let unasked = CHAT_REQUEST.replace(",\"stream_options\":{\"include_usage\":true}", "");
    let response = ask(&proxy, &unasked);
    let usage = CHAT_STREAM.split_inclusive("\n\n").find(|event| event.contains("\"usage\":{")).unwrap();
    assert_eq!(response.text(), commented().replace(usage, ""));
}

#[test]
fn coded_stream_has_no_comment_unless_it_is_decoded() {
    let coded = whole("gzip", CHAT_STREAM.as_bytes());
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: {}\r\ncontent-length: {}\r\n\r\n",
        header_value("gzip"),
        coded.len()
    );
    let up = Upstream::responding([head.as_bytes(), &coded].concat());
    let response = ask(&telling(&up), CHAT_REQUEST);
    assert_eq!(response.body(), coded);
    let unasked = CHAT_REQUEST.replace(",\"stream_options\":{\"include_usage\":true}", "");
    let response = ask(&telling(&up), &unasked);
    assert!(response.text().contains(COMMENT), "{}", response.text());
}

#[test]
fn comment_goes_with_keep_alive_comments() {
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let (before, after) = CHAT_STREAM.split_at(CHAT_STREAM.find("[DONE]").unwrap() + 3);
    let up = upstream(move |connection| {
        connection.request();
        let mut parts = vec![[EVENTS_HEAD.as_bytes(), &chunk(before.as_bytes())].concat()];
        parts.push([&chunk(after.as_bytes()), LAST_CHUNK.as_bytes()].concat());
        for part in parts {
            if wait.lock().unwrap().recv().is_err() {
                return;
            }
            connection.send(part);
        }
    });
    let proxy =
        proxy().upstream(&up).tables("keep_alive_comments = \"20ms\"").tables(CLIENT).tables(PRICES).run();
    let mut client = proxy.client();
    client.send(request("/v1/chat/completions", KEY, CHAT_REQUEST)).head();
    let (mut all, mut silences) = (String::new(), 0);
    while !all.ends_with("data: [DONE]\n\n") {
        let chunk = String::from_utf8(client.chunk()).unwrap();
        if chunk == ": keep-alive\n\n" {
            silences += 1;
            // Before the response, and while the beginning of the last event waits.
            if silences == 1 || (silences > 2 && all.ends_with("\n\n")) {
                let _ = go_on.send(());
            }
        } else {
            all += &chunk;
        }
    }
    assert_eq!(all, commented());
    assert!(silences >= 2);
}

#[test]
fn group_tells_the_use_of_the_response_that_is_relayed() {
    let busy = "{\"error\":{\"message\":\"x\"},\"usage\":{\"prompt_tokens\":25,\"completion_tokens\":1}}";
    let a = Upstream::responding(sized("503 Busy", "application/json", busy.as_bytes()));
    let b = Upstream::responding(sized("200 OK", "application/json", COMPLETION.as_bytes()));
    let group = "[groups.chat]\ntiers = [[\"a\"], [\"b\"]]\n[[routes]]\nupstream = \"chat\"\n";
    let builder = proxy().other("a", a.address).other("b", b.address).tables(group).tables(CLIENT);
    let proxy = builder.tables(PRICES).run();
    let response = ask(&proxy, QUESTION);
    assert_eq!(response.header("x-streamgauge-attempts"), Some("2"));
    assert_eq!(told(&response), [Some("0.202"), Some("60"), Some("40"), Some("20")]);
}

#[test]
fn http2_client_gets_headers_and_comments() {
    let up = upstream(|connection| {
        while let Some(request) = connection.request() {
            let is_stream = String::from_utf8_lossy(&request.body).contains("\"stream\":true");
            let (kind, body) =
                if is_stream { ("text/event-stream", CHAT_STREAM) } else { ("application/json", CHAT_BODY) };
            connection.send(sized("200 OK", kind, body.as_bytes()));
        }
    });
    let proxy = telling(&up);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mut client, _connection) = http2_client(proxy.address).await;
        for (body, cost, expected) in
            [(QUESTION, Some("0.013"), CHAT_BODY), (CHAT_REQUEST, None, &commented())]
        {
            let request = http::Request::post("http://localhost/v1/chat/completions")
                .header("authorization", format!("Bearer {KEY}"))
                .body(Full::new(Bytes::from_static(body.as_bytes())))
                .unwrap();
            let response = client.send_request(request).await.unwrap();
            let told =
                response.headers().get("x-streamgauge-cost").map(|cost| cost.to_str().unwrap().to_owned());
            assert_eq!(told.as_deref(), cost);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, expected.as_bytes());
        }
    });
}
