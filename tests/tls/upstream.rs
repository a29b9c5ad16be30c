//! TLS to upstreams: the messages for users, and the upstream's view.

use streamgauge::tls::ClientCertificates::{Optional, Required};

use crate::harness::certificates::Authority;
use crate::harness::proxy::Proxy;
use crate::harness::tls::Folder;
use crate::witness::{Witness, two_workers};

fn ask(proxy: &Proxy) -> String {
    proxy.client().last_get("/v1/models", "")
}

#[test]
fn an_upstream_that_requires_a_certificate_sees_the_whole_of_it() {
    let folder = Folder::new();
    folder.write("client", &folder.ca.intermediate("mid").issue_numbered(5, "the-proxy", &[]));
    let server = folder.ca.issue("up", &["127.0.0.1"]);
    let upstream = Witness::run(&folder, &server, Some(Required));
    let tls = folder.ca_line("ca") + &folder.lines("client");
    let proxy = two_workers().https(upstream.address, &tls).run();
    let response = ask(&proxy);
    assert!(response.starts_with("HTTP/1.1 200") && response.ends_with("the-proxy 05"), "{response}");
}

#[test]
fn missing_required_certificate_is_reported_with_its_fault() {
    let folder = Folder::new();
    let server = folder.ca.issue("up", &["127.0.0.1"]);
    let upstream = Witness::run(&folder, &server, Some(Required));
    let proxy = two_workers().https(upstream.address, &folder.ca_line("ca")).run();
    let response = ask(&proxy);
    assert!(response.starts_with("HTTP/1.1 502") && response.contains("CertificateRequired"), "{response}");
    assert!(response.contains("\"code\":\"upstream_tls\""), "{response}");
    let optional = Witness::run(&folder, &server, Some(Optional));
    let proxy = two_workers().https(optional.address, &folder.ca_line("ca")).run();
    assert!(ask(&proxy).ends_with("nobody"));
}

#[test]
fn each_mode_holds_over_sockets_and_a_refusal_says_why() {
    let folder = Folder::new();
    let stranger = Authority::new("stranger");
    for (pair, full, certificate) in [
        (folder.ca.issue("good", &["127.0.0.1"]), None, None),
        (folder.ca.issue("name", &["other"]), Some("not valid for name"), None),
        (stranger.issue("issuer", &["127.0.0.1"]), Some("UnknownIssuer"), Some("UnknownIssuer")),
    ] {
        let upstream = Witness::run(&folder, &pair, None);
        for (mode, refusal) in [("full", full), ("certificate", certificate), ("none", None)] {
            let tls = format!("verification_mode = {mode:?}\n{}", folder.ca_line("ca"));
            let response = ask(&two_workers().https(upstream.address, &tls).run());
            match refusal {
                None => assert!(response.starts_with("HTTP/1.1 200"), "{mode}: {response}"),
                Some(reason) => {
                    assert!(
                        response.starts_with("HTTP/1.1 502") && response.contains(reason),
                        "{mode}: {response}"
                    );
                }
            }
        }
    }
}
