//! Admits or refuses requests by their host and origin.

use std::sync::{Arc, OnceLock};

use super::{Origin, Origins, OwnHosts, Sharing};
use crate::codec::authority::{Authority, HostFault};
use crate::codec::head::{Headers, KnownName, NameSet, RequestHead, ResponseHead};

/// The headers that browsers send: `Sec-Fetch-Site` is how the page relates to the target.
const OF_PAGES: NameSet = NameSet::of(&[KnownName::Origin, KnownName::SecFetchSite]);

/// The longest part of a host or an origin that a message repeats, in bytes.
const MAX_SHOWN: usize = 256;

/// The hosts and the web pages that a listener serves.
#[derive(Clone, Debug)]
pub struct Admission {
    /// `None`: any.
    hosts: Option<OwnHosts>,
    /// `None`: any.
    origins: Option<Origins>,
    is_https: bool,
    /// The first host that was admitted. Nearly every request names it, and comparing costs less
    /// than parsing.
    usual: Arc<OnceLock<Box<[u8]>>>,
}

/// The proof of its client that a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// There are no clients.
    Nothing,
    Key,
    /// A key or a certificate, which a browser presents for any page.
    KeyOrCertificate,
}

/// The reason for which a request is not admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request names no host.
    Host(HostFault),
    /// The request names another host.
    ForeignHost(String),
    /// A page of this origin sent it.
    ForeignOrigin(String),
    /// A page sent it without naming its origin.
    CrossSite(String),
}

impl Admission {
    /// Hosts and origins that are not listed are refused. If a page lacks the credential, only a list
    /// that is not empty refuses. `is_https` means that clients connect through TLS.
    pub fn new(hosts: OwnHosts, origins: Origins, credential: Credential, is_https: bool) -> Self {
        let takes_any_host = credential != Credential::Nothing && hosts.is_empty();
        let takes_any_page = credential == Credential::Key && origins.is_empty();
        let hosts = (!takes_any_host).then_some(hosts);
        let origins = (!takes_any_page).then_some(origins);
        Self { hosts, origins, is_https, usual: Arc::default() }
    }

    /// Decides by the request's head alone.
    ///
    /// # Errors
    /// Fails with the reason for the refusal.
    pub fn check(&self, head: &RequestHead) -> Result<(), Refusal> {
        let authority = if self.is_usual(head) { None } else { self.judge(head)? };
        let Some(origins) = &self.origins else { return Ok(()) };
        let authority = || authority.or_else(|| Authority::of(head).ok().flatten());
        self.check_page(origins, authority, &head.headers)
    }

    /// The meaning that the response to a request has for browsers. `None`: it has none, as where no
    /// origin is listed.
    #[inline]
    pub fn sharing(&self, head: &RequestHead) -> Option<Sharing> {
        let origins = self.origins.as_ref().filter(|origins| !origins.is_empty())?;
        Sharing::of(head, origins)
    }

    /// The response to a listed page's preflight, which has no key. `None`: the request is none, or
    /// [`Admission::check`] refuses it.
    pub fn preflight(&self, sharing: &Sharing, head: &RequestHead) -> Option<ResponseHead> {
        sharing.preflight(head).filter(|_| self.check(head).is_ok())
    }

    fn is_usual(&self, head: &RequestHead) -> bool {
        let Some(usual) = self.usual.get() else { return false };
        let mut hosts = head.headers.values(KnownName::Host);
        head.authority().is_none() && hosts.next() == Some(usual) && hosts.next().is_none()
    }

