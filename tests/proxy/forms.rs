//! The model of a form: for routes, deployments, aliases and records, in any position, while the
//! file passes.

use std::sync::mpsc;

use crate::harness::{Proxy, Request, chunk, proxy, sized, upstream};

const TRANSCRIPTIONS: &str = "/v1/audio/transcriptions";

fn part(name: &str, value: &str) -> String {
    format!("--x\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

fn file(bytes: usize) -> String {
    let data = "RIFF\r\n--x-\r\n".repeat(bytes / 12 + 1);
    format!("--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n{data}\r\n")
}

/// A form with the model before the file or after it.
fn form(model: &str, is_first: bool, bytes: usize) -> String {
    let (model, file, user) = (part("model", model), file(bytes), part("user", "u-1"));
    let parts = if is_first { user + &model + &file } else { file + &user + &model };
    parts + "--x--\r\n"
}

fn head(path: &str, framing: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=\"x\"\r\n{framing}\r\n\r\n"
    )
}

fn sized_form(path: &str, form: &str) -> Vec<u8> {
    (head(path, &format!("content-length: {}", form.len())) + form).into_bytes()
}

fn chunked_form(path: &str, form: &str) -> Vec<u8> {
    let chunks = form.as_bytes().chunks(7777).flat_map(chunk).collect::<Vec<u8>>();
    [head(path, "transfer-encoding: chunked").as_bytes(), &chunks, b"0\r\n\r\n"].concat()
}

/// A proxy whose upstream passes on what arrives; `tables` begin in `[upstreams.up]`.
fn watched(server: &str, tables: &str) -> (Proxy, mpsc::Receiver<Request>) {
    let (sender, requests) = mpsc::channel();
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            sender.send(request).unwrap();
            connection.send(sized("200 OK", "application/json", b"{\"text\":\"t\"}"));
        }
    });
    let tables = tables.replace("UPSTREAM", &up.address.to_string());
    (proxy().server(server).upstream(&up).tables(&tables).run(), requests)
}

#[test]
fn form_that_is_not_held_passes_whole_and_fields_are_recorded() {
    let (proxy, requests) = watched("max_request_bytes = 1000", "");
    for is_first in [true, false] {
        let form = form("whisper-1", is_first, 300_000);
        for request in [sized_form(TRANSCRIPTIONS, &form), chunked_form(TRANSCRIPTIONS, &form)] {
            assert_eq!(proxy.client().send(request).response().status(), 200);
            assert!(requests.recv().unwrap().body == form.as_bytes());
            let record = proxy.record();
            assert_eq!((&record["model_requested"], &record["user"]), (&"whisper-1".into(), &"u-1".into()));
            assert_eq!(record["request_bytes"], form.len());
        }
    }
}

#[test]
fn alias_in_a_form_is_renamed_and_all_other_bytes_stay() {
    let (proxy, requests) = watched("", "models = { \"fast\" = \"gpt-4o-mini-transcribe\" }");
    for is_first in [true, false] {
        for path in [
            TRANSCRIPTIONS,
            "/v1/audio/translations",
            "/v1/images/edits",
            "/v1/images/variations",
            "/v1/videos",
        ] {
            let sent = form("fast", is_first, 100_000);
            let expected = form("gpt-4o-mini-transcribe", is_first, 100_000);
            for request in [sized_form(path, &sent), chunked_form(path, &sent)] {
                assert_eq!(proxy.client().send(request).response().status(), 200);
                let request = requests.recv().unwrap();
                assert!(request.body == expected.as_bytes(), "{path} {is_first}");
                if let Some(length) = request.header("content-length") {
                    assert_eq!(length, expected.len().to_string(), "{path} {is_first}");
                }
                let record = proxy.record();
                assert_eq!(record["model_requested"], "fast", "{path} {is_first}");
                assert_eq!(record["user"], "u-1", "also where it stands behind the model");
                assert_eq!(record["request_bytes"], sent.len());
            }
        }
    }
    // A model that is not an alias, and a form without one, pass unchanged.
    for form in [form("other", false, 100), file(100) + "--x--"] {
        proxy.client().send(sized_form(TRANSCRIPTIONS, &form)).response();
        assert!(requests.recv().unwrap().body == form.as_bytes());
    }
}

