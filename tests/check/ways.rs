//! The connections that `check --live` uses, and the reasons for them.

use std::net::TcpListener;

use crate::harness::certificates::Authority;
use crate::harness::{Tunnels, Upstream};
use crate::program::{Ended, Folder, responding, tls, up};

const HIDDEN: &str = "http://llm.invalid:8000/v1";

fn through(ended: &Ended, way: &str) {
    assert_eq!(ended.status, 0, "{}", ended.all());
    assert!(ended.line("way").starts_with(way), "{way:?} in {}", ended.all());
}

fn failed(ended: &Ended, error: &str, change: &str) {
    assert_eq!(ended.status, 1, "{}", ended.all());
    assert!(ended.line("error").contains(error), "{error:?} in {}", ended.all());
    assert!(ended.line("change").contains(change), "{change:?} in {}", ended.all());
}

#[test]
fn report_names_the_setting_that_chose_the_way() {
    let service = responding();
    let tunnels = Tunnels::to(service.address);
    let proxy = format!("http://{}", tunnels.address);
    let own = format!("proxy = \"{proxy}\"");
    let network = format!("[network.proxy]\nurl = \"{proxy}\"\n");
    let folder = Folder::new();
    through(
        &folder.check(&up(HIDDEN, &own), &[]),
        &format!("through {proxy} (upstreams.up.proxy) to {}", tunnels.address),
    );
    let ended = folder.check(&format!("{network}{}", up(HIDDEN, "")), &[]);
    through(&ended, &format!("through {proxy} (network.proxy) to "));
    for variable in ["HTTP_PROXY", "all_proxy"] {
        let folder = Folder::new().variable(variable, &proxy);
        let ended = folder.check(&up(HIDDEN, ""), &[]);
        through(&ended, &format!("through {proxy} ({variable} of the environment) to "));
    }

    let here = format!("http://{}/v1", service.address);
    let straight = |configuration: &str, why: &str| {
        let ended = folder.check(configuration, &[]);
        through(&ended, &format!("straight ({why}) to {}", service.address));
    };
    straight(&up(&here, "proxy = \"none\""), "upstreams.up.proxy is \"none\"");
    straight(&format!("[network]\nproxy = \"none\"\n{}", up(&here, "")), "network.proxy is \"none\"");
    straight(&format!("{network}bypass = [\"127.0.0.1\"]\n{}", up(&here, "")), "network.proxy.bypass has it");
    straight(
        &up(&here, &format!("[upstreams.up.proxy]\nurl = \"{proxy}\"\nonly = [\".corp\"]")),
        "upstreams.up.proxy.only does not have it",
    );
    let folder = Folder::new().variable("HTTP_PROXY", &proxy);
    let ended = folder.check(&up(&here, ""), &[]);
    through(&ended, "straight (it is on this machine, where HTTP_PROXY does not count) to ");
    let folder = folder.variable("NO_PROXY", "llm.invalid");
    let ended = folder.check(&up(HIDDEN, ""), &[]);
    assert!(
        ended.line("way").starts_with("straight (NO_PROXY of the environment has it) to llm.invalid"),
        "{}",
        ended.all()
    );
}

#[test]
fn a_proxy_that_does_not_lead_there_names_the_key() {
    let service = responding();
    let folder = Folder::new();
    let tunnels = Tunnels::to_with_authorization(service.address, "Basic bWU6cHctbWFya2VyLTM=");
    let proxy = |lines: &str| {
        up(HIDDEN, &format!("[upstreams.up.proxy]\nurl = \"http://{}\"\n{lines}", tunnels.address))
    };
    let right = folder.check(&proxy("username = \"me\"\npassword = { value = \"pw-marker-3\" }"), &[]);
    assert_eq!(right.status, 0, "{}", right.all());
    failed(
        &folder.check(&proxy(""), &[]),
        "responded with 407",
        "upstreams.up.proxy.username and upstreams.up.proxy.password: it requires both",
    );
    let wrong = folder.check(&proxy("username = \"you\"\npassword = { value = \"pw-marker-3\" }"), &[]);
    failed(&wrong, "responded with 407", "upstreams.up.proxy: it does not accept the user name \"you\"");
    let variable = Folder::new().variable("HTTP_PROXY", &format!("http://{}", tunnels.address));
    let ended = variable.check(&up(HIDDEN, ""), &[]);
    failed(
        &ended,
        "responded with 407",
        "HTTP_PROXY of the environment: it requires a user name and a password",
    );

    let forbidding = Upstream::responding("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
    let network = format!("[network.proxy]\nurl = \"http://{}\"\n{}", forbidding.address, up(HIDDEN, ""));
    let ended = folder.check(&network, &[]);
    failed(
        &ended,
        "responded with 403",
        "network.proxy: it refuses to connect to llm.invalid port 8000; allow it there, or bypass the proxy with network.proxy.bypass",
    );

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ended = folder.check(&up(HIDDEN, &format!("proxy = \"http://{nobody}\"")), &[]);
    failed(&ended, "connection refused", "upstreams.up.proxy.url: correct it");
}

#[test]
fn tls_with_the_proxy_is_told_apart_from_tls_with_the_upstream() {
    let folder = Folder::new();
    let service = responding();
    let target = tls(&folder, &folder.ca.issue("the-service", &["llm.invalid"]), None, service.address);
    let tunnels = Tunnels::to(target);
    let corporate = Authority::new("corporate");
    let front = tls(&folder, &corporate.issue("the-proxy", &["127.0.0.1"]), None, tunnels.address);
    folder.write("corporate.crt", &corporate.pem());
    let check = |proxy: &str| {
        let own = format!(
            "[upstreams.up.tls]\nca = {{ file = \"ca.crt\" }}\n[upstreams.up.proxy]\nurl = \"https://{front}\"\n{proxy}"
        );
        folder.check(&up("https://llm.invalid/v1", &own), &[])
    };
    let ended = check("ca = { file = \"corporate.crt\" }");
    through(&ended, &format!("through https://{front} (upstreams.up.proxy) to {front}"));
    assert!(ended.line("proxy TLS").starts_with("TLS 1.3"), "{}", ended.all());
    assert!(ended.line("proxy cert").starts_with("CN=the-proxy, issued by CN=corporate"), "{}", ended.all());
    assert!(ended.line("certificate").starts_with("CN=the-service, issued by CN=ours"), "{}", ended.all());

    let ended = check("");
    failed(
        &ended,
        "no TLS session with the proxy itself",
        "upstreams.up.proxy.ca: CN=corporate is not one of the system's authorities",
    );
    assert!(
        ended.line("proxy cert").contains("CN=corporate") && !ended.has("certificate"),
        "{}",
        ended.all()
    );
    let ended = check("ca = { file = \"corporate.crt\" }\nverification_mode = \"none\"");
    assert!(ended.line("proxy cert").ends_with("NOTHING OF IT IS VERIFIED"), "{}", ended.all());
}
