//! The requests for tokens of each cloud.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::*;
use crate::harness::certificates;

/// The claims of a JWT, and its header.
fn claims(token: &str) -> (Value, Value) {
    let mut parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap());
    let mut json = || serde_json::from_slice(&parts.next().unwrap()).unwrap();
    (json(), json())
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[test]
fn workload_identity_reads_its_file_each_time() {
    let failed = sized("500 Internal Server Error", JSON, b"{}");
    let (authority, service) = (Service::new(vec![failed, token("tok-1")]), Service::good());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "federated-1\n").unwrap();
    let tables = format!(
        "[upstreams.azure]\nurl = \"http://{}\"\n[upstreams.azure.entra]\nauthority = \"http://{}\"",
        service.up.address, authority.up.address
    );
    let proxy = proxy()
        .tables(&tables)
        .env("AZURE_TENANT_ID", "t-1")
        .env("AZURE_CLIENT_ID", "c-1")
        .env("AZURE_FEDERATED_TOKEN_FILE", file.path().to_str().unwrap())
        .run();
    assert_eq!(form(&authority.next())["client_assertion"], "federated-1");
    std::fs::write(file.path(), "federated-2").unwrap();
    let form = form(&authority.next());
    assert_eq!(form["client_assertion"], "federated-2");
    assert_eq!(form["client_assertion_type"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    assert!(!form.contains_key("client_secret"));
    assert_eq!(proxy.client().post(PATH, CHAT_REQUEST).response().status(), 200);
}

#[test]
fn certificate_signs_an_assertion_for_the_token_url() {
    let (authority, service) = (Service::new(vec![token("tok-1")]), Service::good());
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let pair = certificates::Authority::new("a").issue_for(&key, "app", &[]);
    let url = authority.up.address;
    let tables = format!(
        "[upstreams.azure]\nurl = \"http://{}\"\n[upstreams.azure.entra]\nby = \"certificate\"\ntenant = \"t-1\"\nclient = \"c-1\"\n\
         authority = \"http://{url}\"\ncertificate = {{ env = \"C\" }}\nprivate_key = {{ env = \"K\" }}",
        service.up.address
    );
    let proxy = proxy().tables(&tables).env("C", &pair.certificate).env("K", &pair.key).run();
    let (header, claims) = claims(&form(&authority.next())["client_assertion"]);
    assert_eq!((&header["alg"], &header["typ"]), (&json!("PS256"), &json!("JWT")));
    assert_eq!(header["x5t#S256"].as_str().unwrap().len(), 43);
    assert_eq!(claims["aud"], format!("http://{url}/t-1/oauth2/v2.0/token"));
    assert_eq!((&claims["iss"], &claims["sub"]), (&json!("c-1"), &json!("c-1")));
    let issued = claims["iat"].as_i64().unwrap();
    assert!((now() - issued).abs() < 20);
    assert_eq!(claims["exp"], issued + 600);
    assert_eq!(proxy.client().post(PATH, CHAT_REQUEST).response().status(), 200);
}

#[test]
fn managed_identity_is_asked_by_its_header() {
    let life =
        json!({"access_token": "tok-1", "expires_in": "86399", "token_type": "Bearer", "resource": "r"});
    for (variable, line, name, value) in [
        (
            "AZURE_POD_IDENTITY_AUTHORITY_HOST",
            "GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fcognitiveservices.azure.com&client_id=u-1 HTTP/1.1",
            "metadata",
            "true",
        ),
        (
            "IDENTITY_ENDPOINT",
            "GET /msi/token?api-version=2019-08-01&resource=https%3A%2F%2Fcognitiveservices.azure.com&client_id=u-1 HTTP/1.1",
            "x-identity-header",
            "header-marker",
        ),
    ] {
        let (authority, service) = (Service::new(vec![ok(&life)]), Service::good());
        let tables = format!(
            "[network]\nproxy = \"http://127.0.0.1:1\"\n[upstreams.azure]\nproxy = \"none\"\nurl = \"http://{}\"\n[upstreams.azure.entra]\nclient = \"u-1\"",
            service.up.address
        );
        let path = if variable == "IDENTITY_ENDPOINT" { "/msi/token" } else { "" };
        let url = format!("http://{}{path}", authority.up.address);
        let proxy = proxy().tables(&tables).env(variable, &url).env("IDENTITY_HEADER", "header-marker").run();
        let request = authority.next();
        assert_eq!((request.line(), request.header(name)), (line, Some(value)), "no proxy leads there");
        assert_eq!(proxy.client().post(PATH, CHAT_REQUEST).response().status(), 200);
        assert_eq!(bearer(&service.next()), "tok-1");
    }
}

#[test]
fn authority_is_reached_through_the_forward_proxy() {
    let (seen, tunnels) = mpsc::channel();
    let forward = upstream(move |connection| {
        if let Some(request) = connection.request() {
            seen.send(request.line().to_owned()).unwrap();
            connection.send("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let tables = format!(
        "[network]\nproxy = \"http://{}\"\n[upstreams.azure]\nproxy = \"none\"\nurl = \"http://127.0.0.1:1\"\n[upstreams.azure.entra]\n\
         tenant = \"t\"\nclient = \"c\"\nsecret = {{ value = \"s\" }}\nauthority = \"https://login.example\"",
        forward.address
    );
    let _proxy = proxy().tables(&tables).run();
    assert_eq!(tunnels.recv_timeout(PATIENCE).unwrap(), "CONNECT login.example:443 HTTP/1.1");
}

fn other(service: &Service, table: &str) -> Builder {
    proxy().tables(&format!(
        "[upstreams.up]\nprovider = \"other\"\nurl = \"http://{}/openai/v1\"\ndefault_model = \"m\"\n{table}",
        service.up.address
    ))
}

#[test]
fn service_account_of_google_signs_for_its_token_uri() {
    let (authority, service) = (Service::new(vec![token("ya29.tok")]), Service::good());
    let uri = format!("http://{}/token", authority.up.address);
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap().serialize_pem();
    let account = json!({
        "type": "service_account", "client_email": "app@p.iam.gserviceaccount.com", "private_key_id": "k1",
        "private_key": key, "token_uri": uri,
    });
    let tables = "[upstreams.up.google]\ncredentials = { env = \"GOOGLE_CREDENTIALS\" }";
    let proxy = other(&service, tables).env("GOOGLE_CREDENTIALS", &account.to_string()).run();
    let request = authority.next();
    assert_eq!(request.line(), "POST /token HTTP/1.1");
    let form = form(&request);
    assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
    let (header, claims) = claims(&form["assertion"]);
    assert_eq!(header, json!({"alg": "RS256", "typ": "JWT", "kid": "k1"}));
    assert_eq!(claims["iss"], "app@p.iam.gserviceaccount.com");
    assert_eq!(
        (&claims["aud"], &claims["scope"]),
        (
            &json!("https://oauth2.googleapis.com/token"),
            &json!("https://www.googleapis.com/auth/cloud-platform")
        )
    );
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3600);
    assert_eq!(proxy.client().post(PATH, CHAT_REQUEST).response().status(), 200);
    assert_eq!(bearer(&service.next()), "ya29.tok");
}

#[test]
fn metadata_server_of_google_gets_its_flavor() {
    let (authority, service) = (Service::new(vec![token("ya29.tok")]), Service::good());
    let proxy = other(&service, "[upstreams.up.google]")
        .env("GCE_METADATA_HOST", &authority.up.address.to_string())
        .run();
    let request = authority.next();
    assert!(
        request.line().starts_with("GET /computeMetadata/v1/instance/service-accounts/default/token?scopes="),
        "{}",
        request.line()
    );
    assert_eq!(request.header("metadata-flavor"), Some("Google"));
    assert_eq!(proxy.client().post(PATH, CHAT_REQUEST).response().status(), 200);
}

const BEDROCK: &str = "[upstreams.up.aws]\nregion = \"us-east-1\"";

/// The presigned URL in a key of Bedrock.
fn presigned(request: &Request) -> String {
    let key = bearer(request).strip_prefix("bedrock-api-key-").unwrap();
    String::from_utf8(STANDARD.decode(key).unwrap()).unwrap()
}

#[test]
fn key_of_bedrock_is_presigned_here() {
    let service = Service::good();
    let proxy = other(&service, BEDROCK)
        .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "aws-secret-marker")
        .env("AWS_SESSION_TOKEN", "session+token")
        .run();
    assert_eq!(proxy.client().post(PATH, CHAT_REQUEST).response().status(), 200);
    let request = service.next();
    assert_eq!(request.line(), "POST /openai/v1/chat/completions HTTP/1.1");
    let url = presigned(&request);
    for part in [
        "bedrock.amazonaws.com/?Action=CallWithBearerToken&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F",
        "%2Fus-east-1%2Fbedrock%2Faws4_request&X-Amz-Date=",
        "&X-Amz-Expires=43200&X-Amz-SignedHeaders=host&X-Amz-Security-Token=session%2Btoken&X-Amz-Signature=",
        "&Version=1",
    ] {
        assert!(url.contains(part), "{part} in {url}");
    }
    assert!(!url.contains("marker"));
}

fn credentials(token_key: &str) -> Value {
    let end = jiff::Timestamp::from_second(now() + 3600).unwrap().to_string();
    json!({"Code": "Success", "AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": "s", token_key: "t", "Expiration": end})
}

#[test]
fn credentials_of_aws_come_from_the_machine_in_a_session() {
    let text = |text: &str| sized("200 OK", "text/plain", text.as_bytes());
    let machine = Service::new(vec![text("session-1"), text("my-role"), ok(&credentials("Token"))]);
    let service = Service::good();
    let url = format!("http://{}", machine.up.address);
    let proxy = other(&service, BEDROCK).env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url).run();
    let begin = machine.next();
    assert_eq!(begin.line(), "PUT /latest/api/token HTTP/1.1");
    assert_eq!(begin.header("x-aws-ec2-metadata-token-ttl-seconds"), Some("21600"));
    for path in ["", "my-role"] {
        let request = machine.next();
        assert_eq!(request.line(), format!("GET /latest/meta-data/iam/security-credentials/{path} HTTP/1.1"));
        assert_eq!(request.header("x-aws-ec2-metadata-token"), Some("session-1"));
    }
    assert_eq!(proxy.client().post(PATH, CHAT_REQUEST).response().status(), 200);
    assert!(presigned(&service.next()).contains("ASIAEXAMPLE"));
}

#[test]
fn credentials_of_aws_come_from_a_container_or_a_web_identity() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "pod-token\n").unwrap();
    let path = file.path().to_str().unwrap();
    let (container, service) = (Service::new(vec![ok(&credentials("Token"))]), Service::good());
    let url = format!("http://{}/v1/credentials", container.up.address);
    let proxy = other(&service, BEDROCK)
        .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url)
        .env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path)
        .run();
    let request = container.next();
    assert_eq!(
        (request.line(), request.header("authorization")),
        ("GET /v1/credentials HTTP/1.1", Some("pod-token"))
    );
    assert_eq!(proxy.client().post(PATH, CHAT_REQUEST).response().status(), 200);
    assert!(presigned(&service.next()).contains("ASIAEXAMPLE"));

    let end = credentials("Token")["Expiration"].as_str().unwrap().to_owned();
    let xml = format!(
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIAWEB</AccessKeyId>\
         <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>{end}</Expiration></Credentials>\
         </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    );
    let (sts, service) = (Service::new(vec![sized("200 OK", "text/xml", xml.as_bytes())]), Service::good());
    let proxy = other(&service, BEDROCK)
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", path)
        .env("AWS_ROLE_ARN", "arn:aws:iam::1:role/r")
        .env("AWS_ROLE_SESSION_NAME", "session-1")
        .env("AWS_ENDPOINT_URL_STS", &format!("http://{}", sts.up.address))
        .run();
    let request = sts.next();
    assert_eq!(request.line(), "POST / HTTP/1.1");
    let expected = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("RoleArn", "arn:aws:iam::1:role/r"),
        ("RoleSessionName", "session-1"),
        ("Version", "2011-06-15"),
        ("WebIdentityToken", "pod-token"),
    ];
    assert_eq!(form(&request), expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    assert_eq!(proxy.client().post(PATH, CHAT_REQUEST).response().status(), 200);
    assert!(presigned(&service.next()).contains("ASIAWEB"));
}
