//! `entra`, `google` and `aws` of an upstream.

use std::path::PathBuf;

use super::*;
use crate::support::secret::Secret;

const AZURE: &str = "[upstreams.azure]\nurl = \"https://r.openai.azure.com\"\n";
const BEDROCK: &str = "[upstreams.b]\nprovider = \"other\"\nurl = \"https://b/openai/v1\"\ndefault_model = \"m\"\n[upstreams.b.aws]\n";
const VERTEX: &str = "[upstreams.v]\nprovider = \"other\"\nurl = \"https://v/openapi\"\ndefault_model = \"m\"\n[upstreams.v.google]\n";
const APPLICATION: &str = "tenant = \"t-1\"\nclient = \"c-1\"\n";

/// The identity of the only upstream.
fn identity(text: &str, variables: &[(&str, &str)]) -> CloudIdentity {
    let loaded = load_text(Some(text), variables, None).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(loaded.warnings, [""; 0]);
    loaded.settings.upstreams[0].identity.clone().expect("there is one")
}

fn entra(keys: &str, variables: &[(&str, &str)]) -> EntraIdentity {
    match identity(&format!("{AZURE}[upstreams.azure.entra]\n{keys}"), variables) {
        CloudIdentity::Entra(entra) => entra,
        other => panic!("{other:?}"),
    }
}

fn aws(variables: &[(&str, &str)]) -> AwsIdentity {
    match identity(BEDROCK, variables) {
        CloudIdentity::Aws(aws) => aws,
        other => panic!("{other:?}"),
    }
}

/// The only mistake.
fn mistake(text: &str, variables: &[(&str, &str)]) -> String {
    let mistakes = lines(load_text(Some(text), variables, None).expect_err(text));
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    mistakes.into_iter().next().unwrap()
}

fn url_of(endpoint: &TokenEndpoint) -> String {
    format!("{}{}", endpoint.url, endpoint.target)
}

#[test]
fn auto_takes_the_first_proof_that_the_environment_has() {
    let (rsa, _) = rsa();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rsa.certificate + &rsa.key).unwrap();
    let all = [
        ("AZURE_TENANT_ID", "t-1"),
        ("AZURE_CLIENT_ID", "c-1"),
        ("AZURE_FEDERATED_TOKEN_FILE", "/token"),
        ("AZURE_CLIENT_SECRET", "secret-1"),
        ("AZURE_CLIENT_CERTIFICATE_PATH", file.path().to_str().unwrap()),
        ("IDENTITY_ENDPOINT", "http://localhost:42356/msi/token/"),
        ("IDENTITY_HEADER", "header-1"),
    ];
    let client = || "c-1".to_owned();
    for (first, grant, url) in [
        (2, "Workload", "https://login.microsoftonline.com/t-1/oauth2/v2.0/token"),
        (3, "Secret", "https://login.microsoftonline.com/t-1/oauth2/v2.0/token"),
        (4, "Certificate", "https://login.microsoftonline.com/t-1/oauth2/v2.0/token"),
        (5, "Service", "http://localhost:42356/msi/token/"),
        (6, "Machine", "http://169.254.169.254/metadata/identity/oauth2/token"),
    ] {
        let variables: Vec<_> = all[..2].iter().chain(&all[first..]).copied().collect();
        let found = entra("", &variables);
        assert_eq!(url_of(&found.endpoint), url);
        assert!(format!("{:?}", found.grant).starts_with(grant), "{first}: {:?}", found.grant);
        assert!(!format!("{found:?}").contains("secret-1"), "Debug shows no secret");
    }
    assert_eq!(entra("", &all).grant, EntraGrant::Workload { client: client(), token_file: "/token".into() });
    let own = entra("client = \"c-2\"\nby = \"managed_identity\"", &all[..5]);
    assert_eq!(own.grant, EntraGrant::Machine { client: Some("c-2".to_owned()) });
    assert!(own.endpoint.is_machine && own.endpoint.proxy.is_none());
}

#[test]
fn keys_of_entra_have_priority_over_variables() {
    let keys = "tenant = \"t-2\"\nclient = \"c-2\"\nsecret = { value = \"s-2\" }\nauthority = \"https://login.microsoftonline.us/\"\nscope = \"https://ai.azure.com/.default\"";
    let variables =
        [("AZURE_TENANT_ID", "t-1"), ("AZURE_CLIENT_ID", "c-1"), ("AZURE_AUTHORITY_HOST", "https://x")];
    let found = entra(keys, &variables);
    assert_eq!(url_of(&found.endpoint), "https://login.microsoftonline.us/t-2/oauth2/v2.0/token");
    assert_eq!(found.scope, "https://ai.azure.com/.default");
    let secret = Secret::new("s-2".to_owned());
    assert_eq!(found.grant, EntraGrant::Secret { client: "c-2".to_owned(), secret });
}