#[test]
fn routes_go_by_the_model_of_a_form() {
    let tables = "[upstreams.whisper]\nprovider = \"other\"\nurl = \"http://UPSTREAM/whisper\"\napi_key = \"none\"\n\
                  default_model = \"m\"\n[[routes]]\nmodel = \"whisper*\"\nupstream = \"whisper\"\n[[routes]]\nupstream = \"up\"";
    let (proxy, requests) = watched("", tables);
    for (model, line) in [
        ("whisper-1", "POST /whisper/audio/transcriptions HTTP/1.1"),
        ("gpt-4o", "POST /v1/audio/transcriptions HTTP/1.1"),
    ] {
        for is_first in [true, false] {
            let form = form(model, is_first, 200_000);
            assert_eq!(proxy.client().send(sized_form(TRANSCRIPTIONS, &form)).response().status(), 200);
            let request = requests.recv().unwrap();
            assert_eq!(request.line(), line);
            assert!(request.body == form.as_bytes());
            assert_eq!(proxy.record()["model_requested"], model);
        }
    }
    // Files have no model: they are not buffered to look for one.
    let form = file(100_000) + "--x--";
    proxy.client().send(sized_form("/v1/files", &form)).response();
    assert!(requests.recv().unwrap().body == form.as_bytes());
}

#[test]
fn deployment_is_that_of_the_forms_model() {
    let tables = "[upstreams.azure]\nprovider = \"azure\"\nurl = \"http://UPSTREAM\"\napi_version = \"2024-10-21\"\n\
                  api_key = { value = \"k\" }\ndeployments = { \"whisper-1\" = \"my whisper\" }\n\
                  [[routes]]\npath = \"/azure\"\nupstream = \"azure\"\n[[routes]]\nupstream = \"up\"";
    let (proxy, requests) = watched("", tables);
    for is_first in [true, false] {
        let form = form("whisper-1", is_first, 50_000);
        let response = proxy.client().send(sized_form("/azure/v1/audio/transcriptions", &form)).response();
        assert_eq!(response.status(), 200, "{}", response.text());
        let request = requests.recv().unwrap();
        let line =
            "POST /openai/deployments/my%20whisper/audio/transcriptions?api-version=2024-10-21 HTTP/1.1";
        assert_eq!(request.line(), line);
        assert!(request.body == form.as_bytes());
    }
}

#[test]
fn model_behind_too_many_bytes_is_refused_with_the_remedy() {
    let (proxy, requests) = watched("max_request_bytes = 10000", "models = { \"fast\" = \"real\" }");
    for make in [sized_form, chunked_form] {
        let response = proxy.client().send(make(TRANSCRIPTIONS, &form("fast", false, 20_000))).response();
        assert_eq!(response.status(), 413);
        assert_eq!(response.error()["code"], "model_too_late");
        assert!(response.text().contains("before the file"), "{}", response.text());
        // The part after the model is not buffered.
        let response = proxy.client().send(make(TRANSCRIPTIONS, &form("fast", true, 200_000))).response();
        assert_eq!(response.status(), 200);
        assert!(requests.recv().unwrap().body == form("real", true, 200_000).as_bytes());
    }
}

#[test]
fn second_model_after_the_deciding_one_aborts_the_upload() {
    let (proxy, requests) = watched("", "models = { \"fast\" = \"real\" }");
    for bytes in [10, 300_000] {
        let form = part("model", "fast") + &file(bytes) + &part("model", "expensive") + "--x--";
        let response = proxy.client().send(sized_form(TRANSCRIPTIONS, &form)).response();
        assert_eq!(
            (response.status(), &response.error()["code"]),
            (400, &"model_ambiguous".into()),
            "{bytes}"
        );
        assert!(requests.try_recv().is_err(), "no whole request arrived");
    }
}

#[test]
fn client_that_leaves_inside_a_form_is_recorded_with_its_fields() {
    let (proxy, _requests) = watched("", "");
    let form = form("whisper-1", true, 100_000);
    let request = sized_form(TRANSCRIPTIONS, &form);
    let mut client = proxy.client();
    client.send(&request[..request.len() - 50]);
    client.reset();
    let record = proxy.record();
    assert_eq!(
        (&record["outcome"], &record["model_requested"]),
        (&"client_disconnected".into(), &"whisper-1".into())
    );
}
