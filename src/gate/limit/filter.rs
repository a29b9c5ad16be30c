//! The requests to which a limit applies.

use std::sync::Arc;

use crate::llm::route::Glob;

/// The requests to which a limit applies; all by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LimitFilter {
    /// A pattern for the model that the request names, or that it gets if it names none.
    pub model: Option<Glob>,
    /// The upstream of the request, or of its attempt.
    pub upstream: Option<Arc<str>>,
    /// The requests of each user count for themselves.
    pub each_user: bool,
}

impl LimitFilter {
    /// Returns true if the limit applies to all requests.
    pub fn is_empty(&self) -> bool {
        self.model.is_none() && self.upstream.is_none()
    }

    /// Returns true if one of `models`, which a request names or may get, is of the filter.
    pub fn takes_model<'a>(&self, models: impl IntoIterator<Item = &'a str>) -> bool {
        self.model.as_ref().is_none_or(|pattern| models.into_iter().any(|model| pattern.matches(model)))
    }

    /// Returns true if what an upstream has served counts.
    pub fn takes_upstream(&self, upstream: Option<&str>) -> bool {
        self.upstream.as_deref().is_none_or(|wanted| upstream == Some(wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_takes_a_model_that_matches_and_its_own_upstream() {
        let all = LimitFilter::default();
        assert!(all.is_empty() && all.takes_model([]) && all.takes_upstream(None));
        let filter = LimitFilter { model: Some(Glob::new("gpt-5*")), upstream: Some("azure".into()), ..all };
        assert!(!filter.is_empty());
        assert!(filter.takes_model(["o3", "gpt-5-mini"]));
        assert!(!filter.takes_model(["o3"]) && !filter.takes_model([]));
        assert!(filter.takes_upstream(Some("azure")));
        assert!(!filter.takes_upstream(Some("azure-west")) && !filter.takes_upstream(None));
    }
}
