//! `GET /v1/models` where several upstreams can serve it: the union of their lists.
//!
//! A model is listed if a request that names it is routed to an upstream that has it. Besides the
//! ids of an upstream's list, its aliases, its deployments, the model of a member and a route's
//! exact model are names. A single upstream's list passes untouched to any other client.
//!
//! The upstreams are asked at the same time, and those without a list in [`fetch::LIST_TIME`] are
//! left out. Their lists are kept for [`cache::FRESH`], so that a client cannot multiply its
//! requests. They are asked with headers of ours only, since clients share the lists.
//!
//! A client sees only the models that it may ask for, of a single upstream too. The request counts
//! in its limits.

mod cache;
mod fetch;
mod join;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::Full;

use super::budget::Reserved;
use super::pending_response::unless_cut;
use super::proxy_body::ProxyBody;
use super::request::{Authenticated, GrantTime, Received, check_client};
use super::respond;
use super::worker::{WorkerSnapshot, WorkerUpstream};
use crate::balance::Target;
use crate::codec::head::{KnownName, RequestHead, ResponseHead};
use crate::gate::Models;
use crate::llm::model_list::{ListForm, ModelUnion};
use crate::llm::provider::{Endpoint, Inbound, TargetError};
use crate::llm::route::Rule;
use crate::record::error::{Kind, Result};
use crate::record::{Entry, Outcome};
use crate::server::ClientResponse;

pub(super) use cache::ListCache;
use fetch::{Fetched, List, Memory, fetch};
use join::join_all;

/// The paths of lists. The last two are Azure's own.
const PATHS: [&str; 4] = ["/v1/models", "/openai/v1/models", "/openai/models", DEPLOYMENTS];

/// The list of Azure's deployments, which only paths name.
const DEPLOYMENTS: &str = "/openai/deployments";

type Rules<'a> = Vec<(&'a Rule<Target<Rc<WorkerUpstream>>>, &'a str)>;

/// The list that a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listing {
    None,
    /// The list of one upstream, which passes untouched to a client that may ask for all models.
    OfOne,
    /// One that several upstreams can serve, or that depends on routes by model.
    United,
}

pub(super) fn listing(head: &RequestHead, snapshot: &WorkerSnapshot) -> Listing {
    if head.method != Method::GET || !(snapshot.has_choice || snapshot.clients.limit_models()) {
        return Listing::None;
    }
    match &rules(snapshot, head.path())[..] {
        [] => Listing::None,
        [(rule, _)] if rule.model.is_none() && rule.target.len() == 1 => Listing::OfOne,
        _ => Listing::United,
    }
}

/// The rules that decide requests with this path, if it is that of a list.
fn rules<'a>(snapshot: &'a WorkerSnapshot, path: &'a str) -> Rules<'a> {
    if !path.ends_with("s") && !path.ends_with("s/") {
        return Vec::new();
    }
    let is_list = |path: &str| PATHS.contains(&path.strip_suffix('/').unwrap_or(path));
    snapshot.routes.reachable(path).filter(|(_, rest)| is_list(rest)).collect()
}

/// Responds with the union.
pub(super) async fn respond(
    snapshot: Rc<WorkerSnapshot>,
    received: Received,
    mut entry: Entry,
) -> ClientResponse<ProxyBody> {
    match unite(&snapshot, received, &mut entry).await {
        Ok(list) => {
            let row = entry.row();
            row.response_bytes = list.len() as u64;
            entry.record_head(StatusCode::OK.as_u16(), Instant::now());
            let mut head = ResponseHead::new(StatusCode::OK);
            head.headers.set(KnownName::ContentType, b"application/json");
            head.headers.set(KnownName::XStreamgaugeId, entry.id().as_bytes());
            respond::add_waited(&mut head.headers, entry.time_waiting_ms());
            entry.close(Outcome::Complete);
            ClientResponse { head, body: ProxyBody::Whole(Full::new(list)) }
        }
        Err(error) if error.is_slowed() => respond::refuse_slowly(error, entry).await,
        Err(error) => respond::refuse(&error, entry),
    }
}