#[test]
fn mistakes_of_entra_name_their_key() {
    let at = |keys: &str| format!("{AZURE}[upstreams.azure.entra]\n{keys}");
    let secret = "secret = { value = \"s\" }\n";
    for (text, expected) in [
        (
            format!("{AZURE}api_key = {{ value = \"k\" }}\n[upstreams.azure.entra]\n{APPLICATION}{secret}"),
            "upstreams.azure.api_key: is there beside entra, whose tokens are sent in its place: keep one of them",
        ),
        (
            format!("[upstreams.openai]\n[upstreams.openai.entra]\n{APPLICATION}{secret}"),
            "upstreams.openai.entra: has no effect at OpenAI, which takes keys only: write api_key, or another provider",
        ),
        (
            at(&format!("{APPLICATION}{secret}[upstreams.azure.google]")),
            "upstreams.azure.google: is there beside entra: an upstream has one identity, keep one of them",
        ),
        (
            at(&format!("tenant = \"common\"\nclient = \"c\"\n{secret}")),
            "upstreams.azure.entra.tenant: \"common\" stands for any tenant, where this service has no identity: write the id of yours",
        ),
        (
            at(&format!("tenant = \"a/b\"\nclient = \"c\"\n{secret}")),
            "upstreams.azure.entra.tenant: \"a/b\" is neither an id nor a domain of a tenant",
        ),
        (
            at(&format!("{APPLICATION}{secret}scope = \"cognitiveservices\"")),
            "upstreams.azure.entra.scope: \"cognitiveservices\" is not the scope of a service: write a scope in quotes, such as \"https://cognitiveservices.azure.com/.default\"",
        ),
        (
            at(&format!("client = \"c\"\n{secret}")),
            "upstreams.azure.entra.tenant: is missing: write the id of the tenant, or set AZURE_TENANT_ID",
        ),
        (
            at(&format!("tenant = \"t\"\n{secret}")),
            "upstreams.azure.entra.client: is missing: write the application's (client) id, or set AZURE_CLIENT_ID",
        ),
        (
            at(&format!("{APPLICATION}by = \"client_secret\"")),
            "upstreams.azure.entra.secret: is missing: write secret = { env = \"NAME\" }, or set AZURE_CLIENT_SECRET",
        ),
        (
            at(&format!("{APPLICATION}{secret}by = \"managed_identity\"")),
            "upstreams.azure.entra.secret: has no effect by managed_identity: remove it, or change by",
        ),
        (
            at(&format!("{APPLICATION}{secret}authority = \"http://login.example\"")),
            "upstreams.azure.entra.authority: \"http://login.example\" is http:// to another machine: secrets are sent there, write https://",
        ),
        (
            format!("{}[network]\nallowed_hosts = [\"*.azure.com\"]", at(&format!("{APPLICATION}{secret}"))),
            "upstreams.azure.entra.authority: login.microsoftonline.com is not among network.allowed_hosts: add it there",
        ),
    ] {
        assert_eq!(mistake(&text, &[]), format!("streamgauge.toml: {expected}"));
    }
}

#[test]
fn certificate_of_entra_needs_an_rsa_key_and_time() {
    let (rsa, _) = rsa();
    let elliptic = certificates::Authority::new("a").issue("app", &[]);
    let old = {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        certificates::Authority::new("a").sign(params, &key)
    };
    let refused = |certificate: Option<&str>, key: Option<&str>| {
        let [certificate, key] =
            [("certificate", "C", certificate), ("private_key", "K", key)].map(|(name, variable, text)| {
                text.map(|text| (format!("{name} = {{ env = \"{variable}\" }}\n"), (variable, text)))
            });
        let keys: String =
            [&certificate, &key].into_iter().flatten().map(|(line, _)| line.as_str()).collect();
        let variables: Vec<_> =
            [&certificate, &key].into_iter().flatten().map(|(_, variable)| *variable).collect();
        mistake(&format!("{AZURE}[upstreams.azure.entra]\n{APPLICATION}{keys}"), &variables)
    };
    let table = "streamgauge.toml: upstreams.azure.entra.";
    let without_key = refused(Some(&rsa.certificate), None);
    assert!(without_key.starts_with(&format!("{table}private_key: is missing")), "{without_key}");
    let without_certificate = refused(None, Some(&rsa.key));
    assert!(
        without_certificate.starts_with(&format!("{table}certificate: is missing")),
        "{without_certificate}"
    );
    let of_curve = refused(Some(&elliptic.certificate), Some(&elliptic.key));
    assert!(of_curve.starts_with(&format!("{table}private_key: is no RSA key")), "{of_curve}");
    let expired = refused(Some(&old.certificate), Some(&old.key));
    assert!(expired.starts_with(&format!("{table}certificate: the certificate of")), "{expired}");
    assert!(expired.contains("expired on 2021-01-01"), "{expired}");
}

