//! The state of a group's members at a time, for people and their programs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::circuit::{Circuit, CircuitState};
use super::{HealthRegistry, ModelHealth, OutReason, UpstreamGroup};
use crate::support::UpstreamId;

/// The largest number of models with a state of their own that are listed for a member.
const MOST_MODELS: usize = 100;

/// A member of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberState {
    pub upstream: UpstreamId,
    /// The model that replaces the request's.
    pub model: Option<Arc<str>>,
    /// The place of its tier, from 1 on.
    pub tier: usize,
    pub weight: u32,
    /// The requests that run there for this and other groups.
    pub running: u32,
    /// The upstream is left out as a whole.
    pub out: Option<OutState>,
    /// The models that are left out or rate limited, or whose utilisation is known, by name.
    pub models: Vec<ModelState>,
    /// The number of further models.
    pub unlisted: usize,
}

/// A model at a member.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelState {
    /// Empty for requests without a model.
    pub name: Box<str>,
    pub out: Option<OutState>,
    /// The rest of a rate limit.
    pub cooldown: Option<Duration>,
    /// The utilisation of an Azure deployment; 1 is full.
    pub utilization: Option<f64>,
}

/// A breaker that is not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutState {
    pub reason: OutReason,
    /// The time since it opened.
    pub since: Duration,
    /// The rest of the pause. `None`: it is over, and a request or a probe decides.
    pub rest: Option<Duration>,
}

impl MemberState {
    /// Returns true if requests for some model can be sent there.
    pub fn is_available(&self) -> bool {
        self.out.is_none()
    }
}

impl UpstreamGroup {
    /// The members, in the order of [`UpstreamGroup::members`]. `models` are those of
    /// [`HealthRegistry::models`].
    pub fn states(&self, models: &[Arc<ModelHealth>], now: Instant) -> Vec<MemberState> {
        let registry = &self.registry;
        let tick = registry.tick(now);
        let tier =
            |number: usize| self.tiers().iter().position(|tier| tier.contains(&number)).unwrap_or_default();
        let state = |(number, member): (usize, &super::MemberSpec)| {
            let bound = &self.bound[number];
            let is_here = |model: &&Arc<ModelHealth>| {
                let is_named = member.model.as_ref().is_none_or(|own| **own == *model.name());
                model.upstream() == bound.upstream.index() && is_named
            };
            let mut models: Vec<_> =
                models.iter().filter(is_here).filter_map(|model| model_state(model, registry, now)).collect();
            models.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            let unlisted = models.len().saturating_sub(MOST_MODELS);
            models.truncate(MOST_MODELS);
            MemberState {
                upstream: member.upstream.clone(),
                model: member.model.clone(),
                tier: tier(number) + 1,
                weight: member.weight,
                running: bound.load.running(),
                out: out_state(&bound.upstream.circuit, tick),
                models,
                unlisted,
            }
        };
        self.members().iter().enumerate().map(state).collect()
    }
}

/// `None`: there is nothing to say.
fn model_state(model: &ModelHealth, registry: &HealthRegistry, now: Instant) -> Option<ModelState> {
    let state = ModelState {
        name: model.name().into(),
        out: out_state(&model.circuit, registry.tick(now)),
        cooldown: model.cooldown(registry, now),
        utilization: model.utilization(),
    };
    let is_empty = state.out.is_none() && state.cooldown.is_none() && state.utilization.is_none();
    (!is_empty).then_some(state)
}

fn out_state(circuit: &Circuit, tick: u64) -> Option<OutState> {
    let (reason, opened) = circuit.opened()?;
    let rest = match circuit.state(tick) {
        CircuitState::Closed => return None,
        CircuitState::Open(end) => Some(Duration::from_millis(end - tick)),
        CircuitState::HalfOpen | CircuitState::Trial(_) => None,
    };
    Some(OutState { reason, since: Duration::from_millis(tick.saturating_sub(opened)), rest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::circuit::Opening;
    use crate::balance::rate_limit::Cooldown;
    use crate::balance::{GroupSpec, MemberSpec};

    #[test]
    fn state_names_reason_and_times() {
        let start = Instant::now();
        let registry = HealthRegistry::new(start);
        let member = |name: &str, model: Option<&str>| MemberSpec {
            model: model.map(Into::into),
            ..MemberSpec::from(UpstreamId::from(name))
        };
        let tiers = vec![vec![member("a", None), member("b", None)], vec![member("a", Some("own"))]];
        let group = UpstreamGroup::new(GroupSpec { name: "g".into(), ..GroupSpec::of(tiers) }, &registry);
        let states = |millis| group.states(&registry.models(), start + Duration::from_millis(millis));
        assert!(states(0).iter().all(|state| state.is_available() && state.models.is_empty()));
        assert_eq!(states(0).iter().map(|state| state.tier).collect::<Vec<_>>(), [1, 1, 2]);

        let (a, b) = (registry.upstream(&"a".into()), registry.upstream(&"b".into()));
        let pause = Duration::from_secs(4);
        let opening = |reason| Opening { reason, first: pause, longest: pause };
        assert!(b.circuit.open(2000, &opening(OutReason::Credentials)));
        let own = registry.model(&a, "own");
        assert!(own.circuit.open(3000, &opening(OutReason::UnknownModel)));
        own.limit(Some(Cooldown(Duration::from_secs(9))), 3000, 0);
        registry.model(&a, "well");

        let at = states(5000);
        let seconds = Duration::from_secs;
        let out =
            |reason, since, rest| Some(OutState { reason, since: seconds(since), rest: Some(seconds(rest)) });
        assert_eq!((at[0].out, at[1].out, at[2].out), (None, out(OutReason::Credentials, 3, 1), None));
        let expected = ModelState {
            name: "own".into(),
            out: out(OutReason::UnknownModel, 2, 2),
            cooldown: Some(seconds(7)),
            utilization: None,
        };
        assert_eq!((&at[0].models, &at[1].models), (&vec![expected.clone()], &vec![]));
        assert_eq!((&at[2].models, at[2].unlisted), (&vec![expected], 0));
        assert_eq!(states(6000)[1].out.map(|out| out.rest), Some(None), "the pause is over");
        // A pause that continues keeps its beginning.
        assert!(b.circuit.open(7000, &opening(OutReason::Credentials)));
        assert_eq!(states(8000)[1].out, out(OutReason::Credentials, 6, 3));
    }
}