/// Fails when the key of the request is revoked, like all stages of other requests.
async fn unite(snapshot: &WorkerSnapshot, received: Received, entry: &mut Entry) -> Result<Bytes> {
    let authenticated = received
        .check_head(&snapshot.admission)
        .and_then(|received| received.authenticate(&snapshot.clients, snapshot.requires_certificates, entry));
    let mut authenticated = authenticated.inspect_err(|_| snapshot.sample(entry))?;
    if let Some(rules) = &snapshot.tags {
        authenticated.read_tags(rules, entry);
    }
    match authenticated.take_cut() {
        None => unite_authenticated(snapshot, authenticated, entry).await,
        Some(cut) => unless_cut(unite_authenticated(snapshot, authenticated, entry), &cut).await,
    }
}

async fn unite_authenticated(
    snapshot: &WorkerSnapshot,
    authenticated: Authenticated,
    entry: &mut Entry,
) -> Result<Bytes> {
    let (head, client) = authenticated.into_head();
    if let Some(client) = client.as_deref() {
        let rest = snapshot.routes.first(head.path()).map_or("", |(_, rest)| rest);
        let grants = GrantTime::default();
        let mut checked = check_client(client, &head.method, rest, &grants, entry);
        while let Err(error) = &checked
            && grants.can_wait(client, error)
            && let Some(fleet) = client.fleet()
        {
            grants.wait(fleet).await;
            checked = check_client(client, &head.method, rest, &grants, entry);
        }
        if let Some(wait) = checked? {
            wait.wait(&head.headers, entry).await?;
        }
    }
    let models = client.as_ref().map_or(&Models::All, |client| &client.models);
    let rules = rules(snapshot, head.path());
    let form = match head.headers.iter().any(|field| field.is_named("anthropic-version")) {
        true => ListForm::Anthropic,
        false => ListForm::OpenAi,
    };
    entry.row().endpoint = rules.first().map(|(_, rest)| Endpoint::of(rest).name.into());
    note_group(&rules, entry);

    let sources = sources(&rules, head.query());
    if sources.is_empty() {
        return Err(Kind::UnknownPath(head.path().to_owned()).into());
    }
    let started = Instant::now();
    let client = Arc::clone(&entry.row().client);
    let memory = Memory { budget: &snapshot.bodies.budget, client: &client };
    let asked =
        sources.iter().map(|(upstream, target)| fetch(upstream, target.clone(), form, started, memory));
    let fetched = join_all(asked).await;
    note_attempts(&sources, &fetched, entry);
    if let Some(error) = fetched.iter().find_map(Fetched::shortage) {
        return Err(error.kind().clone().into());
    }

    let lists = |upstream: &Rc<WorkerUpstream>| {
        let place = sources.iter().position(|(other, _)| Rc::ptr_eq(other, upstream))?;
        fetched[place].list.as_ref().ok()
    };
    if fetched.iter().all(|fetched| fetched.list.is_err()) {
        let error = Kind::ModelsUnavailable.into();
        return Err(fetch::describe(error, sources.iter().map(|(upstream, _)| &***upstream).zip(&fetched)));
    }
    let mut reserved = snapshot.bodies.budget.reserve();
    let mut names = Names { snapshot, path: head.path(), models, union: ModelUnion::new(form) };
    for (rule, rest) in &rules {
        for member in 0..rule.target.len() {
            if let Some(list) = lists(rule.target.member(member)) {
                names.add_member(rule, rest, member, list);
                reserved.grow_to(names.union.size(), &client)?;
            }
        }
    }
    Ok(Bytes::from_owner(United { json: names.union.into_json(), _memory: reserved }))
}

/// A union with its memory, until its client has it.
struct United {
    json: Vec<u8>,
    _memory: Reserved,
}

impl AsRef<[u8]> for United {
    fn as_ref(&self) -> &[u8] {
        &self.json
    }
}

/// The upstreams to ask, each once, with the path and query there. An upstream whose dialect does
/// not have the path is left out.
fn sources<'a>(rules: &Rules<'a>, query: Option<&str>) -> Vec<(&'a Rc<WorkerUpstream>, String)> {
    let mut sources: Vec<(&Rc<WorkerUpstream>, String)> = Vec::new();
    for (rule, rest) in rules {
        // Pages are the client's choice, and the union is whole: the request has as few forms as
        // possible, so that one kept list serves all.
        let query = query.filter(|_| rest.starts_with("/openai/")).and_then(azure_version);
        let path = rest.strip_suffix('/').unwrap_or(rest);
        for upstream in (0..rule.target.len()).map(|member| rule.target.member(member)) {
            let inbound = Inbound { path, query, is_session: false };
            let target: std::result::Result<_, TargetError> = upstream.spec.dialect.target(&inbound, None);
            if let Ok(target) = target
                && !sources.iter().any(|(other, _)| Rc::ptr_eq(other, upstream))
            {
                sources.push((upstream, target));
            }
        }
    }
    sources
}

