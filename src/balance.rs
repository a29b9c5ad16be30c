//! Choice of the upstream for the next attempt at a request, and of its variant.
//!
//! Decisions only: there is no upstream, no socket and no clock. A route leads to a [`Target`],
//! whose members are numbered. For one upstream, [`Attempts`] decides only the variant. For a
//! group:
//!
//! 1. [`HealthRegistry`] keeps the health of upstreams, and of pairs of an upstream and a model.
//!    All workers share it, and it survives a reload.
//! 2. [`UpstreamGroup`] is a configured group, bound to the registry.
//! 3. [`Plan`] is the order of members for one request. Each [`Plan::next`] returns a [`Permit`] to
//!    ask one member, which counts as running for the life of the permit.
//! 4. The permit records the result in the registry. A [`Failure`] has a [`Verdict`]: may another
//!    member be asked, and what is closed for how long.
//!
//! A verdict that a request's content or model can cause closes at most the pair of a member and
//! its model. A run of failures counts only if it has two clients or prompts, so that one client
//! cannot take an upstream away from the others.

mod attempts;
mod circuit;
mod client_timeout;
mod first_event;
mod group;
mod health;
mod latency;
mod permit;
mod plan;
mod policy;
mod probe;
mod rate_limit;
mod retry_budget;
mod retry_on;
mod state;
mod sticky;
mod target;
mod verdict;
mod waiting;

pub use attempts::{Attempt, Attempts, Variant};
pub use circuit::{BreakerPolicy, Opening, OutReason};
pub use client_timeout::{CLIENT_MARGIN, client_deadline, client_retries};
pub use first_event::{FIRST_EVENT_LIMIT, FirstEvent};
pub use group::{ChoiceBy, GroupSpec, MAX_MEMBERS, MemberSpec, UpstreamGroup};
pub use health::{HealthRegistry, ModelHealth, UpstreamHealth, UpstreamPlace, UpstreamPlaces};
pub use permit::{Permit, RelayEnd};
pub use plan::{End, Plan, PlanRequest, Step, Unavailable, ask_only};
pub use policy::RetryPolicy;
pub use probe::{Probe, ProbeCounts, ProbeResult};
pub use rate_limit::{Clock, Cooldown, cooldown};
pub use retry_on::{RetryOn, RetryWord};
pub use state::{MemberState, ModelState, OutState};
pub use sticky::{
    Account, Fingerprint, FleetPins, MOST_ASKED, Pin, PinAsk, Pins, PromptHash, SharedPin, StickyBody,
    StickyBy, StickyKey, StickyParts, StickyResult, any_sticky_key, sticky_key,
};
pub use target::{GroupTarget, Target};
pub use verdict::{Closes, Failure, RetryClass, UpstreamError, Verdict};
pub use waiting::{Waited, Waiting};