#[test]
fn google_is_the_metadata_server_or_a_service_account() {
    let CloudIdentity::Google(machine) = identity(VERTEX, &[]) else { panic!("google") };
    assert_eq!(
        url_of(&machine.endpoint),
        "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token"
    );
    assert!(machine.endpoint.is_machine && machine.account.is_none());
    let key = rsa().0.key;
    let of = |json: &str| format!("{VERTEX}credentials = {{ value = '{json}' }}");
    let good = service_account(&key, "https://oauth2.googleapis.com/token");
    let CloudIdentity::Google(account) = identity(&of(&good), &[]) else { panic!("google") };
    assert_eq!(url_of(&account.endpoint), "https://oauth2.googleapis.com/token");
    assert_eq!(account.account.unwrap().email, "app@project.iam.gserviceaccount.com");
    let elliptic = certificates::Authority::new("a").issue("app", &[]).key;
    for (json, reason) in [
        ("{".to_owned(), "are not JSON: write the file of a service account's key"),
        ("{}".to_owned(), "have no type: write the file of a service account's key"),
        (
            good.replace("service_account", "external_account"),
            "are of the type \"external_account\": only \"service_account\" is possible",
        ),
        (good.replace("client_email", "email"), "have no client_email"),
        (
            service_account("secret", "https://a/t"),
            "have a private_key that has no block -----BEGIN PRIVATE KEY-----",
        ),
        (service_account(&elliptic, "https://a/t"), "have a private_key that is no RSA key"),
        (
            service_account(&key, "http://a.example/t"),
            "\"http://a.example/t\" is http:// to another machine: secrets are sent there, write https://",
        ),
    ] {
        let expected = format!("streamgauge.toml: upstreams.v.google.credentials: {reason}");
        assert_eq!(mistake(&of(&json), &[]), expected);
    }
    let bounded = format!(
        "{}\n[network]\nallowed_hosts = [\"v\"]",
        of(&service_account(&key, "https://evil.example/t"))
    );
    let expected = "streamgauge.toml: upstreams.v.google.credentials: evil.example is not among network.allowed_hosts: add it there";
    assert_eq!(mistake(&bounded, &[]), expected, "credentials are input");
}

#[test]
fn aws_takes_the_first_credentials_that_the_environment_has() {
    let all = [
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "AKIA"),
        ("AWS_SECRET_ACCESS_KEY", "secret-1"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r"),
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/1"),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/pod-token"),
    ];
    let without = |first: usize| aws(&[&all[..1], &all[first..]].concat()).source;
    let AwsSource::Keys { access_key, .. } = without(1) else { panic!("keys") };
    assert_eq!(access_key, "AKIA");
    let AwsSource::WebIdentity { endpoint, token_file, session, .. } = without(3) else { panic!("web") };
    assert_eq!(url_of(&endpoint), "https://sts.eu-west-1.amazonaws.com/");
    assert_eq!((token_file, session.as_str()), (PathBuf::from("/token"), "streamgauge"));
    let AwsSource::Container { endpoint, authorization } = without(5) else { panic!("container") };
    assert_eq!(url_of(&endpoint), "http://169.254.170.2/v2/credentials/1");
    assert_eq!(authorization, Some(ContainerToken::File("/pod-token".into())));
    let AwsSource::Container { endpoint, .. } = without(6) else { panic!("container") };
    assert_eq!(url_of(&endpoint), "http://169.254.170.23/v1/credentials");
    let AwsSource::Machine { endpoint } = without(8) else { panic!("machine") };
    assert_eq!(url_of(&endpoint), "http://169.254.169.254/");
    assert!(endpoint.is_machine);
}

