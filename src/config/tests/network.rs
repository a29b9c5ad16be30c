//! `[network]`: forward proxies, settings of hosts, and the allowed hosts.

use std::fs;

use super::*;

/// Two upstreams, one by name and one by address, with further keys.
fn text(network: &str, own: &str) -> String {
    format!(
        "{network}\n[upstreams.azure]\nurl = \"https://a.corp.example\"\napi_key = {{ value = \"k\" }}\n{own}\n\
         [upstreams.local]\nprovider = \"other\"\nurl = \"http://10.1.2.3:8000/v1\"\napi_key = \"none\"\n\
         default_model = \"m\"\n[[routes]]\nmodel = \"m\"\nupstream = \"local\"\n[[routes]]\nupstream = \"azure\"\n"
    )
}

/// The proxies of azure and local.
fn ways(network: &str, own: &str, variables: &[(&str, &str)]) -> [Option<String>; 2] {
    let loaded = load_text(Some(&text(network, own)), variables, None)
        .unwrap_or_else(|mistakes| panic!("{network}\n{own}\n{mistakes}"));
    let [azure, local] = &loaded.settings.upstreams[..] else { panic!("two upstreams") };
    [azure, local].map(|upstream| upstream.proxy.as_ref().map(|proxy| proxy.address.to_string()))
}

#[test]
fn proxy_is_chosen_by_the_nearest_place_alone() {
    let env = &[("HTTPS_PROXY", "http://env-s:1"), ("HTTP_PROXY", "env-p:2")][..];
    let (of_env, of_network, own) = (
        ["http://env-s:1", "http://env-p:2"],
        "[network]\nproxy = \"http://all:3\"",
        "proxy = \"http://own:4\"",
    );
    for (network, own, variables, expected) in [
        ("", "", &[][..], ["", ""]),
        ("", "", env, of_env),
        (of_network, "", env, ["http://all:3", "http://all:3"]),
        (of_network, own, env, ["http://own:4", "http://all:3"]),
        ("", own, env, ["http://own:4", "http://env-p:2"]),
        ("", "proxy = \"none\"", env, ["", "http://env-p:2"]),
        ("[network]\nproxy = \"none\"", "", env, ["", ""]),
        ("[network]\nproxy = \"none\"", own, env, ["http://own:4", ""]),
        ("", "", &[("ALL_PROXY", "socks5h://s"), ("NO_PROXY", "10.0.0.0/8")], ["socks5h://s:1080", ""]),
        ("", "", &[("all_proxy", "https://s"), ("no_proxy", "corp.example")], ["", "https://s:443"]),
        ("[network.proxy]\nurl = \"http://all:3\"", "", &[("STREAMGAUGE_NETWORK__PROXY", "none")], ["", ""]),
        (
            "",
            "",
            &[
                ("STREAMGAUGE_NETWORK__PROXY__URL", "http://var:5"),
                ("STREAMGAUGE_NETWORK__PROXY__ONLY", "10.1.2.3, x"),
            ],
            ["", "http://var:5"],
        ),
    ] {
        let expected = expected.map(|way| Some(way.to_owned()).filter(|way| !way.is_empty()));
        assert_eq!(ways(network, own, variables), expected, "{network}\n{own}\n{variables:?}");
    }
}

#[test]
fn bypass_and_only_match_the_host_as_written() {
    for (lists, through) in [
        ("bypass = []", [true, true]),
        ("bypass = [\"a.corp.example\"]", [false, true]),
        ("bypass = [\"corp.example\"]", [true, true]),
        ("bypass = [\".example\"]", [false, true]),
        ("bypass = [\"10.0.0.0/8\", \"fd00::/8\"]", [true, false]),
        ("bypass = [\"*\"]", [false, false]),
        ("only = []", [true, true]),
        ("only = [\".corp.example\"]", [true, false]),
        ("only = [\"10.1.2.3\"]", [false, true]),
        ("only = [\"*\"]\nbypass = [\"10.1.2.3\"]", [true, false]),
    ] {
        let network = format!("[network.proxy]\nurl = \"http://all:3\"\n{lists}");
        // The environment has no effect if the configuration names a proxy.
        let found = ways(&network, "", &[("ALL_PROXY", "http://env:1")]);
        assert_eq!(found, through.map(|through| through.then(|| "http://all:3".to_owned())), "{lists}");
    }
}

#[test]
fn proxy_credentials_come_from_secrets_or_a_variable() {
    let network = "[network.proxy]\nurl = \"http://p:3\"\nusername = \"me\"\npassword = { env = \"PW\" }\n\
                   headers = { X-Team = \"t\", X-Key = { value = \"marker-2\" } }";
    for (network, variables) in
        [(network, &[("PW", "marker-1@")][..]), ("", &[("ALL_PROXY", "http://me:marker-1%40@p:3")])]
    {
        let loaded = load_text(Some(&text(network, "")), variables, None)
            .unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let proxy = loaded.settings.upstreams[0].proxy.as_ref().unwrap();
        let (username, password) = proxy.credentials.as_ref().unwrap();
        assert_eq!((username.as_str(), password.expose()), ("me", "marker-1@"));
        let shown = format!("{loaded:?} {loaded:#?}");
        assert!(shown.contains("***") && !shown.contains("marker"), "{shown}");
    }
}