    fn judge<'a>(&self, head: &'a RequestHead) -> Result<Option<Authority<'a>>, Refusal> {
        let authority = Authority::of(head).map_err(Refusal::Host)?;
        if let (Some(hosts), Some(authority)) = (&self.hosts, &authority)
            && !hosts.take(authority)
        {
            return Err(Refusal::ForeignHost(authority.host().to_owned()));
        }
        if head.authority().is_none()
            && let Some(host) = head.headers.get(KnownName::Host)
        {
            self.usual.get_or_init(|| host.into());
        }
        Ok(authority)
    }

    fn check_page<'a>(
        &self,
        origins: &Origins,
        authority: impl FnOnce() -> Option<Authority<'a>>,
        headers: &Headers,
    ) -> Result<(), Refusal> {
        if !headers.names().has_any_of(OF_PAGES) {
            return Ok(());
        }
        // Any other value is another page's, including values that are yet to be invented.
        let mut sites = headers.values(KnownName::SecFetchSite);
        let site = sites.find(|site| *site != b"same-origin" && *site != b"none");
        let mut said = headers.values(KnownName::Origin);
        let Some(origin) = said.next() else {
            return match site {
                Some(site) => Err(Refusal::CrossSite(shown(site))),
                None => Ok(()),
            };
        };
        let parsed = Origin::of(origin).filter(|_| said.next().is_none());
        let is_taken = parsed.is_some_and(|origin| {
            origins.take(&origin)
                || (site.is_none() && self.own_origin(authority()).as_ref() == Some(&origin))
        });
        if is_taken { Ok(()) } else { Err(Refusal::ForeignOrigin(shown(origin))) }
    }

    /// Some WebSocket libraries without a page send the origin of the address that they connect to.
    /// No other site has this origin: the host has been checked, or where any host is accepted, the
    /// server's certificate has, or requests need a key.
    fn own_origin(&self, authority: Option<Authority<'_>>) -> Option<Origin> {
        let scheme = if self.is_https { "https" } else { "http" };
        Origin::of(format!("{scheme}://{}", authority?.text()).as_bytes())
    }
}

