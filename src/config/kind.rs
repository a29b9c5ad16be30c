//! Kinds of values: their readers and their descriptions. Both are defined together, so that the
//! schema and the documentation cannot differ from the reader.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use figment::value::Value;

use super::duration::{duration, past, timeout};
use super::notes::Read;
use super::reader::Entry;
use super::settings::MemoryLimit;
use super::size::size;
use crate::support::{Hosts, ListenAddress, Networks, Pattern, UNIX};

/// A kind of value; `F` reads it.
pub(super) struct Kind<F> {
    pub(super) shape: Shape,
    pub(super) default: Option<Value>,
    pub(super) read: F,
}

/// The shape of a value, for the schema and the documentation.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    Boolean,
    /// A whole number in this range.
    Integer(usize, usize),
    /// A number from 0, up to this one.
    Number(Option<f64>),
    /// A text: its description, and the regular expression that it matches.
    Text(&'static str, Option<&'static str>),
    Choice(Vec<&'static str>),
    List(Box<Shape>),
    /// A table that locates a text with one of these keys.
    Source(&'static str, &'static [&'static str]),
    /// A text that is a secret itself.
    Secret,
    /// A table whose keys have descriptions of their own.
    Table,
    /// `[[key]]` tables; the keys of each have descriptions of their own.
    Tables,
    /// A table whose keys the user chooses, and a regular expression that they match.
    Names(Option<String>),
    AnyOf(Vec<Shape>),
}

impl Shape {
    /// The shapes of [`Shape::AnyOf`], or this one.
    pub(super) fn alternatives(&self) -> &[Self] {
        match self {
            Self::AnyOf(shapes) => shapes,
            shape => std::slice::from_ref(shape),
        }
    }

    /// Returns true if a value can be a table whose keys have descriptions of their own.
    pub(super) fn is_table(&self) -> bool {
        self.alternatives().iter().any(|shape| matches!(shape, Self::Table | Self::Tables))
    }

    /// Returns true if a value is a list of tables, or of lists of them, whose keys the comment of the
    /// list describes.
    pub(super) fn has_inline_tables(&self) -> bool {
        let is_inline = |shape: &Self| shape.is_table() || shape.has_inline_tables();
        matches!(self, Self::List(item) if is_inline(item))
    }

    /// Returns true if a value can be a secret, or a table that locates a text.
    pub(super) fn has_source(&self) -> bool {
        self.alternatives().iter().any(|shape| match shape {
            Self::List(item) => item.has_source(),
            shape => matches!(shape, Self::Source(..) | Self::Secret),
        })
    }

    /// Returns true if the text is one of the shape's choices.
    pub(super) fn has_choice(&self, text: &str) -> bool {
        self.alternatives()
            .iter()
            .any(|shape| matches!(shape, Self::Choice(choices) if choices.contains(&text)))
    }
}

/// The presence of a key: required, optional, or with a default.
#[derive(Clone, Debug)]
pub(super) enum Presence {
    Required,
    Optional,
    /// The reader's default.
    Default(Value),
    /// `config/default.toml` has the default.
    Compiled,
}

impl<F> Kind<F> {
    pub(super) fn new<T>(shape: Shape, read: F) -> Self
    where
        F: Fn(&Entry<'_>) -> Read<T>,
    {
        Self { shape, default: None, read }
    }

    /// The value if the key is missing.
    pub(super) fn default(self, value: impl Into<Value>) -> Self {
        Self { default: Some(value.into()), ..self }
    }

    /// Accepts also `""`, for no value.
    pub(super) fn or_empty<T>(self) -> Kind<impl FnOnce(&Entry<'_>) -> Read<Option<T>>>
    where
        F: FnOnce(&Entry<'_>) -> Read<T>,
    {
        let read = |entry: &Entry<'_>| match entry.as_text() {
            Some("") => Ok(None),
            _ => (self.read)(entry).map(Some),
        };
        let shape = Shape::AnyOf(vec![self.shape, Shape::Choice(vec![""])]);
        Kind { shape, default: self.default, read }
    }

    /// Adds a rule, or a conversion to another type.
    pub(super) fn then<T, U>(
        self,
        rule: impl FnOnce(&Entry<'_>, T) -> Read<U>,
    ) -> Kind<impl FnOnce(&Entry<'_>) -> Read<U>>
    where
        F: FnOnce(&Entry<'_>) -> Read<T>,
    {
        let read = |entry: &Entry<'_>| (self.read)(entry).and_then(|value| rule(entry, value));
        Kind { shape: self.shape, default: self.default, read }
    }
}

pub(super) fn boolean() -> Kind<impl FnOnce(&Entry<'_>) -> Read<bool>> {
    Kind::new(Shape::Boolean, |entry: &Entry<'_>| entry.boolean())
}

/// A whole number from 0.
pub(super) fn integer() -> Kind<impl FnOnce(&Entry<'_>) -> Read<usize>> {
    Kind::new(Shape::Integer(0, usize::MAX), |entry: &Entry<'_>| entry.integer())
}

/// A number of requests that run at the same time; 0: any number.
pub(super) fn requests() -> Kind<impl FnOnce(&Entry<'_>) -> Read<u32>> {
    Kind::new(Shape::Integer(0, MAX_REQUESTS), |entry: &Entry<'_>| match u32::try_from(entry.integer()?) {
        Ok(number) if number as usize <= MAX_REQUESTS => Ok(number),
        _ => Err(entry.mistake(format!("must be at most {MAX_REQUESTS}; 0 is any number"))),
    })
}

/// The largest limit on running requests.
const MAX_REQUESTS: usize = 1_000_000;

/// One of several texts, each with its value.
pub(super) fn choice<T: Clone + 'static>(
    choices: &'static [(&'static str, T)],
) -> Kind<impl FnOnce(&Entry<'_>) -> Read<T>> {
    let shape = Shape::Choice(choices.iter().map(|(text, _)| *text).collect());
    Kind::new(shape, |entry: &Entry<'_>| {
        let words = alternatives(choices.iter().map(|(text, _)| *text));
        let text = entry.text(&words)?;
        let choice = choices.iter().find(|(known, _)| *known == text);
        choice
            .map(|(_, value)| value.clone())
            .ok_or_else(|| entry.mistake(format!("{text:?} is unknown: write {words}")))
    })
}

/// `"a", "b" or "c"`.
pub(super) fn alternatives<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let mut words: Vec<_> = words.into_iter().map(|word| format!("{word:?}")).collect();
    match (words.pop(), words.as_slice()) {
        (Some(last), []) => last,
        (Some(last), earlier) => format!("{} or {last}", earlier.join(", ")),
        (None, _) => String::new(),
    }
}

/// Any text.
pub(super) fn text() -> Kind<impl Fn(&Entry<'_>) -> Read<String>> {
    Kind::new(Shape::Text("text", None), |entry: &Entry<'_>| entry.text("text in quotes").map(str::to_owned))
}

/// A text that `parse` accepts, or refuses with a reason. Messages about values of other types
/// contain `what`; the description contains `name` and `pattern`.
pub(super) fn parsed<T>(
    name: &'static str,
    pattern: Option<&'static str>,
    what: &'static str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Kind<impl Fn(&Entry<'_>) -> Read<T>> {
    Kind::new(Shape::Text(name, pattern), move |entry: &Entry<'_>| {
        parse(entry.text(what)?).map_err(|reason| entry.mistake(reason))
    })
}

/// An array of texts of one kind.
pub(super) fn list<T>(
    item: Kind<impl Fn(&Entry<'_>) -> Read<T>>,
) -> Kind<impl FnOnce(&Entry<'_>) -> Read<Vec<T>>> {
    Kind::new(Shape::List(Box::new(item.shape)), move |entry: &Entry<'_>| entry.list(&item.read))
}

/// A duration longer than zero, up to a year.
pub(super) fn time() -> Kind<impl Fn(&Entry<'_>) -> Read<Duration>> {
    duration_by(timeout)
}

/// A duration from zero, up to a year.
pub(super) fn any_time() -> Kind<impl Fn(&Entry<'_>) -> Read<Duration>> {
    duration_by(duration)
}

/// A duration longer than zero, up to a hundred years.
pub(super) fn past_time() -> Kind<impl Fn(&Entry<'_>) -> Read<Duration>> {
    duration_by(past)
}

fn duration_by(
    parse: impl Fn(&str) -> Result<Duration, String>,
) -> Kind<impl Fn(&Entry<'_>) -> Read<Duration>> {
    let pattern = Some("^([0-9]+(ms|s|m|h|d|w))+$");
    parsed("duration", pattern, "a duration in quotes, such as \"30s\" or \"90d\"", parse)
}

/// A number of bytes, at least 1.
pub(super) fn bytes() -> Kind<impl FnOnce(&Entry<'_>) -> Read<usize>> {
    let shape = Shape::AnyOf(vec![
        Shape::Text("number of bytes", Some("^[0-9]+(([kKmMgG][iI]?)?[bB])?$")),
        Shape::Integer(1, usize::MAX),
    ]);
    Kind::new(shape, |entry: &Entry<'_>| {
        let bytes = if entry.is_number() {
            entry.integer()?
        } else {
            let text = entry.text("a number of bytes, such as \"32MiB\" or 1000000")?;
            size(text).map_err(|reason| entry.mistake(reason))?
        };
        if bytes == 0 { Err(entry.mistake("must be at least 1 byte")) } else { Ok(bytes) }
    })
}

/// A limit on memory: `""` for that of the system, 0 for none.
pub(super) fn memory_limit() -> Kind<impl FnOnce(&Entry<'_>) -> Read<MemoryLimit>> {
    let shape = Shape::AnyOf(vec![
        Shape::Text("number of bytes", Some("^[0-9]+(([kKmMgG][iI]?)?[bB])?$")),
        Shape::Integer(0, usize::MAX),
        Shape::Choice(vec![""]),
    ]);
    Kind::new(shape, |entry: &Entry<'_>| {
        let bytes = if entry.is_number() {
            entry.integer()?
        } else {
            match entry
                .text("a number of bytes, such as \"512MiB\", 0 for no limit, or \"\" for the default")?
            {
                "" => return Ok(MemoryLimit::OfSystem),
                text => size(text).map_err(|reason| entry.mistake(reason))?,
            }
        };
        match bytes {
            0 => Ok(MemoryLimit::None),
            LEAST_MEMORY.. => Ok(MemoryLimit::Bytes(bytes)),
            _ => Err(entry.mistake("must be at least 16MiB; 0 is no limit")),
        }
    })
}

/// Less would leave nothing for requests.
const LEAST_MEMORY: usize = 16 << 20;

/// A number of bytes per second; 0 or `""` for none.
pub(super) fn rate() -> Kind<impl FnOnce(&Entry<'_>) -> Read<Option<NonZeroU32>>> {
    const FORM: &str = "a number of bytes per second, such as \"500B/s\"";
    let shape = Shape::AnyOf(vec![
        Shape::Text("number of bytes per second", Some("^[0-9]+(([kKmMgG][iI]?)?[bB])?(/s)?$")),
        Shape::Integer(0, u32::MAX as usize),
        Shape::Choice(vec![""]),
    ]);
    Kind::new(shape, |entry: &Entry<'_>| {
        let rate = match entry.as_text() {
            _ if entry.is_number() => entry.integer()?,
            Some("") => 0,
            _ => {
                let text = entry.text(FORM)?;
                size(text.strip_suffix("/s").unwrap_or(text)).map_err(|_| {
                    entry.mistake(format!("{text:?} is not a rate: write {FORM}, or \"\" for none"))
                })?
            }
        };
        u32::try_from(rate).map(NonZeroU32::new).map_err(|_| entry.mistake("must be less than 4GiB/s"))
    })
}

/// An IP address and a port.
fn inet(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| match text.strip_prefix(':').or_else(|| text.strip_prefix("*:")) {
        Some(port) => {
            format!("{text:?} has no address: write \"127.0.0.1:{port}\", or \"0.0.0.0:{port}\" for all")
        }
        None => format!(
            "{text:?} is not an address and a port: write for example \"127.0.0.1:8080\" or \"[::1]:8080\""
        ),
    })
}

/// An IP address and a port, or a Unix socket, to listen on.
pub(super) fn listen_address() -> Kind<impl Fn(&Entry<'_>) -> Read<ListenAddress>> {
    const WHAT: &str = "an address and a port, or a Unix socket, in quotes, such as \"127.0.0.1:8080\"";
    parsed("address and port, or Unix socket", Some("^(.+:[0-9]+|unix:/.+)$"), WHAT, |text| {
        match text.strip_prefix(UNIX) {
            Some(path) => ListenAddress::parse_unix(path),
            None => inet(text).map(ListenAddress::Inet),
        }
    })
}

/// The permissions of a file, in octal.
pub(super) fn file_mode() -> Kind<impl Fn(&Entry<'_>) -> Read<u32>> {
    parsed("file mode", Some("^0?[0-7]{3}$"), "permissions in octal and quotes, such as \"0660\"", |text| {
        let digits = text.strip_prefix('0').filter(|rest| rest.len() == 3).unwrap_or(text);
        let is_octal = digits.len() == 3 && digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
        u32::from_str_radix(digits, 8).ok().filter(|_| is_octal).ok_or_else(|| {
            format!("{text:?} is not a file mode: write three octal digits, such as \"0660\" for the owner and the group")
        })
    })
}

/// A host as in lists of hosts: a name, `*.suffix`, `*`, or an address.
pub(super) fn host(text: &str) -> Result<Pattern, String> {
    match Pattern::parse(text) {
        Ok(pattern @ (Pattern::All | Pattern::Name(_))) => Ok(pattern),
        Ok(pattern @ Pattern::Below(_)) if text.starts_with('*') => Ok(pattern),
        Ok(pattern @ Pattern::Net(_)) if !text.contains('/') => Ok(pattern),
        _ => Err(format!(
            "{text:?} is not a host: write a name, \"*.suffix\" for the names below it, or \"*\" for all; without a scheme and \
             a port"
        )),
    }
}

/// A list of hosts, each read by `parse`.
pub(super) fn hosts(
    parse: impl Fn(&str) -> Result<Pattern, String>,
) -> Kind<impl FnOnce(&Entry<'_>) -> Read<Hosts>> {
    let item = parsed("host", None, "text in quotes", parse);
    list(item).then(|_, patterns| Ok(Hosts::new(patterns)))
}

/// A list of networks and single addresses.
pub(super) fn networks() -> Kind<impl FnOnce(&Entry<'_>) -> Read<Networks>> {
    let what = "a network in quotes, such as \"10.0.0.0/8\"";
    let network = parsed("network", Some("^[0-9A-Fa-f.:]+(/[0-9]+)?$"), what, Networks::parse);
    list(network).then(|_, networks| Ok(Networks::new(networks)))
}