#[test]
fn mistakes_of_aws_name_key_or_variable() {
    let region = ("AWS_REGION", "us-east-1");
    for (variables, expected) in [
        (
            &[][..],
            "streamgauge.toml: upstreams.b.aws.region: is missing: write the region, such as \"us-east-1\", or set AWS_REGION",
        ),
        (
            &[("AWS_REGION", "US EAST")],
            "AWS_REGION: \"US EAST\" is no region: write one such as \"us-east-1\"",
        ),
        (
            &[region, ("AWS_ACCESS_KEY_ID", "A")],
            "AWS_SECRET_ACCESS_KEY: is missing, and AWS_ACCESS_KEY_ID has no effect without it",
        ),
        (
            &[region, ("AWS_WEB_IDENTITY_TOKEN_FILE", "/t")],
            "AWS_ROLE_ARN: is missing, and AWS_WEB_IDENTITY_TOKEN_FILE has no effect without it",
        ),
        (
            &[region, ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://evil.example/c")],
            "AWS_CONTAINER_CREDENTIALS_FULL_URI: \"http://evil.example/c\" is http:// to another machine: secrets are sent there, write https://",
        ),
        (
            &[region, ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://10.0.0.7")],
            "AWS_EC2_METADATA_SERVICE_ENDPOINT: \"http://10.0.0.7\" is http:// to another machine",
        ),
    ] {
        let found = mistake(BEDROCK, variables);
        assert!(found.contains(expected), "{found:?} is not {expected:?}");
    }
}

#[test]
fn endpoint_elsewhere_has_the_rules_of_the_network() {
    let azure = format!("{AZURE}[upstreams.azure.entra]\nby = \"managed_identity\"\n");
    let of = |url: &'static str| [("IDENTITY_ENDPOINT", url), ("IDENTITY_HEADER", "header-1")];
    for url in [
        "http://127.0.0.1:1/t",
        "http://localhost:1/t",
        "http://169.254.130.2/t",
        "http://[fe80::1]/t",
        "http://172.16.1.5:8081/t",
    ] {
        let CloudIdentity::Entra(entra) = identity(&azure, &of(url)) else { panic!("{url}") };
        assert!(entra.endpoint.is_machine, "{url}");
    }
    let CloudIdentity::Entra(entra) = identity(&azure, &of("https://tokens.example/t")) else { panic!() };
    assert!(!entra.endpoint.is_machine, "a proxy may lead there");
    let found = mistake(&azure, &of("http://11.0.0.7/t"));
    assert!(
        found.contains("IDENTITY_ENDPOINT: \"http://11.0.0.7/t\" is http:// to another machine"),
        "{found}"
    );
    let bounded = format!("{azure}[network]\nallowed_hosts = [\"*.azure.com\"]");
    let found = mistake(&bounded, &of("https://tokens.example/t"));
    assert!(
        found.contains("IDENTITY_ENDPOINT: tokens.example is not among network.allowed_hosts"),
        "{found}"
    );
}

#[test]
fn provider_of_one_cloud_takes_its_identity_only() {
    let region = [("AWS_REGION", "us-east-1"), ("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "s")];
    for (text, expected) in [
        (
            format!("{AZURE}[upstreams.azure.aws]"),
            "upstreams.azure.aws: has no effect at provider \"azure\", which takes tokens of Entra ID only: write entra, or another provider",
        ),
        (
            format!("{AZURE}[upstreams.azure.google]"),
            "upstreams.azure.google: has no effect at provider \"azure\", which takes tokens of Entra ID only: write entra, or another provider",
        ),
        (
            "[upstreams.gemini]\n[upstreams.gemini.aws]".to_owned(),
            "upstreams.gemini.aws: has no effect at provider \"gemini\", which takes tokens of Google only: write google, or another provider",
        ),
    ] {
        assert_eq!(mistake(&text, &region), format!("streamgauge.toml: {expected}"));
    }
}

#[test]
fn region_differs_from_that_of_the_url() {
    let keys = [("AWS_REGION", "us-east-1"), ("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "s")];
    let at = |host: &str| BEDROCK.replace("https://b/", &format!("https://{host}/"));
    for host in [
        "bedrock-runtime.us-east-1.amazonaws.com",
        "bedrock-mantle.us-east-1.api.aws",
        "vpce-1-a.bedrock-runtime.us-east-1.vpce.amazonaws.com",
        "proxy.example",
    ] {
        identity(&at(host), &keys);
    }
    for (host, region) in [
        ("bedrock-runtime.eu-west-1.amazonaws.com", "eu-west-1"),
        ("bedrock-mantle.ap-northeast-1.api.aws", "ap-northeast-1"),
        ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
    ] {
        let expected = format!(
            "streamgauge.toml: upstreams.b.aws.region: is \"us-east-1\", and the url leads to \"{region}\", where its keys are not valid: let both name one region"
        );
        assert_eq!(mistake(&at(host), &keys), expected);
    }
}
