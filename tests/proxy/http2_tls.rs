//! The HTTP version over TLS: the upstream's choice by ALPN (RFC 7301), and the configured one.
//!
//! The proxy is the program itself here, since its trusted authorities come from its environment.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::Value;

use crate::harness::{
    CHAT_REQUEST, CHAT_STREAM, Client, EVENTS_HEAD, Http2, LAST_CHUNK, Response, chunk, tls_front, upstream,
};

/// A certificate for this machine, and the file that a client must trust.
struct Identity {
    config: ServerConfig,
    _folder: tempfile::TempDir,
    file: PathBuf,
}

fn identity(protocols: &[&str]) -> Identity {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, made.cert.pem()).unwrap();
    Identity { config, _folder: folder, file }
}

/// The program, until it is dropped.
struct Program {
    child: Child,
    address: SocketAddr,
    records: BufReader<std::process::ChildStdout>,
}

impl Program {
    fn start(trusted: &Identity, upstream: SocketAddr, http: &str) -> Self {
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"\"\n[ledger]\npath = \"\"\njsonl = \"-\"\n\
             [log]\nformat = \"json\"\n[upstreams.up]\nprovider = \"other\"\nurl = \"https://localhost:{}/v1\"\n\
             api_key = \"none\"\ndefault_model = \"m\"\nhttp = \"{http}\"\n",
            upstream.port()
        );
        let config = trusted.file.with_file_name("streamgauge.toml");
        std::fs::write(&config, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_streamgauge"))
            .args(["serve", "--config"])
            .arg(&config)
            .env("SSL_CERT_FILE", &trusted.file)
            .env_remove("RUST_LOG")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended before it listened");
            let line: Value = serde_json::from_str(&line).unwrap();
            if line["message"] == "listening" {
                break line["address"].as_str().unwrap().parse().unwrap();
            }
        };
        // The program's further log must not fill the pipe.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let records = BufReader::new(child.stdout.take().unwrap());
        Self { child, address, records }
    }

    fn ask(&self) -> Response {
        Client::connect(self.address).post("/v1/chat/completions", CHAT_REQUEST).response()
    }

    fn record(&mut self) -> Value {
        let mut line = String::new();
        self.records.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A TLS server that responds to each request in HTTP/1.1.
fn http1_server(config: ServerConfig) -> SocketAddr {
    let up = upstream(|connection| {
        let response =
            [EVENTS_HEAD.as_bytes(), &chunk(CHAT_STREAM.as_bytes()), LAST_CHUNK.as_bytes()].concat();
        while let Some(request) = connection.request() {
            assert_eq!(request.line(), "POST /v1/chat/completions HTTP/1.1");
            assert_eq!(request.body, CHAT_REQUEST.as_bytes());
            connection.send(&response);
        }
    });
    tls_front(Arc::new(config), up.address)
}

fn assert_whole(program: &mut Program, what: &str) {
    // Twice: on a new connection and on a kept one.
    for _ in 0..2 {
        assert_eq!(program.ask().text(), CHAT_STREAM, "{what}");
        let record = program.record();
        assert_eq!(record["outcome"], "complete", "{what}");
        assert_eq!((&record["total_tokens"], &record["usage_source"]), (&11.into(), &"reported".into()));
    }
}

#[test]
fn upstream_that_offers_both_gets_http2_unless_http1_is_set() {
    for http in ["auto", "2"] {
        let identity = identity(&["h2", "http/1.1"]);
        let server = Http2::default().tls(Arc::new(identity.config.clone()));
        let up = server.run(|mut exchange| async move {
            assert_eq!(exchange.request.uri().scheme_str(), Some("https"));
            exchange.body().await;
            exchange.respond("text/event-stream", CHAT_STREAM.as_bytes()).await;
        });
        assert_whole(&mut Program::start(&identity, up.address, http), http);
        assert_eq!(up.accepted(), 1);
    }
    let identity = identity(&["h2", "http/1.1"]);
    let up = http1_server(identity.config.clone());
    assert_whole(&mut Program::start(&identity, up, "1"), "1");
}

#[test]
fn an_upstream_without_http_2_gets_http_1() {
    for protocols in [&["http/1.1"][..], &[]] {
        let identity = identity(protocols);
        let up = http1_server(identity.config.clone());
        assert_whole(&mut Program::start(&identity, up, "auto"), &format!("{protocols:?}"));
    }
}

#[test]
fn an_upstream_without_http_2_is_named_where_it_is_asked_for() {
    // The server refuses the handshake, or chooses nothing.
    for protocols in [&["http/1.1"][..], &[]] {
        let identity = identity(protocols);
        let up = http1_server(identity.config.clone());
        let mut program = Program::start(&identity, up, "2");
        let error = program.ask().error();
        assert_eq!(error["code"], "upstream_protocol", "{protocols:?}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("does not speak HTTP/2") && message.contains("ALPN"), "{message}");
        assert_eq!(program.record()["outcome"], "upstream_error");
    }
}
