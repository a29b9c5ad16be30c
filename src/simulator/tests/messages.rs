//! Tools, counts and errors of `messages`.

use super::*;

#[test]
fn a_tool_is_called_until_its_result_is_there() {
    let sim = simulator(None);
    let tools = r#""tools":[{"name":"run","input_schema":{"required":["command"],"properties":{"command":{"type":"string"}}}}]"#;
    let question = r#"{"role":"user","content":"go"}"#;
    let result = r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"done"}]}"#;
    let ask = |messages: &str| {
        let body = format!(r#"{{"model":"m","max_tokens":9,{tools},"messages":[{messages}]}}"#);
        sim.ask(&post("/v1/messages", "", &body)).json()
    };
    let call = ask(question);
    assert_eq!(call["content"][0]["input"]["command"], "echo A stream gauge");
    assert_eq!(call["stop_reason"], "tool_use");
    assert_eq!(ask(&format!("{question},{result}"))["stop_reason"], "end_turn");
    let stream = post(
        "/v1/messages",
        "calls=2",
        &format!(r#"{{"model":"m","stream":true,{tools},"messages":[{question}]}}"#),
    );
    let (chunks, ended) = sim.ask(&stream).chunks();
    assert!(
        ended && chunks.iter().filter(|chunk| chunk.contains(r#""type":"tool_use""#)).count() == 2,
        "{chunks:?}"
    );
}

#[test]
fn tokens_are_counted_without_a_response() {
    let sim = simulator(None);
    let count = |path: &str, body: &str| sim.ask(&post(path, "", body)).json();
    let body = r#"{"model":"m","system":"be brief","messages":[{"role":"user","content":"go"}]}"#;
    assert_eq!(count("/v1/messages/count_tokens", body), serde_json::json!({"input_tokens": 3}));
    let expected = serde_json::json!({"object": "response.input_tokens", "input_tokens": 2});
    assert_eq!(count("/v1/responses/input_tokens", r#"{"model":"m","input":"one two"}"#), expected);
    assert_eq!(sim.tally()["responses_with_usage"], 0);
}

#[test]
fn anthropic_errors_have_their_form() {
    let sim = simulator(Some("secret"));
    let reply = sim.ask(&post("/v1/messages", "", CHAT));
    assert_eq!(
        (reply.status(), &reply.json()["error"]["type"]),
        ("401", &Value::from("authentication_error"))
    );
    assert!(reply.head.contains("\r\nrequest-id: req_"));
    let request =
        post("/v1/messages", "status=529", CHAT).replace("X-Simulate", "X-Api-Key: secret\r\nX-Simulate");
    assert_eq!(sim.ask(&request).json()["error"]["type"], "overloaded_error");
}
