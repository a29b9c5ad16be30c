//! A number within bounds.

use serde_json::{Number, Value};

/// The values of an integer and a number without constraints.
const INTEGER: f64 = 1.0;
const NUMBER: f64 = 0.5;

/// A bound, and true if it is itself allowed.
#[derive(Clone, Copy)]
struct Bound {
    at: f64,
    is_allowed: bool,
}

struct Bounds {
    least: Option<Bound>,
    most: Option<Bound>,
}

pub(super) fn integer(schema: &Value) -> Result<Value, String> {
    let step = schema["multipleOf"].as_f64().filter(|step| *step > 0.0 && step.fract() == 0.0).unwrap_or(1.0);
    stepped(schema, INTEGER, step)
}

pub(super) fn number(schema: &Value) -> Result<Value, String> {
    if let Some(step) = schema["multipleOf"].as_f64().filter(|step| *step > 0.0) {
        return stepped(schema, NUMBER, step);
    }
    let bounds = Bounds::of(schema);
    let candidates = match (bounds.least, bounds.most) {
        (Some(least), Some(most)) => [least.at.midpoint(most.at), least.at],
        (Some(least), None) => [least.at, least.at + NUMBER],
        (None, Some(most)) => [most.at, most.at - NUMBER],
        (None, None) => [NUMBER; 2],
    };
    first_within(&bounds, &[&[NUMBER], candidates.as_slice()].concat())
}

/// A multiple of `step`.
fn stepped(schema: &Value, usual: f64, step: f64) -> Result<Value, String> {
    let bounds = Bounds::of(schema);
    let at = |value: f64| (value / step).ceil() * step;
    let mut candidates = vec![at(usual)];
    if let Some(least) = bounds.least {
        candidates.extend([at(least.at), at(least.at) + step]);
    }
    if let Some(most) = bounds.most {
        let below = (most.at / step).floor() * step;
        candidates.extend([below, below - step]);
    }
    first_within(&bounds, &candidates)
}

fn first_within(bounds: &Bounds, candidates: &[f64]) -> Result<Value, String> {
    let found = candidates.iter().find(|value| bounds.allow(**value));
    found.map(|value| as_json(*value)).ok_or_else(|| "no number is within the bounds".to_owned())
}

fn as_json(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return Value::from(value as i64);
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

impl Bounds {
    fn of(schema: &Value) -> Self {
        let bound = |name: &str, is_allowed| schema[name].as_f64().map(|at| Bound { at, is_allowed });
        // The stricter one.
        let stricter = |bounds: [Option<Bound>; 2], sign: f64| {
            let order = |bound: &Bound| (sign * bound.at, !bound.is_allowed);
            let bounds = bounds.into_iter().flatten();
            bounds.reduce(|first, second| if order(&second) > order(&first) { second } else { first })
        };
        Self {
            least: stricter([bound("minimum", true), bound("exclusiveMinimum", false)], 1.0),
            most: stricter([bound("maximum", true), bound("exclusiveMaximum", false)], -1.0),
        }
    }

    fn allow(&self, value: f64) -> bool {
        let above =
            self.least.is_none_or(|least| value > least.at || (least.is_allowed && value == least.at));
        let below = self.most.is_none_or(|most| value < most.at || (most.is_allowed && value == most.at));
        above && below && value.is_finite()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn integers_keep_their_bounds() {
        for (schema, expected) in [
            (json!({}), 1),
            (json!({"minimum": 7}), 7),
            (json!({"minimum": 1.5}), 2),
            (json!({"exclusiveMinimum": 7}), 8),
            (json!({"exclusiveMinimum": 7.5}), 8),
            (json!({"maximum": -3}), -3),
            (json!({"exclusiveMaximum": -3}), -4),
            (json!({"minimum": 3, "exclusiveMinimum": 3}), 4),
            (json!({"multipleOf": 5}), 5),
            (json!({"multipleOf": 5, "minimum": 11, "maximum": 19}), 15),
            (json!({"multipleOf": 5, "maximum": 0}), 0),
        ] {
            assert_eq!(integer(&schema), Ok(json!(expected)), "{schema}");
        }
        assert!(integer(&json!({"minimum": 1.2, "maximum": 1.8})).is_err());
    }

    #[test]
    fn numbers_keep_their_bounds() {
        for (schema, expected) in [
            (json!({}), json!(0.5)),
            (json!({"exclusiveMinimum": 0, "exclusiveMaximum": 1}), json!(0.5)),
            (json!({"exclusiveMinimum": 5, "exclusiveMaximum": 6}), json!(5.5)),
            (json!({"minimum": 9}), json!(9)),
            (json!({"exclusiveMinimum": 9}), json!(9.5)),
            (json!({"maximum": -1}), json!(-1)),
            (json!({"multipleOf": 0.25, "minimum": 2.1}), json!(2.25)),
            (json!({"minimum": 3, "maximum": 3}), json!(3)),
        ] {
            assert_eq!(number(&schema), Ok(expected), "{schema}");
        }
        assert!(number(&json!({"minimum": 2, "maximum": 1})).is_err());
    }
}
