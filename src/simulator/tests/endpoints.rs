//! The endpoints besides those for text.

use serde_json::json;

use super::*;

/// A POST of a form with these fields and one file.
fn upload(path: &str, fields: &[(&str, &str)], name: &str, content: &str) -> String {
    let fields = fields.iter().map(|(name, value)| {
        format!("--xx\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    });
    let body = format!(
        "{}--xx\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"a.wav\"\r\n\r\n{content}\r\n--xx--\r\n",
        fields.collect::<String>()
    );
    let request = post(path, "", &body);
    request.replacen("X-Simulate: ", "Content-Type: multipart/form-data; boundary=xx", 1)
}

fn named(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: sim\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
}

/// The data of a stream's events.
fn data(reply: &Reply) -> Vec<Value> {
    let (chunks, ended) = reply.chunks();
    assert!(ended, "{chunks:?}");
    let text = chunks.concat();
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    lines.map(|data| serde_json::from_str(data).expect(data)).collect()
}

#[test]
fn speech_is_a_file_or_a_stream() {
    let sim = simulator(None);
    let body = r#"{"model":"tts","voice":"alloy","input":"one two"}"#;
    let reply = sim.ask(&post("/v1/audio/speech", "events=2", body));
    assert!(reply.head.contains("content-type: audio/mpeg") && reply.body.len() == 208, "{}", reply.head);
    let body = body.replace('}', r#","stream_format":"sse"}"#);
    let events = data(&sim.ask(&post("/v1/audio/speech", "events=2", &body)));
    assert_eq!((events.len(), &events[0]["type"]), (3, &"speech.audio.delta".into()));
    assert_eq!(events[2]["usage"], json!({"input_tokens": 2, "output_tokens": 2, "total_tokens": 4}));
    let body = body.replace('}', r#","response_format":"opus"}"#);
    assert_eq!(sim.ask(&post("/v1/audio/speech", "", &body)).status(), "400");
}

#[test]
fn a_transcription_has_every_form() {
    let sim = simulator(None);
    let ask =
        |path: &str, fields: &[(&str, &str)]| sim.ask(&upload(path, fields, "file", &"x".repeat(20_000)));
    let transcribe = |more: (&'static str, &'static str)| {
        ask("/v1/audio/transcriptions", &[("model", "gpt-4o-transcribe:events=2"), more])
    };
    let usage = json!({
        "type": "tokens", "total_tokens": 22, "input_tokens": 20,
        "input_token_details": {"text_tokens": 0, "audio_tokens": 20}, "output_tokens": 2,
    });
    assert_eq!(transcribe(("language", "en")).json(), json!({"text": "A stream", "usage": usage}));
    let text = |format| String::from_utf8(transcribe(("response_format", format)).body).unwrap();
    assert_eq!(text("text"), "A stream\n");
    assert_eq!(text("srt"), "1\n00:00:00,000 --> 00:00:02,000\nA stream\n\n");
    assert_eq!(text("vtt"), "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\nA stream\n\n");
    assert_eq!(transcribe(("response_format", "verbose_json")).json()["segments"][0]["text"], "A stream");
    let stream = transcribe(("stream", "true"));
    assert!(stream.chunks().0.iter().all(|chunk| chunk.ends_with("\r\n\r\n")));
    let events = data(&stream);
    assert_eq!((&events[1]["delta"], &events[2]["usage"]), (&" stream".into(), &usage));
    let whisper = ask("/v1/audio/transcriptions", &[("model", "whisper-1")]).json();
    assert_eq!(whisper["usage"], json!({"type": "duration", "seconds": 2}));
    let translation = ask("/v1/audio/translations", &[("model", "whisper-1")]).json();
    assert!(translation["text"].is_string() && translation.get("usage").is_none());
    assert_eq!(sim.ask(&post("/v1/audio/transcriptions", "", "{}")).status(), "400");
    assert_eq!(sim.tally()["output_tokens"], 3 * 2);
}

#[test]
fn pictures_are_pictures() {
    use base64::Engine;

    let sim = simulator(None);
    let path = "/v1/images/generations";
    let body = r#"{"model":"gpt-image-1","prompt":"a river","n":2}"#;
    let response = sim.ask(&post(path, "events=3", body)).json();
    assert_eq!(response["data"].as_array().unwrap().len(), 2);
    let usage = json!({
        "total_tokens": 8, "input_tokens": 2, "output_tokens": 6,
        "input_tokens_details": {"text_tokens": 2, "image_tokens": 0},
    });
    assert_eq!(response["usage"], usage);
    let picture =
        base64::engine::general_purpose::STANDARD.decode(response["data"][1]["b64_json"].as_str().unwrap());
    assert!(picture.unwrap().starts_with(b"\x89PNG\r\n\x1a\n"));
    let body = r#"{"prompt":"a river","stream":true,"partial_images":2}"#;
    let events = data(&sim.ask(&post(path, "events=3", body)));
    let types: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let partial = "image_generation.partial_image";
    assert_eq!(types, [partial, partial, "image_generation.completed"]);
    assert_eq!(events[2]["usage"]["output_tokens"], 3);
    let edit =
        sim.ask(&upload("/v1/images/edits", &[("prompt", "wet"), ("stream", "true")], "image[]", "png"));
    let events = data(&edit);
    assert_eq!(
        (&events[0]["type"], &events[0]["usage"]["input_tokens"]),
        (&"image_edit.completed".into(), &41.into())
    );
    let old = sim.ask(&post(path, "", r#"{"model":"dall-e-3","prompt":"a"}"#)).json();
    assert!(old["data"][0]["url"].is_string() && old.get("usage").is_none());
}

#[test]
fn a_moderation_needs_no_model() {
    let response = simulator(None).ask(&post("/v1/moderations", "", r#"{"input":["a","b"]}"#)).json();
    assert_eq!(
        (&response["model"], response["results"].as_array().unwrap().len()),
        (&"omni-moderation-latest".into(), 2)
    );
}

#[test]
fn a_file_can_be_fetched_until_it_is_deleted() {
    let sim = simulator(None);
    let file = sim.ask(&upload("/v1/files", &[("purpose", "batch")], "file", "a line\n")).json();
    let id = file["id"].as_str().unwrap();
    assert_eq!(
        (&file["bytes"], &file["filename"], &file["purpose"]),
        (&7.into(), &"a.wav".into(), &"batch".into())
    );
    let path = format!("/v1/files/{id}");
    assert_eq!(sim.get(&path).json(), file);
    assert_eq!(sim.get(&format!("{path}/content")).body, b"a line\n");
    assert_eq!(sim.get("/v1/files").json()["data"], json!([file]));
    assert_eq!(sim.ask(&named("DELETE", &path)).json(), json!({"object": "file", "deleted": true, "id": id}));
    assert_eq!(sim.get(&path).status(), "404");
    assert_eq!(sim.get("/v1/files").json()["data"], json!([]));
}

#[test]
fn a_response_is_stored_unless_it_is_not_to_be() {
    let sim = simulator(None);
    let response = sim.ask(&post("/v1/responses", "events=2", r#"{"model":"m","input":"one two"}"#));
    let id = response.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/responses/{id}");
    assert_eq!(sim.get(&path).body, response.body);
    let items = sim.get(&format!("{path}/input_items")).json();
    assert_eq!(items["data"][0]["content"][0]["text"], "one two");
    let events = data(&sim.get(&format!("{path}?stream=true&starting_after=7")));
    assert_eq!((events.len(), &events[1]["type"]), (2, &"response.completed".into()));
    assert_eq!(sim.tally()["total_tokens"], 4, "a look is no new report");
    let cancelled = sim.ask(&named("POST", &format!("{path}/cancel")));
    assert!(
        cancelled.status() == "400"
            && cancelled.json()["error"]["message"].as_str().unwrap().contains("synchronous")
    );
    assert_eq!(sim.ask(&named("DELETE", &path)).json()["deleted"], true);
    assert_eq!(sim.get(&path).status(), "404");
    let other = sim.ask(&post("/v1/responses", "", r#"{"model":"m","input":"one","store":false}"#)).json();
    assert_eq!(sim.get(&format!("/v1/responses/{}", other["id"].as_str().unwrap())).status(), "404");
}

#[test]
fn a_response_in_the_background_is_done_later() {
    let sim = simulator(None);
    let body = r#"{"model":"m","input":"one two","background":true}"#;
    let post = |directions: &str| sim.ask(&post("/v1/responses", directions, body)).json();
    let queued = post("events=2");
    assert_eq!(
        (&queued["status"], &queued["usage"], &queued["background"]),
        (&"queued".into(), &Value::Null, &true.into())
    );
    let path = |response: &Value| format!("/v1/responses/{}", response["id"].as_str().unwrap());
    let done = sim.get(&path(&queued)).json();
    assert_eq!((&done["status"], &done["usage"]["total_tokens"]), (&"completed".into(), &4.into()));
    assert_eq!(done["background"], true);
    sim.get(&path(&queued));
    assert_eq!(sim.tally()["total_tokens"], 4, "reported once");
    let slow = post("events=100,pace=1s");
    assert_eq!(sim.get(&path(&slow)).json()["status"], "in_progress");
    let cancel = format!("{}/cancel", path(&slow));
    assert_eq!(sim.ask(&named("POST", &cancel)).json()["status"], "cancelled");
    assert_eq!(sim.ask(&named("POST", &cancel)).json()["status"], "cancelled", "again");
}

/// Masked text, as a client sends it.
fn frame(text: &str) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut frame = vec![0x81, 0x80 | 126];
    frame.extend_from_slice(&(text.len() as u16).to_be_bytes());
    frame.extend_from_slice(&mask);
    frame.extend(text.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The messages of a session up to the one of this type.
fn messages(stream: &mut std::net::TcpStream, last: &str) -> Vec<Value> {
    let mut found = Vec::new();
    loop {
        let mut head = [0; 2];
        stream.read_exact(&mut head).unwrap();
        let length = if head[1] == 126 {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            u16::from_be_bytes(length).into()
        } else {
            usize::from(head[1])
        };
        let mut text = vec![0; length];
        stream.read_exact(&mut text).unwrap();
        let message: Value = serde_json::from_slice(&text).unwrap();
        let is_last = message["type"] == last;
        found.push(message);
        if is_last {
            return found;
        }
    }
}

fn session(sim: &Sim, path: &str) -> std::net::TcpStream {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: sim\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let mut stream = sim.connect(&request);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    stream
}

#[test]
fn a_realtime_session_reports_each_response() {
    let sim = simulator(None);
    let mut stream = session(&sim, "/v1/realtime?model=sim:events%3D2");
    assert_eq!(messages(&mut stream, "session.created")[0]["session"]["model"], "sim");
    let item = r#"{"type":"conversation.item.create","item":{"type":"message","role":"user","content":[{"type":"input_text","text":"one two three"}]}}"#;
    stream.write_all(&frame(item)).unwrap();
    for (input, responses) in [(3, 1), (5, 2)] {
        stream.write_all(&frame(r#"{"type":"response.create"}"#)).unwrap();
        let events = messages(&mut stream, "response.done");
        let text: String = events.iter().filter_map(|event| event["delta"].as_str()).collect();
        assert_eq!(text, "A stream");
        let usage = &events.last().unwrap()["response"]["usage"];
        assert_eq!(
            (&usage["input_tokens"], &usage["output_tokens"]),
            (&input.into(), &2.into()),
            "{responses}"
        );
    }
    stream.write_all(&frame(r#"{"type":"fly"}"#)).unwrap();
    assert_eq!(messages(&mut stream, "error")[0]["error"]["param"], "type");
    assert_eq!(sim.tally()["total_tokens"], 3 + 2 + 5 + 2);
    assert_eq!(sim.get("/v1/realtime?model=sim").status(), "400");
}

#[test]
fn responses_endpoint_is_served_over_a_websocket() {
    let sim = simulator(None);
    let mut stream = session(&sim, "/v1/responses");
    let mut ids = Vec::new();
    for _ in 0..2 {
        stream
            .write_all(&frame(r#"{"type":"response.create","model":"sim:events=2","input":"one two"}"#))
            .unwrap();
        let events = messages(&mut stream, "response.completed");
        assert_eq!(events[0]["type"], "response.created");
        let last = &events.last().unwrap()["response"];
        assert_eq!(last["usage"]["total_tokens"], 4);
        ids.push(last["id"].clone());
    }
    assert_ne!(ids[0], ids[1]);
    stream
        .write_all(&frame(r#"{"type":"response.create","model":"m","input":"one","generate":false}"#))
        .unwrap();
    let warm_up = messages(&mut stream, "response.completed");
    let last = &warm_up.last().unwrap()["response"];
    assert_eq!((&last["output"], &last["usage"]["total_tokens"]), (&json!([]), &0.into()));
    stream.write_all(&frame("{}")).unwrap();
    assert_eq!(messages(&mut stream, "error")[0]["status"], 400);
    assert_eq!(sim.tally()["total_tokens"], 8);
}

#[test]
fn conversations_have_items_and_the_turns_of_responses() {
    let sim = simulator(None);
    let made = sim
        .ask(&post(
            "/v1/conversations",
            "",
            r#"{"metadata":{"a":"b"},"items":[{"type":"message","role":"user","content":"hi"}]}"#,
        ))
        .json();
    let id = made["id"].as_str().unwrap();
    assert_eq!((&made["object"], &made["metadata"]), (&"conversation".into(), &json!({"a": "b"})));
    let path = format!("/v1/conversations/{id}");
    assert_eq!(sim.ask(&named("GET", &path)).json(), made);
    let body = json!({"model": "sim", "input": "More.", "conversation": {"id": id}}).to_string();
    assert_eq!(sim.ask(&post("/v1/responses", "events=2", &body)).status(), "200");
    let items = sim.ask(&named("GET", &format!("{path}/items"))).json();
    let roles: Vec<_> = items["data"].as_array().unwrap().iter().map(|item| item["role"].clone()).collect();
    assert_eq!(roles, ["assistant", "user", "user"], "the newest first: {items}");
    let added = sim
        .ask(&post(
            &format!("{path}/items"),
            "",
            r#"{"items":[{"type":"message","role":"user","content":"x"}]}"#,
        ))
        .json();
    let item = added["data"][0]["id"].as_str().unwrap();
    let item = format!("{path}/items/{item}");
    assert_eq!(sim.ask(&named("GET", &item)).json()["content"], "x");
    assert_eq!(sim.ask(&named("DELETE", &item)).json()["id"], id);
    assert_eq!(sim.ask(&named("GET", &item)).status(), "404");
    assert_eq!(sim.ask(&post(&path, "", r#"{"metadata":{"c":"d"}}"#)).json()["metadata"], json!({"c": "d"}));
    assert_eq!(sim.ask(&named("DELETE", &path)).json()["deleted"], true);
    assert_eq!(sim.ask(&named("GET", &path)).status(), "404");
    assert_eq!(sim.ask(&post("/v1/conversations", "", r#"{"items":1}"#)).status(), "400");
}
