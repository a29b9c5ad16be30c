//! Third-party programs against our listener, and as our upstream: curl and OpenSSL.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::harness::tls::Folder;
use crate::witness::{Witness, two_workers};

/// The output of a program, which must exist: `tests/run` installs it.
fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("{program}: {error}; tests/run installs it"))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn curl_with_a_client_certificate_is_served_over_both_protocols() {
    let folder = Folder::new();
    folder.write("curl", &folder.ca.issue("curl", &[]));
    let upstream = Witness::run(&folder, &folder.ca.issue("up", &["127.0.0.1"]), None);
    let server = folder.lines("server") + &folder.ca_line("client_ca");
    let proxy = two_workers().tls(&server).https(upstream.address, &folder.ca_line("ca")).run();
    let [ca, certificate, key] = ["ca.crt", "curl.crt", "curl.key"].map(|name| text(&folder.path(name)));
    let url = format!("https://{}/v1/models", proxy.address);
    for (version, number) in [("--http1.1", "1.1"), ("--http2", "2")] {
        for tls in [&["--tlsv1.2", "--tls-max", "1.2"][..], &["--tlsv1.3"]] {
            let arguments = ["-sS", version, "--cacert", &ca, "--cert", &certificate, "--key", &key];
            let more = ["-w", " %{http_code} %{http_version}", &url];
            let output = run("curl", &[&arguments[..], tls, &more].concat());
            let said = String::from_utf8_lossy(&output.stdout);
            assert_eq!(said, format!("nobody 200 {number}"), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(proxy.record()["client"], "curl");
        }
    }
    let refused = run("curl", &["-sS", "--cacert", &ca, &url]);
    assert!(!refused.status.success(), "{}", String::from_utf8_lossy(&refused.stdout));
}

#[test]
fn openssl_s_client_verifies_our_chain() {
    let folder = Folder::new();
    let chained = folder.ca.intermediate("mid").issue_numbered(9, "proxy", &["127.0.0.1"]);
    folder.write("server", &chained);
    let upstream = Witness::run(&folder, &folder.ca.issue("up", &["127.0.0.1"]), None);
    let proxy =
        two_workers().tls(&folder.lines("server")).https(upstream.address, &folder.ca_line("ca")).run();
    let (ca, address) = (text(&folder.path("ca.crt")), proxy.address.to_string());
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let arguments = ["s_client", "-connect", &address, "-CAfile", &ca, "-verify_return_error"];
        let output =
            run("openssl", &[&arguments[..], &["-verify_ip", "127.0.0.1", "-alpn", "h2", version]].concat());
        let said = String::from_utf8_lossy(&output.stdout);
        for part in ["Verify return code: 0 (ok)", "ALPN protocol: h2", "CN = mid", name] {
            assert!(said.contains(part), "{part:?} in {said} {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

/// The output of s_client after it sent this.
fn s_client(arguments: &[&str], send: &str) -> Output {
    let mut child = Command::new("openssl")
        .arg("s_client")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("openssl: {error}; tests/run installs it"));
    // The program may have ended already, refused.
    let _ = child.stdin.take().unwrap().write_all(send.as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn openssl_s_client_is_served_only_with_a_certificate() {
    let folder = Folder::new();
    folder.write("openssl", &folder.ca.issue("openssl", &[]));
    let upstream = Witness::run(&folder, &folder.ca.issue("up", &["127.0.0.1"]), None);
    let server = folder.lines("server") + &folder.ca_line("client_ca");
    let proxy = two_workers().tls(&server).https(upstream.address, &folder.ca_line("ca")).run();
    let [ca, certificate, key] =
        ["ca.crt", "openssl.crt", "openssl.key"].map(|name| text(&folder.path(name)));
    let address = proxy.address.to_string();
    let request = "GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    for version in ["-tls1_2", "-tls1_3"] {
        let arguments = ["-connect", &address, "-CAfile", &ca, "-verify_return_error", "-quiet", version];
        let known = [&arguments[..], &["-cert", &certificate, "-key", &key]].concat();
        let output = s_client(&known, request);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.starts_with("HTTP/1.1 200") && said.ends_with("nobody"), "{version}: {said}");
        assert_eq!(proxy.record()["client"], "openssl");
        let refused = s_client(&arguments, request);
        assert!(refused.stdout.is_empty(), "{version}: {}", String::from_utf8_lossy(&refused.stdout));
        let why = String::from_utf8_lossy(&refused.stderr);
        assert!(why.contains("alert"), "{version}: {why}");
    }
}

#[test]
fn openssl_s_client_resumes_its_session() {
    let folder = Folder::new();
    let upstream = Witness::run(&folder, &folder.ca.issue("up", &["127.0.0.1"]), None);
    let proxy =
        two_workers().tls(&folder.lines("server")).https(upstream.address, &folder.ca_line("ca")).run();
    let (session, address) = (text(&folder.path("session.pem")), proxy.address.to_string());
    let request = "GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    for version in ["-tls1_2", "-tls1_3"] {
        for (option, shown) in [("-sess_out", "New, "), ("-sess_in", "Reused, ")] {
            // Tickets of TLS 1.3 come with the response, for which it waits.
            let output = s_client(&["-connect", &address, "-ign_eof", version, option, &session], request);
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(said.contains("HTTP/1.1 200"), "{version} {option}: {said}");
            assert!(said.lines().any(|line| line.starts_with(shown)), "{version} {option}: {said}");
        }
    }
}

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // The program may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn openssl_s_server_sees_our_certificate_and_refuses_without() {
    let folder = Folder::new();
    folder.write("up", &folder.ca.issue("up", &["127.0.0.1"]));
    let [ca, certificate, key] = ["ca.crt", "up.crt", "up.key"].map(|name| text(&folder.path(name)));
    for (version, presents) in [("-tls1_2", true), ("-tls1_3", true), ("-tls1_2", false), ("-tls1_3", false)]
    {
        let mut server = Command::new("openssl")
            .args([
                "s_server",
                "-accept",
                "127.0.0.1:0",
                "-www",
                "-Verify",
                "1",
                "-verify_return_error",
                version,
            ])
            .args(["-CAfile", &ca, "-cert", &certificate, "-key", &key])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("openssl: {error}; tests/run installs it"));
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let _server = Running(server);
        let address = lines.find_map(|line| line.unwrap().strip_prefix("ACCEPT ").map(str::to_owned));
        let address = address.expect("s_server says where it listens").parse().unwrap();
        let identity = if presents { folder.lines("client") } else { String::new() };
        let proxy = two_workers().https(address, &(folder.ca_line("ca") + &identity)).run();
        let response = proxy.client().last_get("/v1/models", "");
        if !presents {
            assert!(
                response.starts_with("HTTP/1.1 502") && response.contains("upstream_tls"),
                "{version}: {response}"
            );
            continue;
        }
        assert!(
            response.contains("CN = the-proxy") || response.contains("CN=the-proxy"),
            "{version}: {response}"
        );
        assert_eq!(proxy.record()["status"], 200);
    }
}