/// The parameter of a query that names the version of Azure's API.
fn azure_version(query: &str) -> Option<&str> {
    query.split('&').find(|parameter| parameter.starts_with("api-version="))
}

/// Names the group in the record, if there is no other target.
fn note_group(rules: &Rules<'_>, entry: &mut Entry) {
    let group = match &rules[..] {
        [(rule, _)] => rule.target.as_group().map(|group| Arc::clone(&group.spec().name)),
        _ => None,
    };
    let notes = entry.note_group(group.unwrap_or_default());
    notes.borrow_mut().is_list = true;
}

/// Notes the requests that were sent; none was for a list that was fresh.
fn note_attempts(sources: &[(&Rc<WorkerUpstream>, String)], fetched: &[Fetched], entry: &mut Entry) {
    let Some(notes) = entry.group_notes() else { return };
    let mut notes = notes.borrow_mut();
    for ((upstream, _), fetched) in sources.iter().zip(fetched) {
        let Some((began, ended)) = fetched.asked else { continue };
        let spec = &upstream.spec;
        notes.begin(spec.id.name().clone(), spec.provider, None, began);
        match (&fetched.list, fetched.status) {
            (Err(Some(error)), _) => notes.fail(error, ended),
            (_, Some(status)) => notes.reject(status, ended, ended),
            (_, None) => {}
        }
    }
}

/// The names that are listed.
struct Names<'a> {
    snapshot: &'a WorkerSnapshot,
    /// The client's path.
    path: &'a str,
    /// The models that the client may ask for.
    models: &'a Models,
    union: ModelUnion,
}

impl Names<'_> {
    /// Adds the names under which a member serves models.
    fn add_member(
        &mut self,
        rule: &Rule<Target<Rc<WorkerUpstream>>>,
        rest: &str,
        member: usize,
        list: &List,
    ) {
        let upstream = rule.target.member(member);
        let spec = &upstream.spec;
        let own = rule.target.as_group().and_then(|group| group.members()[member].model.as_deref());
        let mut add = |name: &str| self.add(rule, name, own, upstream, list);
        if rest.trim_end_matches('/') == DEPLOYMENTS {
            return list.ids().for_each(&mut add);
        }
        if let Some(literal) = rule.model.as_ref().and_then(|glob| glob.literal()) {
            return add(literal);
        }
        if let Some(own) = own {
            return add(own);
        }
        // Azure lists the models that could be deployed.
        let deployed = if rest.starts_with("/v1/") { spec.dialect.deployed_models() } else { Vec::new() };
        match deployed.is_empty() {
            true => list.ids().for_each(&mut add),
            false => deployed.into_iter().for_each(&mut add),
        }
        spec.models.keys().for_each(|alias| add(alias));
        if list.is_missing() {
            spec.default_model.iter().for_each(|model| add(model));
        }
    }

    /// Adds a name, if the client may use it and a request with it is routed by `rule`. `own`: the model that the member is
    /// asked for in its place.
    fn add(
        &mut self,
        rule: &Rule<Target<Rc<WorkerUpstream>>>,
        name: &str,
        own: Option<&str>,
        upstream: &WorkerUpstream,
        list: &List,
    ) {
        let is_allowed = match self.path.trim_end_matches('/').ends_with(DEPLOYMENTS) {
            true => upstream.spec.dialect.models_of(name).any(|model| self.models.allows(model)),
            false => self.models.allows(name),
        };
        let found = self.snapshot.routes.find(self.path, Some(name)).filter(|_| is_allowed);
        if found.is_some_and(|found| std::ptr::eq(found.target, &rule.target)) {
            let real = own.or_else(|| upstream.spec.model(Some(name))).unwrap_or(name);
            self.union.add(name, list.get(real), upstream.spec.id.name());
        }
    }
}