fn shown(value: &[u8]) -> String {
    String::from_utf8_lossy(&value[..value.len().min(MAX_SHOWN)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::{Hosts, Pattern};

    fn admission(hosts: &[&str], origins: &[&str], credential: Credential) -> Admission {
        let hosts = hosts.iter().map(|host| Pattern::parse(host).unwrap()).collect();
        let origins = origins.iter().map(|origin| Origin::parse(origin).unwrap()).collect();
        Admission::new(OwnHosts::new(Hosts::new(hosts)), Origins::new(origins), credential, false)
    }

    fn check(admission: &Admission, pairs: &[(&str, &str)]) -> Result<(), Refusal> {
        admission.check(&head("/v1/models", pairs))
    }

    fn head(target: &str, pairs: &[(&str, &str)]) -> RequestHead {
        let request = pairs
            .iter()
            .fold(http::Request::get(target), |request, (name, value)| request.header(*name, *value));
        request.body(()).unwrap().into_parts().0.into()
    }

    #[test]
    fn usual_host_does_not_skip_other_checks() {
        let strict = admission(&[], &[], Credential::Nothing);
        let host = ("host", "127.0.0.1:8080");
        for _ in 0..2 {
            assert_eq!(check(&strict, &[host]), Ok(()));
        }
        assert_eq!(check(&strict, &[host, ("host", "evil.example")]), Err(Refusal::Host(HostFault::Several)));
        assert_eq!(
            check(&strict, &[("host", "evil.example")]),
            Err(Refusal::ForeignHost("evil.example".into()))
        );
        assert_eq!(
            check(&strict, &[host, ("origin", "http://evil.example")]),
            foreign("http://evil.example")
        );
        assert_eq!(check(&strict, &[host, ("origin", "http://127.0.0.1:8080")]), Ok(()));
        assert_eq!(
            strict.check(&head("http://evil.example/v1/models", &[host])),
            Err(Refusal::Host(HostFault::Differing))
        );
    }

    fn foreign(origin: &str) -> Result<(), Refusal> {
        Err(Refusal::ForeignOrigin(origin.to_owned()))
    }

    #[test]
    fn admission_without_clients_refuses_unlisted_origins() {
        let strict = admission(&["gauge.internal"], &["https://app.example", "app://x"], Credential::Nothing);
        let host = ("host", "127.0.0.1:8080");
        for allowed in [
            &[host][..],
            &[("host", "gauge.internal")],
            &[host, ("origin", "https://app.example")],
            &[host, ("origin", "HTTPS://APP.example:443")],
            &[host, ("origin", "app://x"), ("sec-fetch-site", "cross-site")],
            &[host, ("sec-fetch-site", "none")],
            &[host, ("sec-fetch-site", "same-origin")],
            &[host, ("origin", "http://127.0.0.1:8080")],
            &[("host", "gauge.internal"), ("origin", "http://gauge.internal:80")],
        ] {
            assert_eq!(check(&strict, allowed), Ok(()), "{allowed:?}");
        }
        for origin in [
            "null",
            "",
            "http://app.example",
            "https://app.example:8443",
            "https://app.example.evil.example",
            "https://app.example/",
            "http://localhost:3000",
            "https://127.0.0.1:8080",
            "http://127.0.0.1",
            "127.0.0.1:8080",
        ] {
            assert_eq!(check(&strict, &[host, ("origin", origin)]), foreign(origin));
        }
        for site in ["cross-site", "same-site", "Cross-Site", "x"] {
            let refused = Err(Refusal::CrossSite(site.to_owned()));
            assert_eq!(check(&strict, &[host, ("sec-fetch-site", site)]), refused);
        }
        let own = [host, ("origin", "http://127.0.0.1:8080"), ("sec-fetch-site", "cross-site")];
        assert_eq!(check(&strict, &own), foreign("http://127.0.0.1:8080"));
        let refused = Err(Refusal::ForeignHost("evil.example".to_owned()));
        assert_eq!(check(&strict, &[("host", "evil.example:8080")]), refused);
        assert_eq!(check(&strict, &[]), Err(Refusal::Host(HostFault::Missing)));
    }

    #[test]
    fn admission_with_clients_refuses_by_list_only() {
        let open = admission(&[], &[], Credential::Key);
        let anything = [("host", "gauge.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")];
        assert_eq!(check(&open, &anything), Ok(()));
        assert_eq!(check(&open, &[("host", "a b")]), Err(Refusal::Host(HostFault::Invalid)));
        let listed = admission(&["gauge.example"], &["https://app.example"], Credential::Key);
        assert_eq!(check(&listed, &anything), foreign("null"));
        assert!(check(&listed, &[("host", "other.example")]).is_err());
    }

    #[test]
    fn page_is_refused_where_its_browser_may_present_a_certificate() {
        let optional = admission(&[], &[], Credential::KeyOrCertificate);
        let host = ("host", "gauge.example");
        assert_eq!(check(&optional, &[host]), Ok(()));
        assert_eq!(
            check(&optional, &[host, ("origin", "https://evil.example")]),
            foreign("https://evil.example")
        );
        let refused = Err(Refusal::CrossSite("cross-site".to_owned()));
        assert_eq!(check(&optional, &[host, ("sec-fetch-site", "cross-site")]), refused);
    }

    #[test]
    fn long_origin_is_shortened_in_the_message() {
        let strict = admission(&[], &[], Credential::Nothing);
        let origin = format!("https://{}", "a".repeat(60_000));
        let refused = check(&strict, &[("host", "localhost"), ("origin", &origin)]);
        assert_eq!(refused, foreign(&origin[..MAX_SHOWN]));
    }

    #[test]
    fn two_origins_are_refused() {
        let strict = admission(&[], &["https://app.example"], Credential::Nothing);
        let origin = ("origin", "https://app.example");
        let refused = check(&strict, &[("host", "localhost"), origin, ("origin", "https://evil.example")]);
        assert_eq!(refused, foreign(origin.1));
    }
}
