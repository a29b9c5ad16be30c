//! Requests that name stored state go to the upstream whose account has it.
//!
//! The ids in responses are remembered with the account of their upstream ([`IdWatch`]). An id that
//! a request names decides before routes do, groups or not. If clients are distinguished, an id is
//! bound to the client whose request created the object: any other client gets a 404.
//!
//! A fleet shares the ids. A request with one that is unknown here, or of which it is unknown whose
//! it is, waits for the fleet's store like one that lacks a grant of a limit.
//!
//! None of this exists if all routes lead to one upstream, and clients are not distinguished.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use http::Method;
use memchr::memmem::Finder;

use super::request::Buffered;
use super::snapshot::{IdBinding, UpstreamSpec};
use super::worker::WorkerUpstream;
use crate::balance::{Account, HealthRegistry, MOST_ASKED, PinAsk, Pins, Target};
use crate::llm::provider::{Endpoint, HoldsState, may_create, path_ids};
use crate::llm::rewrite::body::is_utf16_or_32;
use crate::llm::usage::{is_id, named_ids};
use crate::proxy::meter::IdWatch;
use crate::record::error::{Kind, Result};
use crate::support::UpstreamId;

/// Keys of bodies that name or request state at endpoints whose requests rarely do.
static RARE_KEYS: LazyLock<[Finder<'_>; 5]> = LazyLock::new(|| {
    ["\"file_id\"", "\"audio\"", "\"container\"", "\"store\"", "\"voice\""].map(Finder::new)
});

/// The beginning of the escape of an ASCII character.
static ESCAPE: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("\\u00"));

/// One worker's way from ids to upstreams.
#[derive(Debug)]
pub(super) struct StoredIds {
    registry: Arc<HealthRegistry>,
    binding: IdBinding,
    accounts: Vec<(Account, Target<Rc<WorkerUpstream>>)>,
}

/// The stored state that a request names.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NamedState {
    /// The account that has it. `None`: unknown.
    account: Option<Account>,
    /// The path names an object whose account is unknown: any upstream may have it.
    pub(super) is_sought: bool,
    /// The response may have ids of stored state.
    may_bring_ids: bool,
}

/// Watches the ids in the response to a request.
#[derive(Debug)]
pub(super) struct Watching {
    ids: Rc<StoredIds>,
    client: Option<Arc<str>>,
}

impl StoredIds {
    pub(super) fn new<'a>(
        registry: &Arc<HealthRegistry>,
        binding: IdBinding,
        upstreams: impl Iterator<Item = &'a Rc<WorkerUpstream>>,
    ) -> Self {
        let account = |upstream: &Rc<WorkerUpstream>| {
            let account = registry.pins().account(&account_name(&upstream.spec))?;
            Some((account, Target::One(Rc::clone(upstream))))
        };
        let accounts = upstreams.filter_map(account).collect();
        Self { registry: Arc::clone(registry), binding, accounts }
    }

    /// Ids are bound to clients.
    pub(super) fn is_bound(&self) -> bool {
        self.binding.to_client
    }

    /// A request is refused while the fleet's store cannot say whose an id in it is.
    pub(super) fn refuses_unknown(&self) -> bool {
        self.binding.refuses_unknown
    }

    /// Finds the state that a request names. The first known id decides. Asks the fleet for the ids
    /// that are not known here, if it `asks` and there is one.
    ///
    /// # Errors
    /// Fails if an id is another client's, if the ids of a body with bound ones cannot be read, or if
    /// a request names more unknown ids than the fleet is asked for.
    pub(super) fn named_by(
        &self,
        request: &Buffered,
        endpoint: Endpoint,
        client: &str,
        asks: bool,
    ) -> Result<(NamedState, Option<Arc<PinAsk>>)> {
        let asks = asks && self.pins().fleet().is_some();
        let unknown = asks.then(HashSet::new);
        let mut search = Search { ids: self, client, account: None, foreign: None, unknown };
        let path = if endpoint.may_name_id() { request.head.path() } else { "" };
        for id in path_ids(path, request.head.query()) {
            search.look(&id);
        }
        let may_bring_ids = match endpoint.holds_state() {
            HoldsState::Never => false,
            HoldsState::OnRequest => has_rare_key(request.text()),
            HoldsState::Always => true,
        };
        let is_sought = search.account.is_none() && endpoint.names_id();
        if let Some(body) = named_in_body(request, endpoint, may_bring_ids) {
            let read = named_ids(body, |id| search.look(id));
            if read.is_err() && self.is_bound() {
                let kind = if is_utf16_or_32(body) { Kind::BodyNotUtf8 } else { Kind::BodyNotJson };
                return Err(kind.into());
            }
        }
        if let Some(id) = search.foreign {
            return Err(Kind::StoredIdUnknown(id).into());
        }
        let unknown = search.unknown.filter(|unknown| !unknown.is_empty());
        let ask = unknown.and_then(|ids| self.pins().ask(ids.iter().map(String::as_str)));
        Ok((NamedState { account: search.account, is_sought, may_bring_ids }, ask))
    }

    /// The upstream of the named state, if it is configured.
    pub(super) fn target(&self, named: NamedState) -> Option<&Target<Rc<WorkerUpstream>>> {
        let account = named.account?;
        self.accounts.iter().find(|(known, _)| *known == account).map(|(_, target)| target)
    }

    /// Returns true if an upstream refuses a request because it does not have the named state. `status`
    /// and `message` are those of its error.
    pub(super) fn is_refused(
        &self,
        request: &Buffered,
        endpoint: Endpoint,
        status: u16,
        message: &str,
    ) -> bool {
        if !matches!(status, 400 | 404) {
            return false;
        }
        let mut is_named = request.state.is_sought && status == 404;
        if let Some(body) = named_in_body(request, endpoint, request.state.may_bring_ids) {
            let _ = named_ids(body, |id| is_named |= message.contains(id));
        }
        is_named
    }

    /// Remembers the ids that a request names: the upstream has accepted them.
    pub(super) fn learn(&self, request: &Buffered, endpoint: Endpoint, upstream: &UpstreamId) {
        let Some(account) = self.account_of(upstream) else { return };
        if endpoint.names_id() {
            let ids = endpoint.ids_in(request.head.path()).filter(|id| is_id(id));
            ids.for_each(|id| self.pins().insert(&id, None, account));
        }
        if let Some(body) = named_in_body(request, endpoint, request.state.may_bring_ids) {
            let _ = named_ids(body, |id| self.pins().insert(id, None, account));
        }
    }

    /// Watches the response to a request, if it may have ids of stored state.
    pub(super) fn watching(self: &Rc<Self>, request: &Buffered, client: &Arc<str>) -> Option<Box<Watching>> {
        let method = &request.head.method;
        if !request.state.may_bring_ids || *method == Method::HEAD {
            return None;
        }
        let creates = self.is_bound() && (may_create(method) || request.upgrade.is_some());
        let client = creates.then(|| Arc::clone(client));
        Some(Box::new(Watching { ids: Rc::clone(self), client }))
    }

    fn pins(&self) -> &Pins {
        self.registry.pins()
    }

    fn account_of(&self, upstream: &UpstreamId) -> Option<Account> {
        let is_it = |target: &Target<Rc<WorkerUpstream>>| target.first().spec.id == *upstream;
        self.accounts.iter().find(|(_, target)| is_it(target)).map(|(account, _)| *account)
    }
}

