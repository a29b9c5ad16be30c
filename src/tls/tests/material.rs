//! Keys of every kind and form, and the messages about wrong ones.

use pkcs8::PrivateKeyInfo;
use pkcs8::der::Decode as _;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256};

use super::certificates::{encrypted, pem};
use super::*;
use crate::support::secret::Secret;

#[test]
fn keys_of_every_kind_are_read_in_every_form() {
    let ours = Authority::new("ours");
    for (algorithm, inner) in [
        (&PKCS_RSA_SHA256, Some("RSA PRIVATE KEY")),
        (&PKCS_ECDSA_P256_SHA256, Some("EC PRIVATE KEY")),
        (&PKCS_ECDSA_P384_SHA384, Some("EC PRIVATE KEY")),
        (&PKCS_ED25519, None),
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let pair = ours.issue_for(&key, "any", &["llm.internal"]);
        // PKCS#8 contains PKCS#1 or SEC1 (RFC 5208 section 5, RFC 5915).
        let info = PrivateKeyInfo::from_der(key.serialized_der()).unwrap();
        let mut forms = vec![pair.key.clone()];
        forms.extend(inner.map(|label| pem(label, info.private_key)));
        forms.extend(
            inner
                .filter(|label| label.starts_with("EC"))
                .map(|label| format!("{}{}", pem("EC PARAMETERS", &[6, 0]), pem(label, info.private_key))),
        );
        forms.push(pair.key.replace('\n', "\r\n"));
        forms.push(pair.key.replace('\n', " "));
        forms.push(format!("Bag Attributes\n    friendlyName: x\n{}{}", pair.key, pair.certificate));
        for form in forms {
            let source = IdentitySource { private_key: text(&form), ..identity(&pair) };
            let found = Identity::read(&source).unwrap_or_else(|fault| panic!("{algorithm:?}: {fault}"));
            assert_eq!(found.facts.unwrap().subject, "CN=any");
            let server = ServerSettings { identity: source, ..server(&pair) };
            let client = client_config(&client(Verification::Full, &ours.pem()));
            handshake(&client, "llm.internal", &server_config(&server)).unwrap();
        }
        let source = IdentitySource {
            private_key: text(&encrypted(&key, "pass phrase")),
            passphrase: Some(Secret::new("pass phrase".to_owned())),
            ..identity(&pair)
        };
        assert!(!Identity::read(&source).unwrap().passphrase_unused);
    }
}

#[test]
fn each_fault_says_what_was_found_and_shows_no_secret() {
    let ours = Authority::new("ours");
    let key = KeyPair::generate().unwrap();
    let pair = ours.issue_for(&key, "search", &[]);
    let other = ours.issue("other", &[]);
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let swapped = format!("{}{}", other.certificate, pair.certificate);
    for (certificate, key, passphrase, part, reason) in [
        (
            &pair.key[..],
            &pair.key[..],
            None,
            TlsPart::Certificate,
            "the test has no certificate: it holds PRIVATE KEY",
        ),
        (
            &pair.certificate,
            &pair.certificate,
            None,
            TlsPart::PrivateKey,
            "has no private key: it holds CERTIFICATE",
        ),
        (
            &other.certificate,
            &pair.key,
            None,
            TlsPart::PrivateKey,
            "does not belong to the certificate of CN=other",
        ),
        (
            &swapped,
            &pair.key,
            None,
            TlsPart::Certificate,
            "certificate 2 belongs to the private key, and must come first",
        ),
        (
            &pair.certificate,
            &format!("{}{}", pair.key, other.key),
            None,
            TlsPart::PrivateKey,
            "more than one private key",
        ),
        (&pair.certificate, old, None, TlsPart::PrivateKey, "convert it with openssl pkcs8 -topk8"),
        (
            &pair.certificate,
            &encrypted(&key, "marker"),
            None,
            TlsPart::Passphrase,
            "the private key in the test is encrypted",
        ),
        (
            &pair.certificate,
            &encrypted(&key, "marker"),
            Some("marker2"),
            TlsPart::Passphrase,
            "does not open the private key",
        ),
        (
            &pair.certificate,
            &pem("ENCRYPTED PRIVATE KEY", b"x"),
            Some("marker"),
            TlsPart::PrivateKey,
            "in a way that is not supported",
        ),
        (
            &pair.certificate,
            &pem("DSA PRIVATE KEY", b"x"),
            None,
            TlsPart::PrivateKey,
            "a kind that TLS does not use: DSA PRIVATE KEY",
        ),
        (&pair.certificate, &pem("PRIVATE KEY", b"x"), None, TlsPart::PrivateKey, "damaged, or of a kind"),
        (&pem("CERTIFICATE", b"x"), &pair.key, None, TlsPart::Certificate, "certificate 1 cannot be used"),
    ] {
        let passphrase = passphrase.map(|text: &str| Secret::new(text.to_owned()));
        let source = IdentitySource { certificate: text(certificate), private_key: text(key), passphrase };
        let fault = Identity::read(&source).unwrap_err();
        assert_eq!(fault.part, part, "{fault}");
        assert!(fault.reason.contains(reason), "{reason:?} in {fault}");
        assert!(!format!("{fault} {source:?}").contains("marker"), "{fault}");
    }
    let fault = Authorities::read(&[text(&pem("CERTIFICATE", b"x"))]).unwrap_err();
    assert!(fault.reason.contains("certificate 1 cannot be used"), "{fault}");
}

#[test]
fn base64_of_pem_is_as_good_as_pem_and_anything_else_is_refused() {
    use base64::Engine as _;
    let pair = self_signed(&["a"], false);
    let packed = base64::engine::general_purpose::STANDARD.encode(&pair.certificate);
    let wrapped: String =
        packed.as_bytes().chunks(64).map(|line| format!("{}\n", String::from_utf8_lossy(line))).collect();
    for form in [&pair.certificate, &packed, &wrapped] {
        assert_eq!(decode(form).unwrap(), pair.certificate);
    }
    assert!(decode("se;cret").unwrap_err().contains("neither PEM nor the base64"));
    assert!(decode("c2VjcmV0").unwrap_err().contains("not PEM"));
}

#[test]
fn an_untimely_certificate_is_told_with_its_date() {
    let ours = Authority::new("ours");
    let facts = |pair: &Pair| Identity::read(&identity(pair)).unwrap().facts.unwrap();
    let old = facts(&ours.issue_expired("old", &[]));
    assert_eq!(old.issuer, "CN=ours");
    let now = std::time::SystemTime::now();
    assert_eq!(old.untimely(now).unwrap(), "the certificate of CN=old expired on 2020-01-01T00:00:00Z");
    let early = std::time::SystemTime::UNIX_EPOCH;
    assert_eq!(
        old.untimely(early).unwrap(),
        "the certificate of CN=old is not valid before 2019-01-01T00:00:00Z"
    );
    assert_eq!(facts(&ours.issue("good", &[])).untimely(now), None);
}

#[test]
fn no_debug_shows_a_key() {
    let pair = self_signed(&["a"], false);
    let inside = pair.key.lines().nth(1).unwrap();
    let shown = format!("{:?} {:?}", identity(&pair), Identity::read(&identity(&pair)).unwrap());
    assert!(!shown.contains(inside), "{shown}");
    let config = server(&pair);
    assert!(!format!("{config:?} {:?}", config.make().unwrap()).contains(inside));
}
