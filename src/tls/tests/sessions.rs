//! Client certificates, protocols, and sessions that are resumed.

use rustls::HandshakeKind;

use super::*;

const HOST: &str = "llm.internal";

fn mutual(server_pair: &Pair, ca: &Authority, certificates: ClientCertificates) -> Arc<ServerConfig> {
    let mut settings = server(server_pair);
    settings.client_ca = vec![text(&ca.pem())];
    settings.client_certificates = certificates;
    server_config(&settings)
}

fn with_identity(ca: &Authority, pair: &Pair) -> Arc<ClientConfig> {
    let mut settings = client(Verification::Full, &ca.pem());
    settings.identity = Some(identity(pair));
    client_config(&settings)
}

#[test]
fn client_certificate_needs_an_authority_that_is_in_use() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let tls = |authorities: &[&Authority]| {
        let mut settings = server(&ours.issue("server", &[HOST]));
        settings.client_ca = authorities.iter().map(|authority| text(&authority.pem())).collect();
        settings.make().unwrap()
    };
    let live = Live::new(tls(&[&ours]));
    let certificate = client_certificate(&ours, &live);
    for (authorities, is_trusted) in
        [(&[&ours, &other][..], true), (&[&other], false), (&[&other, &ours], true), (&[], false)]
    {
        live.replace(tls(authorities));
        for _ in 0..2 {
            assert_eq!(certificate.name().map(|name| &**name), is_trusted.then_some("ada"));
        }
    }
}

#[test]
fn client_sends_its_whole_chain_whose_leaf_names_it() {
    let ours = Authority::new("ours");
    let server = mutual(&ours.issue("server", &[HOST]), &ours, ClientCertificates::Required);
    let pair = ours.intermediate("mid").issue("team-search", &["other-name"]);
    let (_, session) = handshake(&with_identity(&ours, &pair), HOST, &server).unwrap();
    let chain = session.peer_certificates().unwrap();
    assert_eq!(chain.len(), 2, "the intermediate goes along");
    assert_eq!(client_name(&chain[0]).as_deref(), Some("team-search"));
}

#[test]
fn client_without_certificate_is_refused_only_if_required() {
    let ours = Authority::new("ours");
    let pair = ours.issue("server", &[HOST]);
    let nobody = client_config(&client(Verification::Full, &ours.pem()));
    let required = mutual(&pair, &ours, ClientCertificates::Required);
    assert_eq!(handshake(&nobody, HOST, &required).unwrap_err(), rustls::Error::NoCertificatesPresented);
    let optional = mutual(&pair, &ours, ClientCertificates::Optional);
    assert!(handshake(&nobody, HOST, &optional).unwrap().1.peer_certificates().is_none());
    let strange = with_identity(&ours, &Authority::new("stranger").issue("mallory", &[]));
    for config in [required, optional] {
        assert!(handshake(&strange, HOST, &config).is_err(), "a wrong certificate is worse than none");
    }
}

#[test]
fn client_is_named_by_common_name_alternative_name_or_serial() {
    let ours = Authority::new("ours");
    for (common_name, names, expected) in [
        ("search", &["a.internal"][..], "search"),
        (" ", &["a.internal", "b.internal"], "a.internal"),
        ("", &["10.1.2.3"], "10.1.2.3"),
        ("", &["::1"], "::1"),
        ("two\nlines", &[], "two?lines"),
        ("", &[], "07"),
    ] {
        let pair = ours.issue_numbered(7, common_name, names);
        let identity = Identity::read(&identity(&pair)).unwrap();
        assert_eq!(
            client_name(&identity.key.cert[0]).as_deref(),
            Some(expected),
            "{common_name:?} {names:?}"
        );
    }
}

#[test]
fn offered_protocols_are_the_callers_and_server_prefers_http2() {
    let ours = Authority::new("ours");
    let server = server_config(&server(&ours.issue("server", &[HOST])));
    let settings = client(Verification::Full, &ours.pem());
    for (offered, agreed) in [
        (&[HTTP_2, HTTP_1_1][..], Some(HTTP_2)),
        (&[HTTP_1_1, HTTP_2], Some(HTTP_2)),
        (&[HTTP_1_1], Some(HTTP_1_1)),
        (&[], None),
    ] {
        let config = Arc::new(settings.config(offered).unwrap());
        let (client, server) = handshake(&config, HOST, &server).unwrap();
        assert_eq!((client.alpn_protocol(), server.alpn_protocol()), (agreed, agreed));
    }
}

#[test]
fn a_session_is_resumed_and_never_across_two_configurations() {
    let ours = Authority::new("ours");
    let server = mutual(&ours.issue("server", &[HOST]), &ours, ClientCertificates::Required);
    let pair = ours.issue("first", &[]);
    let config = with_identity(&ours, &pair);
    let kind = |config: &Arc<ClientConfig>, server: &Arc<ServerConfig>| {
        let (client, server) = handshake(config, HOST, server).unwrap();
        let name = client_name(&server.peer_certificates().unwrap()[0]);
        (client.handshake_kind().unwrap(), name.unwrap())
    };
    assert_eq!(kind(&config, &server), (HandshakeKind::Full, "first".to_owned()));
    assert_eq!(kind(&config, &server), (HandshakeKind::Resumed, "first".to_owned()));
    let rotated = with_identity(&ours, &ours.issue("second", &[]));
    assert_eq!(kind(&rotated, &server), (HandshakeKind::Full, "second".to_owned()));
    let restarted = mutual(&ours.issue("server", &[HOST]), &ours, ClientCertificates::Required);
    assert_eq!(kind(&config, &restarted).0, HandshakeKind::Full, "old tickets are worth nothing");
}