impl Watching {
    /// Watches the response of this upstream.
    pub(super) fn at(&self, upstream: &WorkerUpstream) -> Option<Box<IdWatch>> {
        let account = self.ids.account_of(&upstream.spec.id)?;
        let refuses_unknown = self.ids.refuses_unknown();
        Some(IdWatch::new(Arc::clone(&self.ids.registry), account, self.client.clone(), refuses_unknown))
    }
}

/// The name of an upstream's account. An upstream with a changed URL is another service.
fn account_name(spec: &UpstreamSpec) -> String {
    format!("{} {}", spec.id, spec.dialect.base())
}

/// The body, if it may name state. `brings_ids`: see [`NamedState::may_bring_ids`].
fn named_in_body(request: &Buffered, endpoint: Endpoint, brings_ids: bool) -> Option<&[u8]> {
    let text = request.text();
    // Some endpoints only use state: their responses have no ids.
    let only_names = || {
        endpoint.holds_state() == HoldsState::Never
            && endpoint.may_name_state()
            && (endpoint.often_names_state() || has_rare_key(text))
    };
    (request.form().is_none() && (brings_ids || only_names())).then_some(&**text)
}

/// Returns true if the text has one of [`RARE_KEYS`], or may have it with escapes.
fn has_rare_key(text: &[u8]) -> bool {
    RARE_KEYS.iter().any(|key| key.find(text).is_some()) || has_escaped_letter(text)
}

/// Returns true if an escape is a character of keys: `_` or a small letter. Encoders do not escape
/// those.
fn has_escaped_letter(text: &[u8]) -> bool {
    ESCAPE.find_iter(text).any(|at| matches!(text.get(at + 4), Some(b'5'..=b'7')))
}

/// The search for the account of a request.
struct Search<'a> {
    ids: &'a StoredIds,
    client: &'a str,
    account: Option<Account>,
    /// An id of another client.
    foreign: Option<String>,
    /// The ids for which the fleet is asked, at most [`MOST_ASKED`]. `None`: it is not.
    unknown: Option<HashSet<String>>,
}

impl Search<'_> {
    fn look(&mut self, id: &str) {
        let found = self.ids.pins().find(id, self.client);
        let is_bound = self.ids.is_bound();
        let is_known = found.is_some_and(|pin| pin.account.is_some() && (pin.has_owner || !is_bound));
        if let Some(unknown) = self.unknown.as_mut().filter(|_| !is_known) {
            if unknown.len() < MOST_ASKED {
                unknown.insert(id.to_owned());
            } else if is_bound && !found.is_some_and(|pin| pin.has_owner) && !unknown.contains(id) {
                // An id that is not asked for may be another client's.
                self.foreign.get_or_insert_with(|| id.to_owned());
            }
        }
        let Some(pin) = found else { return };
        if is_bound && !pin.is_own {
            self.foreign.get_or_insert_with(|| id.to_owned());
        }
        self.account = self.account.or(pin.account);
    }
}
