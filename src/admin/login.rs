//! The login form for browsers: takes the admin token and gives the cookie of a session.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::header::SET_COOKIE;
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::Admin;
use super::guard::is_same_origin;
use super::pages::{self, Depth};
use super::query::Fields;
use super::respond::{fault, page, see_other};

/// The largest login form.
const MAX_FORM_BYTES: usize = 8 * 1024;

/// The time within which a login form must arrive.
const FORM_TIME: Duration = Duration::from_secs(5);

/// The largest number of login forms that may be arriving at the same time, so that they do not
/// fill the connections that probes need.
pub(super) const FORMS: usize = 16;

/// The delay of the response to a wrong token. Guessing is hopeless anyway; the delay keeps the log
/// short.
const WRONG_TOKEN: Duration = Duration::from_secs(1);

/// `GET /login`.
pub(super) async fn form(State(admin): State<Arc<Admin>>, RawQuery(query): RawQuery) -> Response {
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    login_page(&admin, "/login", StatusCode::OK, fields.get("next"), None)
}

/// `POST /login`.
pub(super) async fn submit(State(admin): State<Arc<Admin>>, request: Request) -> Response {
    if !is_same_origin(&request) {
        return cross_origin();
    }
    let form = match read_form(&admin.forms, request).await {
        Ok(form) => form,
        Err(response) => return response,
    };
    let fields = Fields::parse(&form);
    let next = fields.get("next").filter(|next| is_page(next));
    let token = fields.get("token").unwrap_or_default().trim();
    let Some(cookie) = admin.access.load().log_in(token.as_bytes(), Timestamp::now()) else {
        tracing::warn!("a login to the admin pages was refused: wrong token");
        sleep(WRONG_TOKEN).await;
        return login_page(&admin, "/login", StatusCode::FORBIDDEN, next, Some("That is not the token."));
    };
    with_cookie(see_other(&format!(".{}", next.unwrap_or("/"))), Some(cookie))
}

/// Reads a small body within the limits of forms.
///
/// # Errors
/// Fails with the response.
pub(super) async fn read_form(forms: &Semaphore, request: Request) -> Result<Bytes, Response> {
    let Ok(turn) = forms.try_acquire() else {
        return Err(fault(StatusCode::SERVICE_UNAVAILABLE, "too_many_forms", "try again in a moment"));
    };
    let form = timeout(FORM_TIME, Limited::new(request.into_body(), MAX_FORM_BYTES).collect()).await;
    drop(turn);
    match form {
        Ok(Ok(form)) => Ok(form.to_bytes()),
        Ok(Err(_)) => {
            Err(fault(StatusCode::BAD_REQUEST, "bad_request", "the form is incomplete, or too large"))
        }
        Err(_) => Err(fault(StatusCode::REQUEST_TIMEOUT, "form_timeout", "the form did not arrive in time")),
    }
}

/// `POST /logout`.
pub(super) async fn logout(State(admin): State<Arc<Admin>>, request: Request) -> Response {
    if !is_same_origin(&request) {
        return cross_origin();
    }
    admin.access.load().end_sessions(request.headers(), Timestamp::now());
    with_cookie(see_other("./login"), admin.access.load().no_session())
}

/// The login form instead of the page at `path`; `next` is the page after the login.
pub(super) fn login_page(
    admin: &Admin,
    path: &str,
    status: StatusCode,
    next: Option<&str>,
    wrong: Option<&str>,
) -> Response {
    let next = next.filter(|next| is_page(next));
    page(status, pages::login(Depth::of(path), next, wrong, admin.access.load().has_login()))
}

pub(super) fn cross_origin() -> Response {
    fault(StatusCode::FORBIDDEN, "cross_origin", "this form can only be sent from its own page")
}

fn with_cookie(mut response: Response, cookie: Option<HeaderValue>) -> Response {
    if let Some(cookie) = cookie {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

/// Returns true if `next` is a path of these pages. Browsers read `//host` and `/\host` as another
/// host.
fn is_page(next: &str) -> bool {
    next.starts_with('/')
        && !next[1..].starts_with(['/', '\\'])
        && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn login_leads_to_own_pages_only() {
        for page in ["/", "/?range=7d&user=a%2Fb", "/usage?by=day"] {
            assert!(is_page(page), "{page}");
        }
        for elsewhere in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/a\r\nb",
            "/\t/evil.example",
            "/a\\b",
        ] {
            assert!(!is_page(elsewhere), "{elsewhere}");
        }
    }
}
