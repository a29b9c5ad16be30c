//! `tls` of `[[network.hosts]]`.

use super::*;

/// `[[network.hosts]]` with these lines of its `tls`, for the host of [`INTERNAL`].
fn host(tls: &str) -> String {
    format!("[[network.hosts]]\nurl = \"https://llm.internal:443\"\n[network.hosts.tls]\n{tls}\n")
}

#[test]
fn host_tls_applies_to_its_upstreams_and_their_own_keys_win() {
    let folder = Folder::new();
    let tls = |hosts: &str, own: &str| {
        let text = format!("{}{INTERNAL}[upstreams.internal.tls]\n{own}", host(hosts));
        let settings = folder.load(&text, &[]).unwrap_or_else(|mistakes| panic!("{mistakes}")).settings;
        settings.upstreams.into_iter().next().unwrap().tls
    };
    let ca = "ca = { file = \"ca.crt\" }\n";
    let two = PAIR.replace("one.key", "two.key").replace("one.crt", "two.crt");
    fs::write(folder.path("two.crt"), {
        let key = rcgen::KeyPair::from_pem(&fs::read_to_string(folder.path("two.key")).unwrap()).unwrap();
        folder.ca.issue_for(&key, "two", &[]).certificate
    })
    .unwrap();
    let names = |tls: &crate::tls::ClientSettings| {
        let identity = tls.identity.as_ref().map(|identity| identity.certificate.to_string());
        let name = |path: String| path.rsplit('/').next().unwrap_or_default().to_owned();
        (identity.map(name), tls.verification, tls.ca.len(), tls.ca_adds_to_system)
    };
    let all = format!("{PAIR}{ca}verification_mode = \"certificate\"\nca_adds_to_system = true");
    let one = Some("one.crt".to_owned());
    assert_eq!(
        names(&tls(&all, "")),
        (one.clone(), Verification::Certificate, 1, true),
        "no api_key is needed"
    );
    assert_eq!(names(&tls(&all, "verification_mode = \"full\"")), (one.clone(), Verification::Full, 1, true));
    assert_eq!(
        names(&tls(&all, "ca_adds_to_system = false")),
        (one.clone(), Verification::Certificate, 1, false)
    );
    let several = "ca = [{ file = \"ca.crt\" }, { file = \"one.crt\" }]";
    assert_eq!(names(&tls(&all, several)), (one.clone(), Verification::Certificate, 2, true));
    let own = tls(&format!("{PAIR}{ca}"), &two);
    assert_eq!(names(&own), (Some("two.crt".to_owned()), Verification::Full, 1, false), "a pair is one");
    assert!(own.identity.unwrap().private_key.to_string().ends_with("two.key"));
    let adds = tls(&format!("{PAIR}{ca}"), "ca_adds_to_system = true");
    assert_eq!(names(&adds), (one, Verification::Full, 1, true), "to the host's");
}

#[test]
fn host_tls_mistakes_and_warnings_are_named_once() {
    let folder = Folder::new();
    let load = |tls: &str, more: &str| folder.load(&format!("{}{INTERNAL}{more}", host(tls)), &[]);
    for (tls, key, reason) in [
        (
            "certificate = { file = \"one.crt\" }",
            ".private_key",
            "is missing, and certificate, which is there",
        ),
        ("ca = { file = \"gone\" }", ".ca", "there is no file gone"),
        ("ca_adds_to_system = true", ".ca_adds_to_system", "adds nothing"),
        (&format!("{PAIR}verification = \"full\"")[..], ".verification", "did you mean `verification_mode`?"),
    ] {
        let found = folder.lines(load(tls, ""));
        let expected = format!("streamgauge.toml: network.hosts[0].tls{key}: ");
        assert_eq!(found.len(), 1, "{tls}: {found:#?}");
        assert!(
            found[0].starts_with(&expected) && found[0].contains(reason),
            "{expected}{reason}: {found:?}"
        );
    }
    let plain = host("verification_mode = \"full\"").replace("https", "http");
    let found = folder.lines(folder.load(&format!("{plain}{OPENAI}"), &[]));
    assert!(
        found.len() == 1 && found[0].contains("network.hosts[0].tls: has no effect on an http:// url"),
        "{found:?}"
    );
    let without = folder.lines(load("verification_mode = \"full\"", ""));
    assert!(without.len() == 1 && without[0].contains("internal.api_key: is missing"), "{without:?}");

    let key = "api_key = \"none\"\n";
    let warnings = load("verification_mode = \"none\"", key).unwrap().warnings;
    assert!(
        warnings.len() == 1 && warnings[0].contains("network.hosts[0].tls.verification_mode: nothing"),
        "{warnings:?}"
    );
    let twice = load(PAIR, "tls.verification_mode = \"none\"").unwrap().warnings;
    assert!(
        twice.len() == 1 && twice[0].contains("upstreams.internal.tls.verification_mode: nothing"),
        "{twice:?}"
    );
}
