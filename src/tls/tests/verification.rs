//! The three modes against every kind of certificate.

use Verification::{Certificate, Full, None as Nothing};

use super::*;

const HOST: &str = "llm.internal";

/// The verdict of each mode on a server with this certificate, requested as `name` by a client that
/// trusts `ca`.
fn modes(pair: &Pair, name: &str, ca: &str) -> [Result<(), String>; 3] {
    let server = server_config(&server(pair));
    [Full, Certificate, Nothing].map(|mode| {
        let config = client_config(&client(mode, ca));
        handshake(&config, name, &server).map(drop).map_err(|error| error.to_string())
    })
}

/// Checks which of `full`, `certificate` and `none` accept it, and the messages of the first two.
fn assert_modes(what: &str, pair: &Pair, name: &str, ca: &str, expected: [Result<(), &str>; 2]) {
    let [full, certificate, nothing] = modes(pair, name, ca);
    for (mode, found, expected) in [("full", full, expected[0]), ("certificate", certificate, expected[1])] {
        match (found, expected) {
            (Ok(()), Ok(())) => {}
            (Err(found), Err(expected)) => {
                assert!(found.contains(expected), "{what}, {mode}: {expected:?} in {found:?}");
            }
            (found, expected) => panic!("{what}, {mode}: {expected:?} expected, found {found:?}"),
        }
    }
    assert_eq!(nothing, Ok(()), "{what}, none");
}

#[test]
fn each_mode_takes_what_it_should_and_nothing_else() {
    let ours = Authority::new("ours");
    let ca = &ours.pem();
    let good = [Ok(()), Ok(())];
    assert_modes("good", &ours.issue("good", &[HOST]), HOST, ca, good);
    assert_modes("wildcard", &ours.issue("wild", &["*.llm.internal"]), "eu.llm.internal", ca, good);
    assert_modes("an address", &ours.issue("address", &["10.1.2.3", "::1"]), "10.1.2.3", ca, good);
    assert_modes("IPv6", &ours.issue("address", &["10.1.2.3", "::1"]), "::1", ca, good);
    assert_modes("behind an intermediate", &ours.intermediate("mid").issue("deep", &[HOST]), HOST, ca, good);

    let name = [Err("not valid for name"), Ok(())];
    assert_modes("wrong name", &ours.issue("other", &["other.internal"]), HOST, ca, name);
    assert_modes("wrong address", &ours.issue("other", &["10.1.2.4"]), "10.1.2.3", ca, name);
    assert_modes("an address as a host name", &ours.issue("dns", &[HOST]), "10.1.2.3", ca, name);
    assert_modes(
        "wildcard of one level only",
        &ours.issue("wild", &["*.llm.internal"]),
        "a.eu.llm.internal",
        ca,
        name,
    );
    assert_modes("a common name is no name", &ours.issue(HOST, &["other.internal"]), HOST, ca, name);

    let issuer = [Err("UnknownIssuer"), Err("UnknownIssuer")];
    let stranger = Authority::new("stranger");
    assert_modes("unknown issuer", &stranger.issue("good", &[HOST]), HOST, ca, issuer);
    let mut short = ours.intermediate("mid").issue("deep", &[HOST]);
    short.certificate.truncate(short.certificate.find("-----END CERTIFICATE-----").unwrap() + 26);
    assert_modes("its intermediate is not sent", &short, HOST, ca, issuer);
    assert_modes("self-signed", &self_signed(&[HOST], false), HOST, ca, issuer);

    let time = [Err("expired"), Err("expired")];
    assert_modes("expired", &ours.issue_expired("old", &[HOST]), HOST, ca, time);
}

#[test]
fn self_signed_certificate_is_accepted_if_it_is_itself_trusted() {
    for is_authority in [false, true] {
        let pair = self_signed(&[HOST], is_authority);
        let what = format!("an authority: {is_authority}");
        assert_modes(&what, &pair, HOST, &pair.certificate, [Ok(()), Ok(())]);
        assert_modes(&what, &pair, "other", &pair.certificate, [Err("not valid for name"), Ok(())]);
        let twin = self_signed(&[HOST], is_authority);
        let [full, certificate, _] = modes(&pair, HOST, &twin.certificate);
        assert!(full.is_err() && certificate.is_err(), "another one of the same name is no proof");
    }
}

#[test]
fn a_pinned_certificate_still_expires() {
    let ours = Authority::new("ours");
    let old = ours.issue_expired("old", &[HOST]);
    assert_modes("pinned and expired", &old, HOST, &old.certificate, [Err("expired"), Err("expired")]);
}

#[test]
fn signatures_of_the_handshake_are_verified_unless_nothing_is() {
    // The server presents a certificate but signs with another key of the same kind.
    let ours = Authority::new("ours");
    let (shown, signs) = (ours.issue("shown", &[HOST]), ours.issue("signs", &[HOST]));
    let shown = Identity::read(&identity(&shown)).unwrap();
    let signs = Identity::read(&identity(&signs)).unwrap();
    let forged = rustls::sign::CertifiedKey::new(shown.key.cert.clone(), Arc::clone(&signs.key.key));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(forged.clone())));
        let config = Arc::new(config);
        for (mode, taken) in [(Full, false), (Certificate, false), (Nothing, true)] {
            let found = handshake(&client_config(&client(mode, &ours.pem())), HOST, &config);
            assert_eq!(found.is_ok(), taken, "{mode:?} {version:?} {:?}", found.err());
        }
    }
}

#[test]
fn authorities_replace_those_of_the_system_or_add_to_them() {
    let (one, two) = (Authority::new("one"), Authority::new("two"));
    let bundle = format!("{}{}", one.pem(), two.pem());
    for authority in [&one, &two] {
        assert_modes("a bundle", &authority.issue("good", &[HOST]), HOST, &bundle, [Ok(()), Ok(())]);
    }
    let roots = |settings: &ClientSettings| Authorities::read(&settings.ca).unwrap().roots.len();
    let mut settings = client(Full, &bundle);
    assert_eq!(roots(&settings), 2);
    settings.ca_adds_to_system = true;
    settings.ca.push(text(&Authority::new("three").pem()));
    assert_eq!(roots(&settings), 3);
    let server = server_config(&server(&two.issue("good", &[HOST])));
    handshake(&client_config(&settings), HOST, &server).unwrap();
    let strangers = client_config(&ClientSettings::default());
    assert!(handshake(&strangers, HOST, &server).is_err(), "the system does not know it");
}
