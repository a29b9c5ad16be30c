//! `[upstreams.NAME.tls]` and `[server.tls]`: forms, mistakes and warnings.

mod hosts;

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::certificates::Authority;
use super::*;
use crate::tls::{ClientCertificates, Verification};

/// A directory with a configuration beside certificates.
struct Folder {
    folder: tempfile::TempDir,
    ca: Authority,
}

impl Folder {
    fn new() -> Self {
        let ca = Authority::new("ours");
        let folder = Self { folder: tempfile::tempdir().unwrap(), ca };
        let (one, two) = (folder.ca.issue("one", &[]), folder.ca.issue("two", &[]));
        let old = folder.ca.issue_expired("old", &[]);
        let locked = folder.ca.issue_encrypted("locked", "marker");
        for (name, text) in [
            ("one.crt", &one.certificate),
            ("one.key", &one.key),
            ("two.key", &two.key),
            ("old.crt", &old.certificate),
            ("old.key", &old.key),
            ("locked.crt", &locked.certificate),
            ("locked.key", &locked.key),
            ("ca.crt", &folder.ca.pem()),
            ("empty.crt", &"\n".to_owned()),
        ] {
            fs::write(folder.path(name), text).unwrap();
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn load(&self, text: &str, variables: &[(&str, &str)]) -> Result<Loaded, Mistakes> {
        let path = self.path("streamgauge.toml");
        fs::write(&path, text).unwrap();
        load(&Sources { file: Some(path), env: env(variables), ..Sources::default() })
    }

    /// An upstream with these lines in its `[tls]`.
    fn upstream(&self, tls: &str) -> Result<Loaded, Mistakes> {
        self.load(&format!("{INTERNAL}api_key = \"none\"\n[upstreams.internal.tls]\n{tls}"), &[])
    }

    /// A server with these lines in its `[tls]`.
    fn server(&self, tls: &str) -> Result<Loaded, Mistakes> {
        self.load(&format!("{OPENAI}[server.tls]\n{tls}"), &[])
    }

    fn lines(&self, mistakes: Result<Loaded, Mistakes>) -> Vec<String> {
        let folder = format!("{}/", self.folder.path().display());
        lines(mistakes.expect_err("no mistake")).iter().map(|line| line.replace(&folder, "")).collect()
    }
}

const INTERNAL: &str =
    "[upstreams.internal]\nprovider = \"other\"\nurl = \"https://llm.internal/v1\"\ndefault_model = \"m\"\n";

const PAIR: &str = "certificate = { file = \"one.crt\" }\nprivate_key = { file = \"one.key\" }\n";

#[test]
fn tls_mistake_names_its_key_and_what_was_found() {
    let folder = Folder::new();
    for (tls, key, reason) in [
        (
            "verification_mode = \"strict\"",
            ".verification_mode",
            "\"strict\" is unknown: write \"full\", \"certificate\" or \"none\"",
        ),
        (
            "certificate = { file = \"one.crt\" }",
            ".private_key",
            "is missing, and certificate, which is there, has no effect",
        ),
        (
            "private_key = { file = \"one.key\" }",
            ".certificate",
            "is missing, and private_key, which is there, has no effect",
        ),
        (
            "certificate = { file = \"one.crt\" }\nprivate_key = { file = \"two.key\" }",
            ".private_key",
            "two.key does not belong to the certificate of CN=one in one.crt",
        ),
        (
            "certificate = { file = \"one.key\" }\nprivate_key = { file = \"one.key\" }",
            ".certificate",
            "one.key has no certificate: it holds PRIVATE KEY",
        ),
        (
            "certificate = { file = \"gone\" }\nprivate_key = { file = \"one.key\" }",
            ".certificate",
            "there is no file gone",
        ),
        (
            "certificate = { file = \"empty.crt\" }\nprivate_key = { file = \"one.key\" }",
            ".certificate",
            "empty.crt is empty",
        ),
        (
            "certificate = \"one.crt\"\nprivate_key = { file = \"one.key\" }",
            ".certificate",
            "is a table that says where the PEM is: write { file",
        ),
        (
            "certificate = {}\nprivate_key = { file = \"one.key\" }",
            ".certificate",
            "does not say where the PEM is",
        ),
        (
            "certificate = { file = \"a\", env = \"B\" }\nprivate_key = { file = \"one.key\" }",
            ".certificate",
            "has env and file at once",
        ),
        (
            "certificate = { env = \"GONE\" }\nprivate_key = { file = \"one.key\" }",
            ".certificate.env",
            "the environment variable GONE is not set",
        ),
        (
            "certificate = { data = \"marker;\" }\nprivate_key = { file = \"one.key\" }",
            ".certificate.data",
            "is neither PEM nor the base64 of PEM",
        ),
        (
            "certificate = { file = \"locked.crt\" }\nprivate_key = { file = \"locked.key\" }",
            ".passphrase",
            "the private key in locked.key is encrypted; write passphrase",
        ),
        (
            "certificate = { file = \"locked.crt\" }\nprivate_key = { file = \"locked.key\" }\npassphrase = { value = \"marker2\" }",
            ".passphrase",
            "does not open the private key in locked.key",
        ),
        ("ca = []", ".ca", "is an empty list"),
        ("ca = { file = \"one.key\" }", ".ca", "one.key has no certificate: it holds PRIVATE KEY"),
        ("ca = [{ file = \"ca.crt\" }, { file = \"gone\" }]", ".ca", "there is no file gone"),
        ("ca_adds_to_system = true", ".ca_adds_to_system", "adds nothing to the system's authorities"),
        ("verify = true", ".verify", "unknown key"),
    ] {
        let found = folder.lines(folder.upstream(tls));
        assert_eq!(found.len(), 1, "{tls}: {found:#?}");
        assert!(
            found[0].starts_with(&format!("streamgauge.toml: upstreams.internal.tls{key}: ")),
            "{tls}: {found:?}"
        );
        assert!(found[0].contains(reason), "{reason:?} in {found:?}");
        assert!(!found[0].contains("marker"), "{found:?}");
    }
    for (tls, key, reason) in [
        ("", ".certificate", "is missing"),
        ("client_ca = { file = \"ca.crt\" }", ".private_key", "is missing"),
        (
            &format!("{PAIR}client_certificates = \"required\"")[..],
            ".client_certificates",
            "has no effect without client_ca",
        ),
        (
            &format!("{PAIR}client_ca = {{ file = \"ca.crt\" }}\nclient_certificates = \"yes\""),
            ".client_certificates",
            "\"yes\" is unknown: write \"optional\" or \"required\"",
        ),
        (&format!("{PAIR}client_ca = {{ file = \"gone\" }}"), ".client_ca", "there is no file gone"),
    ] {
        let found = folder.lines(folder.server(tls));
        let named = found.iter().any(|line| {
            line.starts_with(&format!("streamgauge.toml: server.tls{key}: ")) && line.contains(reason)
        });
        assert!(named, "{reason:?} in {found:?}");
    }
    let found = folder.lines(folder.load(
        &format!("{}api_key = \"none\"\ntls.verification_mode = \"full\"", INTERNAL.replace("https", "http")),
        &[],
    ));
    assert!(
        found.len() == 1 && found[0].contains("upstreams.internal.tls: has no effect on an http:// url"),
        "{found:?}"
    );
}

#[test]
fn client_certificate_replaces_the_key_of_other_services() {
    let folder = Folder::new();
    let without = folder.lines(folder.load(INTERNAL, &[]));
    assert!(
        without[0].contains("api_key: is missing") && without[0].contains("with a client certificate"),
        "{without:?}"
    );
    let tls = format!("[upstreams.internal.tls]\n{PAIR}");
    let alone = folder.load(&format!("{INTERNAL}{tls}"), &[]).unwrap().settings;
    assert!(alone.upstreams[0].api_key.is_none() && alone.upstreams[0].tls.identity.is_some());
    let both = folder.load(&format!("{INTERNAL}api_key = {{ value = \"k\" }}\n{tls}"), &[]).unwrap().settings;
    assert!(both.upstreams[0].api_key.is_some() && both.upstreams[0].tls.identity.is_some());
    let openai = folder.load(&format!("[upstreams.openai.tls]\n{PAIR}"), &[]);
    assert!(folder.lines(openai)[0].contains("upstreams.openai.api_key: is missing"));
}

#[test]
fn pem_is_read_from_every_form() {
    let folder = Folder::new();
    let read = |name: &str| fs::read_to_string(folder.path(name)).unwrap();
    let (certificate, key) = (read("one.crt"), read("one.key"));
    let data = format!(
        "certificate = {{ data = \"{}\" }}\nprivate_key = {{ env = \"KEY\" }}\nca = [{{ file = \"ca.crt\" }}, {{ env = \"CA\" }}]\nca_adds_to_system = true",
        STANDARD.encode(&certificate)
    );
    let text = format!("{INTERNAL}[upstreams.internal.tls]\n{data}");
    let one_line = key.replace('\n', " ");
    let loaded = folder.load(&text, &[("KEY", &one_line), ("CA", &folder.ca.pem())]);
    let Loaded { settings, warnings, .. } = loaded.unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(warnings, [""; 0]);
    let tls = &settings.upstreams[0].tls;
    assert_eq!((tls.verification, tls.ca.len(), tls.ca_adds_to_system), (Verification::Full, 2, true));
    let inside = key.lines().nth(1).unwrap();
    assert!(!format!("{settings:?}").contains(inside), "no Debug shows a key");
}

#[test]
fn tls_dangers_are_warned_of() {
    let folder = Folder::new();
    for (tls, expected) in [
        ("verification_mode = \"none\"", &["verification_mode: nothing of the certificate is verified"][..]),
        (
            "verification_mode = \"none\"\nca = { file = \"ca.crt\" }",
            &["verification_mode: nothing", "ca: is not used"],
        ),
        ("verification_mode = \"certificate\"", &[]),
        (
            "certificate = { file = \"old.crt\" }\nprivate_key = { file = \"old.key\" }",
            &["certificate: the certificate of CN=old expired on 2020-01-01"],
        ),
        (&format!("{PAIR}passphrase = {{ value = \"p\" }}"), &["passphrase: is not used"]),
    ] {
        let warnings = folder.upstream(tls).unwrap_or_else(|mistakes| panic!("{mistakes}")).warnings;
        assert_eq!(warnings.len(), expected.len(), "{tls}: {warnings:?}");
        for (warning, expected) in warnings.iter().zip(expected) {
            assert!(
                warning.contains(&format!("upstreams.internal.tls.{expected}")),
                "{expected:?} in {warning:?}"
            );
        }
    }
}

#[test]
fn client_certificate_key_alone_requires_the_others() {
    let folder = Folder::new();
    let found = folder.lines(folder.upstream("passphrase = { value = \"marker\" }"));
    let missing = [
        "certificate: is missing, and passphrase, which is there",
        "private_key: is missing, and passphrase",
    ];
    assert_eq!(found.len(), 2, "{found:?}");
    for (line, expected) in found.iter().zip(missing) {
        assert!(line.contains(&format!("upstreams.internal.tls.{expected}")), "{expected:?} in {line:?}");
    }
    // The client certificate makes the missing key of the service valid.
    let found =
        folder.lines(folder.load(&format!("{INTERNAL}tls.certificate = {{ file = \"one.crt\" }}"), &[]));
    assert!(found.len() == 1 && found[0].contains("tls.private_key: is missing"), "{found:?}");
    let swapped = "certificate = { file = \"one.crt\" }\nprivate_key = { file = \"one.crt\" }";
    let found = folder.lines(folder.upstream(swapped));
    assert!(found.len() == 1 && found[0].contains("one.crt has no private key"), "{found:?}");
}

#[test]
fn certificate_not_yet_valid_is_warned_of_with_its_date() {
    let folder = Folder::new();
    let mut params = super::certificates::leaf("early", &[]);
    (params.not_before, params.not_after) =
        (rcgen::date_time_ymd(2090, 5, 1), rcgen::date_time_ymd(2091, 5, 1));
    let pair = folder.ca.sign(params, &rcgen::KeyPair::generate().unwrap());
    fs::write(folder.path("early.crt"), &pair.certificate).unwrap();
    fs::write(folder.path("early.key"), &pair.key).unwrap();
    let early = "certificate = { file = \"early.crt\" }\nprivate_key = { file = \"early.key\" }\n";
    for (loaded, table) in
        [(folder.upstream(early), "upstreams.internal.tls"), (folder.server(early), "server.tls")]
    {
        let warnings = loaded.unwrap_or_else(|mistakes| panic!("{mistakes}")).warnings;
        let expected =
            format!("{table}.certificate: the certificate of CN=early is not valid before 2090-05-01");
        assert!(warnings.len() == 1 && warnings[0].contains(&expected), "{expected:?} in {warnings:?}");
    }
}

#[test]
fn required_client_certificates_allow_other_machines() {
    let folder = Folder::new();
    let open = "[server]\nlisten = \"0.0.0.0:8080\"\n";
    let load = |tls: &str| folder.load(&format!("{OPENAI}{open}{tls}"), &[]);
    let ca = "client_ca = { file = \"ca.crt\" }\n";
    let tls = format!("[server.tls]\n{PAIR}");
    let settings = load(&format!("{tls}{ca}")).unwrap_or_else(|mistakes| panic!("{mistakes}")).settings;
    assert_eq!(settings.server.tls.unwrap().client_certificates, ClientCertificates::Required, "the default");
    for wrong in [String::new(), tls.clone(), format!("{tls}{ca}client_certificates = \"optional\"")] {
        let found = folder.lines(load(&wrong));
        assert!(
            found.len() == 1 && found[0].contains("server.listen: 0.0.0.0:8080 can be reached"),
            "{found:?}"
        );
    }
}
