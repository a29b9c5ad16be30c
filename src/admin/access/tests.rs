use super::*;
use crate::support::{Hosts, Pattern};
use crate::tls::tests::{certificates, client_certificate, server};
use crate::tls::{Source, Watch};

const TOKEN: &str = "0123456789abcdef-token";

fn access(token: bool, certificates: bool) -> Access {
    let hosts = OwnHosts::new(Hosts::new(vec![Pattern::parse("gauge.internal").unwrap()]));
    let token = token.then(|| Secret::new(TOKEN.to_owned()));
    Access::new(hosts, token.as_ref(), certificates, false)
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

fn query(access: &Access, pairs: &[(&'static str, &str)]) -> Result<(), Refusal> {
    let headers = headers(pairs);
    access.check(host(&headers).as_ref(), &headers, &Extensions::new())
}

fn host(headers: &HeaderMap) -> Option<Authority<'_>> {
    let host = headers.get("host")?;
    Some(Authority::parse(host.as_bytes()).unwrap())
}

#[test]
fn foreign_host_is_refused() {
    let access = access(false, false);
    for host in ["127.0.0.1:9090", "localhost", "gauge.internal:9090"] {
        assert_eq!(query(&access, &[("host", host)]), Ok(()), "{host}");
    }
    for host in ["evil.example:9090", "x.gauge.internal"] {
        assert_eq!(query(&access, &[("host", host)]), Err(Refusal::Host(host.to_owned())), "{host}");
    }
    assert_eq!(query(&access, &[]), Ok(()), "HTTP/1.0 without a host, as no browser speaks");
}

#[test]
fn token_is_compared_whole_and_accepted_from_any_host() {
    let access = access(true, false);
    let with = |value: &str| query(&access, &[("host", "evil.example"), ("authorization", value)]);
    assert_eq!(with(&format!("Bearer {TOKEN}")), Ok(()));
    assert_eq!(with(&format!("bearer  {TOKEN} ")), Ok(()));
    for wrong in [
        TOKEN.to_owned(),
        format!("Bearer {TOKEN}x"),
        format!("Bearer {}", &TOKEN[1..]),
        "Bearer ".to_owned(),
    ] {
        assert!(with(&wrong).is_err(), "{wrong}");
    }
    assert_eq!(query(&access, &[("host", "localhost")]), Err(Refusal::Stranger), "also on this machine");
}

#[test]
fn session_holds_until_its_end_and_under_its_token() {
    let access = access(true, false);
    let now = Timestamp::now();
    let cookie = access.session(now).unwrap();
    let cookie = cookie.to_str().unwrap();
    assert!(!cookie.contains(TOKEN) && cookie.contains("; HttpOnly; SameSite=Strict"), "{cookie}");
    let pair = cookie.split(';').next().unwrap();
    let other = format!("a=b; {COOKIE_NAME}=1.ff; {pair}");
    assert_eq!(query(&access, &[("host", "localhost"), ("cookie", &other)]), Ok(()));
    assert_eq!(
        query(&access, &[("host", "evil.example"), ("cookie", pair)]),
        Err(Refusal::Host("evil.example".to_owned()))
    );
    let value = pair.split_once('=').unwrap().1;
    assert!(access.is_session(value, now));
    assert!(!access.is_session(value, now + SESSION), "it is over");
    let later = value.replacen(char::from(value.as_bytes()[0]), "9", 1);
    let cut = &value[..value.len() - 2];
    for wrong in [later.as_str(), cut, "", ".", "1.", "99999999999.00", "99999999999.zz"] {
        assert!(!access.is_session(wrong, now), "{wrong}");
    }
    let other =
        Access::new(OwnHosts::default(), Some(&Secret::new("another-token-0123".to_owned())), false, true);
    assert!(!other.is_session(value, now));
    assert!(other.session(now).unwrap().to_str().unwrap().ends_with("; Secure"));
}

#[test]
fn logout_ends_every_copy_of_a_session() {
    let access = access(true, false);
    let now = Timestamp::now();
    let pair = || {
        let cookie = access.session(now).unwrap();
        cookie.to_str().unwrap().split(';').next().unwrap().to_owned()
    };
    let (mine, other) = (pair(), pair());
    let opens = |pair: &str| query(&access, &[("host", "localhost"), ("cookie", pair)]).is_ok();
    assert!(opens(&mine) && opens(&other));
    access.end_sessions(&headers(&[("cookie", &mine)]), now);
    assert!(!opens(&mine) && opens(&other));
    for _ in 0..MAX_ENDED {
        access.end_sessions(&headers(&[("cookie", &pair())]), now);
    }
    assert!(!opens(&mine) && !opens(&other), "beyond what is remembered, all end");
    let later = access.session(now + Duration::from_secs(1)).unwrap();
    assert!(opens(later.to_str().unwrap().split(';').next().unwrap()));
}

#[test]
fn client_certificate_opens_pages_that_ask_for_one() {
    let ours = certificates::Authority::new("ours");
    let mut settings = server(&ours.issue("server", &["llm.internal"]));
    settings.client_ca = vec![Source::text("the test", &ours.pem()).unwrap()];
    let mut watch = Watch::default();
    let live = watch.admin(&settings).unwrap();
    let mut extensions = Extensions::new();
    extensions.insert(client_certificate(&ours, &live));
    let headers = headers(&[("host", "localhost")]);
    let host = host(&headers);
    let host = host.as_ref();
    assert_eq!(access(false, true).check(host, &headers, &extensions), Ok(()));
    assert_eq!(access(true, true).check(host, &headers, &extensions), Ok(()));
    assert_eq!(access(true, false).check(host, &headers, &extensions), Err(Refusal::Stranger));
    assert_eq!(access(false, true).check(host, &headers, &Extensions::new()), Err(Refusal::Stranger));
    settings.client_ca =
        vec![Source::text("the test", &certificates::Authority::new("other").pem()).unwrap()];
    watch.replace(Watch::prepare("admin.tls", &settings, &live).unwrap());
    assert_eq!(access(false, true).check(host, &headers, &extensions), Err(Refusal::Stranger));
}