#[test]
fn invalid_proxy_variable_is_named_once_without_its_text() {
    for (value, reason) in [
        ("ftp://hunter2@p", "its scheme is none of"),
        ("http://me:hunter2@p/x", "a path"),
        ("http://m%3ae:hunter2@p", "has a colon"),
        ("socks5://me@hunter2", "has no password, which SOCKS5 requires"),
    ] {
        let found = lines(load_text(Some(&text("", "")), &[("ALL_PROXY", value)], None).expect_err(value));
        assert_eq!(found.len(), 1, "{value}: {found:?}");
        assert!(found[0].starts_with("environment ALL_PROXY: ") && found[0].contains(reason), "{found:?}");
        assert!(!found[0].contains("hunter2"), "{found:?}");
        let ignored = ways("[network]\nproxy = \"none\"", "", &[("ALL_PROXY", value)]);
        assert_eq!(ignored, [None, None], "an unused variable may be invalid");
    }
}

#[test]
fn proxy_variable_does_not_apply_to_this_machine() {
    for host in ["127.0.0.1", "localhost", "[::1]"] {
        let text = format!(
            "[upstreams.local]\nprovider = \"other\"\nurl = \"http://{host}:8000/v1\"\napi_key = \"none\"\ndefault_model = \"m\""
        );
        let loaded = load_text(Some(&text), &[("HTTP_PROXY", "p:1"), ("ALL_PROXY", "p:1")], None).unwrap();
        assert!(loaded.settings.upstreams[0].proxy.is_none(), "{host}");
    }
}

#[test]
fn host_settings_apply_to_its_upstreams_and_their_own_win() {
    let hosts = "[[network.hosts]]\nurl = \"https://A.corp.example:443\"\n\
                 timeouts = { connect = \"1s\", idle = \"2s\", total = \"9s\" }\n\
                 [[network.hosts]]\nurl = \"https://10.1.2.3:8000\"\ntimeouts = { idle = \"3s\" }";
    let own = "timeouts = { idle = \"4s\", total = \"\" }";
    let Loaded { settings, warnings, .. } = from_text(&text(hosts, own)).unwrap();
    let unused = "configuration: network.hosts: no upstream is on https://10.1.2.3:8000";
    assert!(warnings.len() == 1 && warnings[0].starts_with(unused), "{warnings:?}");
    let seconds = |upstream: &Upstream| {
        let Timeouts { connect, first_byte, idle, total, .. } = upstream.timeouts;
        ([connect, first_byte, idle].map(|time| time.as_secs()), total.map(|time| time.as_secs()))
    };
    assert_eq!(seconds(&settings.upstreams[0]), ([1, 200, 4], None), "the upstream's own word counts first");
    assert_eq!(seconds(&settings.upstreams[1]), ([5, 200, 120], None), "another scheme is another host");
}

#[test]
fn upstream_outside_the_allowed_hosts_is_refused() {
    for (allowed, refused) in [
        ("[\"*\"]", &[][..]),
        ("[\"*.corp.example\", \"10.1.2.3\"]", &[]),
        ("[\"A.corp.example\"]", &["local"]),
        ("[\"*.example\"]", &["local"]),
        ("[\"corp.example\"]", &["azure", "local"]),
    ] {
        let text = text(&format!("[network]\nallowed_hosts = {allowed}"), "");
        let found = from_text(&text).map_or_else(lines, |_| Vec::new());
        assert_eq!(found.len(), refused.len(), "{allowed}: {found:?}");
        for (found, name) in found.iter().zip(refused) {
            assert!(
                found.starts_with(&format!("configuration: upstreams.{name}.url: ")),
                "{allowed}: {found}"
            );
            assert!(found.contains("is not among network.allowed_hosts"), "{found}");
        }
    }
}

#[test]
fn authorities_of_a_proxy_are_read_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = rcgen::generate_simple_self_signed(["proxy".to_owned()]).unwrap().cert.pem();
    let file = |name: &str, content: &str| {
        fs::write(folder.path().join(name), content).unwrap();
        format!("{{ file = {:?} }}", folder.path().join(name))
    };
    let with = |ca: &str| text(&format!("[network.proxy]\nurl = \"https://p\"\nca = {ca}"), "");
    let ca = |ca: &str| settings(&with(ca)).upstreams[0].proxy.as_ref().unwrap().tls.ca.len();
    assert_eq!(ca(&file("two", &format!("a bundle\r\n{certificate}\n{certificate}"))), 1, "one source");
    for ca in [
        "{ file = \"gone\" }".to_owned(),
        "{ file = \"\" }".to_owned(),
        "{}".to_owned(),
        "\"gone\"".to_owned(),
        file("none", "no certificate"),
        file("cut", &certificate[..200]),
        file("der", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    ] {
        let found = mistakes(&with(&ca));
        assert_eq!(found.len(), 1, "{ca}: {found:?}");
        assert!(found[0].starts_with("configuration: network.proxy.ca"), "{ca}: {found:?}");
    }
}
