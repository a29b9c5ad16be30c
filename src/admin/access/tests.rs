use super::*;
use crate::support::{Hosts, Pattern};
use crate::tls::tests::{certificates, client_certificate, server};
use crate::tls::{Source, Watch};

const TOKEN: &str = "0123456789abcdef-token";

fn access(token: bool, certificates: bool) -> Access {
    let hosts = OwnHosts::new(Hosts::new(vec![Pattern::parse("gauge.internal").unwrap()]));
    let token = token.then(|| Secret::new(TOKEN.to_owned()));
    Access::new(AccessRules { hosts, token, certificates, ..AccessRules::default() })
}

/// The session cookie of a login at `now`.
fn cookie(access: &Access, token: &str, now: Timestamp) -> String {
    access.log_in(token.as_bytes(), now).unwrap().to_str().unwrap().to_owned()
}

/// Its pair of name and value.
fn pair(cookie: &str) -> &str {
    cookie.split(';').next().unwrap()
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

fn query(access: &Access, pairs: &[(&'static str, &str)]) -> Result<Right, Refusal> {
    let headers = headers(pairs);
    access.check(host(&headers).as_ref(), &headers, &Extensions::new()).map(|granted| granted.right)
}

fn host(headers: &HeaderMap) -> Option<Authority<'_>> {
    let host = headers.get("host")?;
    Some(Authority::parse(host.as_bytes()).unwrap())
}

#[test]
fn foreign_host_is_refused() {
    let access = access(false, false);
    for host in ["127.0.0.1:9090", "localhost", "gauge.internal:9090"] {
        assert_eq!(query(&access, &[("host", host)]), Ok(Right::Reload), "{host}");
    }
    for host in ["evil.example:9090", "x.gauge.internal"] {
        assert_eq!(query(&access, &[("host", host)]), Err(Refusal::Host(host.to_owned())), "{host}");
    }
    assert_eq!(query(&access, &[]), Ok(Right::Reload), "HTTP/1.0 without a host, as no browser speaks");
}

#[test]
fn token_is_compared_whole_and_accepted_from_any_host() {
    let access = access(true, false);
    let with = |value: &str| query(&access, &[("host", "evil.example"), ("authorization", value)]);
    assert_eq!(with(&format!("Bearer {TOKEN}")), Ok(Right::Change));
    assert_eq!(with(&format!("bearer  {TOKEN} ")), Ok(Right::Change));
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
    let cookie = cookie(&access, TOKEN, now);
    assert!(!cookie.contains(TOKEN) && cookie.contains("; HttpOnly; SameSite=Strict"), "{cookie}");
    let pair = pair(&cookie);
    let other = format!("a=b; {COOKIE_NAME}=1.ff; {pair}");
    assert_eq!(query(&access, &[("host", "localhost"), ("cookie", &other)]), Ok(Right::Change));
    assert_eq!(
        query(&access, &[("host", "evil.example"), ("cookie", pair)]),
        Err(Refusal::Host("evil.example".to_owned()))
    );
    let value = pair.split_once('=').unwrap().1;
    assert!(access.right_of_session(value, now).is_some());
    assert_eq!(access.right_of_session(value, now + SESSION), None, "it is over");
    let later = value.replacen(char::from(value.as_bytes()[0]), "9", 1);
    let cut = &value[..value.len() - 2];
    for wrong in [later.as_str(), cut, "", ".", "1.", "99999999999.00", "99999999999.zz"] {
        assert_eq!(access.right_of_session(wrong, now), None, "{wrong}");
    }
    let token = Some(Secret::new("another-token-0123".to_owned()));
    let other = Access::new(AccessRules { token, tls: true, ..AccessRules::default() });
    assert_eq!(other.right_of_session(value, now), None);
    assert!(self::cookie(&other, "another-token-0123", now).ends_with("; Secure"));
}

#[test]
fn logout_ends_every_copy_of_a_session() {
    let access = access(true, false);
    let now = Timestamp::now();
    let new = |now| pair(&cookie(&access, TOKEN, now)).to_owned();
    let (mine, other) = (new(now), new(now));
    let opens = |pair: &str| query(&access, &[("host", "localhost"), ("cookie", pair)]).is_ok();
    assert!(opens(&mine) && opens(&other));
    access.end_sessions(&headers(&[("cookie", &mine)]), now);
    assert!(!opens(&mine) && opens(&other));
    for _ in 0..MAX_ENDED {
        access.end_sessions(&headers(&[("cookie", &new(now))]), now);
    }
    assert!(!opens(&mine) && !opens(&other), "beyond what is remembered, all end");
    assert!(opens(&new(now + Duration::from_secs(1))));
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
    let check = |access: Access, extensions: &Extensions| {
        access.check(host, &headers, extensions).map(|granted| granted.right)
    };
    assert_eq!(check(access(false, true), &extensions), Ok(Right::Change));
    assert_eq!(check(access(true, true), &extensions), Ok(Right::Change));
    assert_eq!(check(access(true, false), &extensions), Err(Refusal::Stranger));
    assert_eq!(check(access(false, true), &Extensions::new()), Err(Refusal::Stranger));
    settings.client_ca =
        vec![Source::text("the test", &certificates::Authority::new("other").pem()).unwrap()];
    watch.replace(Watch::prepare("admin.tls", &settings, &live).unwrap());
    assert_eq!(check(access(false, true), &extensions), Err(Refusal::Stranger));
}

const READ_TOKEN: &str = "fedcba9876543210-token";

#[test]
fn read_token_and_its_sessions_only_read() {
    let rules = |read: &str| AccessRules {
        token: Some(Secret::new(TOKEN.to_owned())),
        read_token: Some(Secret::new(read.to_owned())),
        ..AccessRules::default()
    };
    let access = Access::new(rules(READ_TOKEN));
    let (now, local) = (Timestamp::now(), ("host", "localhost"));
    for (token, right) in [(TOKEN, Right::Change), (READ_TOKEN, Right::Read)] {
        let bearer = format!("Bearer {token}");
        assert_eq!(query(&access, &[local, ("authorization", &bearer)]), Ok(right));
        let cookie = cookie(&access, token, now);
        assert_eq!(query(&access, &[local, ("cookie", pair(&cookie))]), Ok(right));
    }
    let (full, read) = (cookie(&access, TOKEN, now), cookie(&access, READ_TOKEN, now));
    let both = format!("{}; {}", pair(&read), pair(&full));
    assert_eq!(query(&access, &[local, ("cookie", &both)]), Ok(Right::Change));
    assert!(access.log_in(b"", now).is_none() && access.log_in(b"wrong", now).is_none());
    // Only the sessions of a changed token end.
    let changed = Access::new(rules("another-token-0123")).with_sessions_of(&access);
    assert_eq!(query(&changed, &[local, ("cookie", pair(&full))]), Ok(Right::Change));
    assert_eq!(query(&changed, &[local, ("cookie", pair(&read))]), Err(Refusal::Stranger));
    access.end_sessions(&headers(&[("cookie", pair(&read))]), now);
    assert_eq!(query(&access, &[local, ("cookie", pair(&read))]), Err(Refusal::Stranger));
}

#[test]
fn user_header_is_believed_from_trusted_proxies_only() {
    let users = TrustedUsers {
        header: HeaderName::from_static("x-forwarded-user"),
        proxies: Networks::new(vec![Networks::parse("10.0.0.0/8").unwrap()]),
        right: Right::Read,
    };
    let access = Access::new(AccessRules { users: Some(users), ..AccessRules::default() });
    let granted = |peer: &str, values: &[&str], host_name: &'static str| {
        let mut headers = headers(&[("host", host_name)]);
        for value in values {
            headers.append("x-forwarded-user", value.parse().unwrap());
        }
        let mut extensions = Extensions::new();
        extensions.insert(PeerAddress(peer.parse().unwrap()));
        access.check(host(&headers).as_ref(), &headers, &extensions)
    };
    let ada = Granted { right: Right::Read, user: Some("ada".to_owned()) };
    assert_eq!(granted("10.1.2.3", &[" ada "], "localhost"), Ok(ada.clone()));
    assert_eq!(granted("::ffff:10.1.2.3", &["ada"], "localhost"), Ok(ada));
    for (peer, values) in [
        ("192.0.2.1", &["ada"][..]),
        ("127.0.0.1", &["ada"]),
        ("10.1.2.3", &[]),
        ("10.1.2.3", &[" "]),
        ("10.1.2.3", &["ada", "ada"]),
        ("10.1.2.3", &["eve", "ada"]),
    ] {
        assert_eq!(granted(peer, values, "localhost"), Err(Refusal::Stranger), "{peer} {values:?}");
    }
    let foreign = granted("10.1.2.3", &["ada"], "evil.example");
    assert_eq!(foreign, Err(Refusal::Host("evil.example".to_owned())));
}
