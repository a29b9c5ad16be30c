//! The checks before a route: its host, its client, and the page that sent a form.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::ACCEPT;
use http::request::Parts;
use http::{HeaderMap, StatusCode, uri};

use super::Admin;
use super::access::{Access, Granted, Refusal, Right};
use super::login::login_page;
use super::respond::fault;
use crate::codec::authority::{Authority, HostFault};
use crate::record::error::Error;

/// The access that a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// Any one valid host.
    Probe,
    /// A name of this machine.
    Host,
    /// A client that may read.
    Read,
    /// A client with a greater right than to read.
    May(Right),
}

/// Passes on requests with the access that their route needs, and refuses others.
pub(super) async fn guard(
    State((admin, level)): State<(Arc<Admin>, Level)>,
    mut request: Request,
    next: Next,
) -> Response {
    let checked = match (authority(&request), level) {
        (Err(fault), _) => return invalid_host(fault),
        (Ok(_), Level::Probe) => Ok(None),
        (Ok(authority), Level::Host) => admin.access.load().check_host(authority.as_ref()).map(|()| None),
        (Ok(authority), Level::Read | Level::May(_)) => {
            let access = admin.access.load();
            match access.check(authority.as_ref(), request.headers(), request.extensions()) {
                Ok(granted) => match level {
                    Level::May(right) => may(right, &granted, &request).map(|()| Some(granted)),
                    _ => Ok(Some(granted)),
                },
                Err(refusal) => Err(refusal),
            }
        }
    };
    match checked {
        Ok(granted) => {
            if let Some(granted) = granted {
                request.extensions_mut().insert(granted);
            }
            next.run(request).await
        }
        Err(refusal) => refuse(&admin, &refusal, &request),
    }
}

/// Refuses a client with a lesser right. A proxy names the user also for pages of other
/// sites, so that its requests must bear the headers by which a browser tells its own page.
fn may(right: Right, granted: &Granted, request: &Request) -> Result<(), Refusal> {
    let has_page = |name: &str| request.headers().contains_key(name);
    if granted.right < right {
        Err(if granted.right == Right::Read { Refusal::ReadOnly } else { Refusal::Open })
    } else if granted.user.is_some()
        && !request.method().is_safe()
        && !(has_page("sec-fetch-site") || has_page("origin"))
    {
        Err(Refusal::ForeignPage)
    } else {
        Ok(())
    }
}

/// Returns true if the client of a request has access now.
pub(super) fn check(access: &Access, parts: &Parts) -> bool {
    let authority = Authority::of_parts(parts.version, &parts.uri, &parts.headers);
    authority
        .is_ok_and(|authority| access.check(authority.as_ref(), &parts.headers, &parts.extensions).is_ok())
}

fn authority(request: &Request) -> Result<Option<Authority<'_>>, HostFault> {
    Authority::of_parts(request.version(), request.uri(), request.headers())
}

fn invalid_host(host: HostFault) -> Response {
    let error = Error::from(host);
    let (status, code) = (error.status(), error.code());
    fault(status, code, &error.to_string())
}

fn refuse(admin: &Admin, refusal: &Refusal, request: &Request) -> Response {
    match refusal {
        Refusal::Host(host) => fault(
            StatusCode::MISDIRECTED_REQUEST,
            "unknown_host",
            &format!(
                "{host:?} is not known to be a name of this machine: add it to admin.hosts, or use its address"
            ),
        ),
        Refusal::Stranger if admin.access.load().has_login() && wants_page(request.headers()) => {
            let path = request.uri().path();
            let next = request.uri().path_and_query().map(uri::PathAndQuery::as_str);
            login_page(admin, path, StatusCode::UNAUTHORIZED, next, None)
        }
        Refusal::Stranger if admin.access.load().has_login() => fault(
            StatusCode::UNAUTHORIZED,
            "token_missing",
            "send the admin token as `Authorization: Bearer`",
        ),
        Refusal::ReadOnly => fault(
            StatusCode::FORBIDDEN,
            "read_only",
            "this needs admin.token: a read token, or a user who may only read, changes nothing",
        ),
        Refusal::Open => fault(
            StatusCode::FORBIDDEN,
            "token_not_configured",
            "every program on this machine can open these pages, so that none changes keys here: set admin.token",
        ),
        Refusal::ForeignPage => fault(
            StatusCode::FORBIDDEN,
            "cross_origin",
            "a user of the authenticating proxy changes something only from these pages: a program sends admin.token",
        ),
        Refusal::Stranger if admin.access.load().has_users() => fault(
            StatusCode::FORBIDDEN,
            "user_missing",
            "come through the proxy of admin.trusted_proxies, which names the user in the header of admin.user_header",
        ),
        Refusal::Stranger => fault(
            StatusCode::FORBIDDEN,
            "certificate_missing",
            "connect with a client certificate that client_ca in [admin.tls] has signed",
        ),
    }
}

/// Returns true if the client accepts HTML: browsers name it when they load a page.
pub(super) fn wants_page(headers: &HeaderMap) -> bool {
    headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"))
}

/// Returns true if the headers of browsers show that a page of this host sent the form. (`SameSite`
/// covers browsers that send neither.)
pub(super) fn is_same_origin(request: &Request) -> bool {
    let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    match (text("sec-fetch-site"), text("origin")) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => {
            let host = authority(request).ok().flatten();
            origin.split_once("://").map(|(_, origin)| origin) == host.as_ref().map(Authority::text)
        }
        (None, None) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_of_another_origin_is_recognized() {
        for (pairs, same) in [
            (&[("host", "a:1")][..], true),
            (&[("host", "a:1"), ("origin", "http://a:1")], true),
            (&[("host", "a:1"), ("origin", "http://a:2")], false),
            (&[("host", "a:1"), ("origin", "null")], false),
            (&[("host", "a:1"), ("sec-fetch-site", "cross-site")], false),
            (&[("host", "a:1"), ("sec-fetch-site", "same-origin")], true),
        ] {
            let mut request = Request::default();
            let headers = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            *request.headers_mut() = headers.collect();
            assert_eq!(is_same_origin(&request), same, "{pairs:?}");
        }
    }
}
