//! llama.cpp's server: `include_usage` moves members that a client would have got, and its counts
//! come without it.

use std::sync::mpsc::Receiver;

use serde_json::{Value, json};

use crate::asking::{PATH, UNASKED, asks, events, telling};
use crate::harness::{Request, Upstream, proxy};

const TIMINGS: &str =
    r#","timings":{"cache_n":83,"prompt_n":1,"prompt_ms":8.9,"predicted_n":57,"predicted_ms":4.8}"#;

/// The server's stream with and without `include_usage`; `sign` is its fingerprint.
fn stream(sign: &str, asked: bool) -> String {
    let chunk = |choices: &str, rest: &str| {
        format!(
            "data: {{\"choices\":[{choices}],\"created\":1,\"id\":\"c\",\"model\":\"m\",\"system_fingerprint\":\"{sign}\",\"object\":\"chat.completion.chunk\"{rest}}}\n\n"
        )
    };
    let say =
        |text: &str| format!("{{\"finish_reason\":null,\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}");
    let finish = "{\"finish_reason\":\"stop\",\"index\":0,\"delta\":{}}";
    let usage = ",\"usage\":{\"completion_tokens\":57,\"prompt_tokens\":84,\"total_tokens\":141}";
    let end = match asked {
        true => chunk(finish, "") + &chunk("", &format!("{usage}{TIMINGS}")),
        false => chunk(finish, TIMINGS),
    };
    chunk(&say("Hello"), "") + &chunk(&say(" you"), "") + &end + "data: [DONE]\n\n"
}

const BUILD: &str = "b7010-c27efd2bd";

/// A server whose streams have this fingerprint, and which identifies itself with this header.
fn server(sign: &'static str, header: &'static str) -> (Upstream, Receiver<Request>) {
    telling(move |request| {
        let response = events(&stream(sign, asks(request)));
        let head = format!("HTTP/1.1 200 OK\r\n{header}");
        [head.as_bytes(), &response["HTTP/1.1 200 OK\r\n".len()..]].concat()
    })
}

fn counts(record: &Value) -> [&Value; 4] {
    ["usage_source", "input_tokens", "output_tokens", "cached_input_tokens"].map(|key| &record[key])
}

#[test]
fn client_sees_no_change_by_asking_and_server_is_asked_once() {
    for (sign, header) in [(BUILD, ""), ("", "Server: llama.cpp\r\n"), (BUILD, "Server: llama.cpp\r\n")] {
        let (up, told) = server(sign, header);
        let proxy = proxy().upstream(&up).run();
        for (number, model) in ["m", "m", "n"].into_iter().enumerate() {
            let body = UNASKED.replace("\"m\"", &format!("\"{model}\""));
            let response = proxy.client().post(PATH, &body).response();
            assert_eq!(response.text(), stream(sign, false), "request {number} of {sign:?}");
            assert_eq!(asks(&told.recv().unwrap()), number == 0, "only the first request asks");
            let record = proxy.record();
            let cached = if number == 0 { Value::Null } else { json!(83) };
            assert_eq!(counts(&record), [&json!("reported"), &json!(84), &json!(57), &cached], "{record}");
        }
    }
}

#[test]
fn server_without_a_sign_is_known_after_its_first_response() {
    let (up, told) = server("", "");
    let proxy = proxy().upstream(&up).run();
    for number in 0..3 {
        let response = proxy.client().post(PATH, UNASKED).response();
        let lost = number == 0 && response.text() == stream("", false).replace(TIMINGS, "");
        assert!(lost || response.text() == stream("", false), "{}", response.text());
        assert_eq!(asks(&told.recv().unwrap()), number == 0);
        assert_eq!(counts(&proxy.record())[..3], [&json!("reported"), &json!(84), &json!(57)]);
    }
}

#[test]
fn model_without_own_counts_at_same_address_is_asked_again() {
    let (up, told) = telling(|request| {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let plain = "data: {\"model\":\"n\",\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n";
        let usage = "data: {\"model\":\"n\",\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n";
        match (body["model"] == "n", asks(request)) {
            (false, asked) => events(&stream(BUILD, asked)),
            (true, true) => events(&format!("{plain}{usage}data: [DONE]\n\n")),
            (true, false) => events(&format!("{plain}data: [DONE]\n\n")),
        }
    });
    let proxy = proxy().upstream(&up).run();
    for (model, asked, source) in [
        ("m", true, "reported"),
        ("n", false, "estimated"),
        ("n", true, "reported"),
        ("m", false, "reported"),
    ] {
        proxy.client().post(PATH, &UNASKED.replace("\"m\"", &format!("\"{model}\""))).response();
        assert_eq!(asks(&told.recv().unwrap()), asked, "{model}");
        assert_eq!(proxy.record()["usage_source"], source, "{model}");
    }
}

#[test]
fn counts_that_come_unasked_are_read_where_nobody_asks() {
    let (up, told) = server(BUILD, "");
    let proxy = proxy().upstream(&up).tables("include_usage = \"never\"").run();
    assert_eq!(proxy.client().post(PATH, UNASKED).response().text(), stream(BUILD, false));
    assert!(!asks(&told.recv().unwrap()));
    let record = proxy.record();
    assert_eq!(counts(&record), [&json!("reported"), &json!(84), &json!(57), &json!(83)]);
    assert_eq!(record["total_tokens"], Value::Null, "which the server does not tell");
}
