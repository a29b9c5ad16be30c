//! The limit that applies to a body: the one for buffered bodies, or the one for passing bodies.

use crate::harness::{chunk, proxy, sized, upstream};

#[test]
fn passing_bodies_have_a_limit_of_their_own_and_none_by_default() {
    let file = vec![b'f'; 5000];
    let head = |framing: &str| {
        format!(
            "POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=b\r\n{framing}\r\n\r\n"
        )
    };
    let whole = [head("content-length: 5000").as_bytes(), &file].concat();
    let chunked = [head("transfer-encoding: chunked").as_bytes(), &chunk(&file), b"0\r\n\r\n"].concat();
    for (server, status) in [("", 200), ("max_passing_bytes = 5000", 200), ("max_passing_bytes = 4999", 413)]
    {
        let up = upstream(|connection| {
            while let Some(request) = connection.request() {
                connection.send(sized("200 OK", "text/plain", request.body.len().to_string().as_bytes()));
            }
        });
        let proxy = proxy().upstream(&up).server("max_request_bytes = 1000").server(server).run();
        for request in [&whole, &chunked] {
            let response = proxy.client().send(request).response();
            assert_eq!(response.status(), status, "{server}: {}", response.text());
            if status == 413 {
                assert!(response.error()["message"].as_str().unwrap().contains("server.max_passing_bytes"));
            } else {
                assert_eq!(response.text(), "5000");
            }
            let record = proxy.record();
            assert!(status == 413 || record["request_bytes"] == 5000, "{record}");
        }
        let response = proxy.client().post("/v1/chat/completions", &" ".repeat(1001)).response();
        assert!(response.error()["message"].as_str().unwrap().contains("server.max_request_bytes"));
    }
}
