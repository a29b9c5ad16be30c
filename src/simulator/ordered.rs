//! JSON whose members are in the order in which they were written, as the services' are:
//! `serde_json` sorts them.

use serde_json::Value;

/// JSON text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Json(String);

/// A value that can be a member of an object.
pub(super) trait Member {
    /// Appends its JSON.
    fn write(&self, out: &mut String);
}

/// An object whose members are given in their order: `object! { "id": id, "usage": () }`. `()` is
/// null.
macro_rules! object {
    ($($name:literal : $value:expr),* $(,)?) => {
        $crate::simulator::ordered::Json::of_members(&[$(($name, &$value)),*])
    };
}

pub(super) use object;

impl Json {
    pub(super) fn of_members(members: &[(&str, &dyn Member)]) -> Self {
        let mut object = Self("{".to_owned());
        for (name, value) in members {
            object.push(name, *value);
        }
        object.0.push('}');
        object
    }

    /// Adds a member at the end.
    pub(super) fn with(mut self, name: &str, value: &dyn Member) -> Self {
        assert_eq!(self.0.pop(), Some('}'), "only objects have members");
        self.push(name, value);
        self.0.push('}');
        self
    }

    /// Text that is JSON already.
    pub(super) fn raw(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }

    /// Expects the object to be open.
    fn push(&mut self, name: &str, value: &dyn Member) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        name.write(&mut self.0);
        self.0.push(':');
        value.write(&mut self.0);
    }
}

impl Member for Json {
    fn write(&self, out: &mut String) {
        out.push_str(&self.0);
    }
}

impl Member for str {
    fn write(&self, out: &mut String) {
        out.push_str(&serde_json::to_string(self).expect("a string is always JSON"));
    }
}

impl Member for String {
    fn write(&self, out: &mut String) {
        self.as_str().write(out);
    }
}

impl Member for () {
    fn write(&self, out: &mut String) {
        out.push_str("null");
    }
}

impl Member for [Json] {
    fn write(&self, out: &mut String) {
        out.push('[');
        for (index, json) in self.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            json.write(out);
        }
        out.push(']');
    }
}

impl<const N: usize> Member for [Json; N] {
    fn write(&self, out: &mut String) {
        self.as_slice().write(out);
    }
}

impl Member for Vec<Json> {
    fn write(&self, out: &mut String) {
        self.as_slice().write(out);
    }
}

impl<T: Member> Member for Option<T> {
    fn write(&self, out: &mut String) {
        match self {
            Some(value) => value.write(out),
            None => ().write(out),
        }
    }
}

impl<T: Member + ?Sized> Member for &T {
    fn write(&self, out: &mut String) {
        (**self).write(out);
    }
}

macro_rules! displayed {
    ($($of:ty),*) => {
        $(impl Member for $of {
            fn write(&self, out: &mut String) {
                out.push_str(&self.to_string());
            }
        })*
    };
}

// Their text is JSON. No float of the simulator is infinite or NaN.
displayed!(bool, i32, u32, u64, usize, f64, Value);

#[cfg(test)]
mod tests {
    #[test]
    fn members_stand_in_the_order_of_their_writing() {
        let inner = [object! { "b": 1_u64, "a": () }];
        let json = object! { "z": "say \"hi\"", "list": inner, "none": None::<bool>, "on": true, "at": 0.5 };
        assert_eq!(
            json.as_str(),
            r#"{"z":"say \"hi\"","list":[{"b":1,"a":null}],"none":null,"on":true,"at":0.5}"#
        );
        assert_eq!(json.with("more", &2_u64).as_str().rsplit_once(',').unwrap().1, "\"more\":2}");
        assert_eq!(object! {}.with("first", &()).as_str(), r#"{"first":null}"#);
    }
}
