//! The directions of one request to the simulator: the amount, the pace, the form and the faults of
//! its response.
//!
//! Directions are `key=value` pairs with commas between them. They come in the header `x-simulate`,
//! and, since most applications can set little more than a model, after a colon in the model's
//! name: `sim:events=100,pace=10ms`. If both have a key, the header wins. [`HELP`](super::HELP)
//! documents all keys.

use std::time::Duration;

use super::content::MAX_CALLS;
use super::limit::LimitStyle;
use super::text::SENTENCE;

/// The largest amount of text of an unstreamed response, or of one that repeats its text at the
/// end.
const MAX_WHOLE_TEXT: u64 = 64 * 1024 * 1024;

/// The largest number of events in a response whose events are written beforehand.
const MAX_HELD_EVENTS: u64 = 100_000;

/// The largest amount of text in one event.
const MAX_EVENT_TEXT: u64 = 16 * 1024 * 1024;

/// The largest number of events in one response.
const MAX_EVENTS: u64 = 1_000_000_000;

/// The longest time in directions: an hour.
const MAX_TIME: Duration = Duration::from_secs(3600);

/// Directions for the response to one request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Directions {
    pub(super) events: u64,
    /// Bytes of text in an event; 0 is one word.
    pub(super) size: usize,
    pub(super) pace: Duration,
    pub(super) delay: Duration,
    /// The longest delay; each request has one between the two. `None`: all have `delay`.
    pub(super) longest_delay: Option<Duration>,
    /// Bytes in a piece of a stream; 0 is an event in each.
    pub(super) chunk: usize,
    pub(super) stamp: bool,
    pub(super) usage: UsagePlace,
    pub(super) cached: u64,
    pub(super) reasoning: u64,
    pub(super) finish: Finish,
    /// The tool that is called; `none` is none.
    pub(super) tool: Option<String>,
    pub(super) calls: u64,
    pub(super) status: u16,
    /// The form and the time of a 429's limit.
    pub(super) limit: LimitStyle,
    pub(super) after: Duration,
    /// The utilisation of a provisioned deployment of Azure, in percent.
    pub(super) utilization: Option<u8>,
    /// The status for requests with `stream_options`.
    pub(super) reject: Option<u16>,
    pub(super) fault: Option<Fault>,
}

/// The place of usage in a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum UsagePlace {
    Asked,
    Always,
    Finish,
    Every,
    None,
}

/// The finish reason of the response.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Finish {
    Stop,
    Length,
    ContentFilter,
}

/// A fault and its time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    /// `None`: before the response headers.
    pub(super) at: Option<Point>,
}

/// The fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum FaultKind {
    Silence,
    Cut,
    Reset,
    Garbage,
    Error,
}

/// A place in a response: the number of whole events, and of bytes of the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) events: u64,
    pub(super) bytes: usize,
}

impl Default for Directions {
    fn default() -> Self {
        Self {
            events: SENTENCE,
            size: 0,
            pace: Duration::ZERO,
            delay: Duration::ZERO,
            longest_delay: None,
            chunk: 0,
            stamp: false,
            usage: UsagePlace::Asked,
            cached: 0,
            reasoning: 0,
            finish: Finish::Stop,
            tool: None,
            calls: 1,
            status: 200,
            limit: LimitStyle::default(),
            after: Duration::from_secs(1),
            utilization: None,
            reject: None,
            fault: None,
        }
    }
}

impl Directions {
    /// Overrides earlier directions by those in `text`.
    ///
    /// # Errors
    /// Fails with the wrong pair and the right form, for the user.
    pub(super) fn add(&mut self, text: &str) -> Result<(), String> {
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| format!("`{pair}` is not key=value"))?;
            self.set(key.trim(), value.trim()).map_err(|expected| format!("`{pair}`: {expected}"))?;
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "events" => self.events = number(value, MAX_EVENTS)?,
            "size" => self.size = number(value, MAX_EVENT_TEXT)? as usize,
            "pace" => self.pace = time(value)?,
            "delay" => (self.delay, self.longest_delay) = delays(value)?,
            "limit" => self.limit = LimitStyle::parse(value)?,
            "after" => self.after = time(value)?,
            "utilization" => self.utilization = Some(number(value, 100)? as u8),
            "chunk" if value == "event" => self.chunk = 0,
            "chunk" => self.chunk = number(value, MAX_EVENT_TEXT)? as usize,
            "stamp" => self.stamp = number(value, 1)? == 1,
            "usage" => self.usage = usage_place(value)?,
            "cached" => self.cached = number(value, MAX_EVENTS)?,
            "reasoning" => self.reasoning = number(value, MAX_EVENTS)?,
            "finish" => self.finish = finish(value)?,
            "tool" => self.tool = Some(value.to_owned()),
            "calls" => self.calls = number(value, MAX_CALLS)?.max(1),
            "status" => self.status = status(value)?,
            "reject" => self.reject = Some(status(value)?),
            "fault" => self.fault = Some(fault(value)?),
            _ => return Err("there is no such key; `streamgauge simulate --help` lists them".to_owned()),
        }
        Ok(())
    }

    /// The delay of one request.
    pub(super) fn delay_of_one(&self) -> Duration {
        let more = self.longest_delay.map_or(Duration::ZERO, |longest| longest - self.delay);
        self.delay + more.mul_f64(fastrand::f64())
    }

    /// Checks that the text is small enough to be held whole.
    ///
    /// # Errors
    /// Fails with the exceeded limit, for the user.
    pub(super) fn fits_in_memory(&self) -> Result<(), String> {
        // No word of the text is longer than 16 bytes.
        let text = self.events.saturating_mul(self.size.max(16) as u64);
        if text <= MAX_WHOLE_TEXT {
            return Ok(());
        }
        Err(format!("events times size is more than the {MAX_WHOLE_TEXT} bytes that are held at once"))
    }
}

impl Directions {
    /// Checks that the events may be written beforehand.
    ///
    /// # Errors
    /// Fails with the exceeded limit, for the user.
    pub(super) fn fits_in_a_reel(&self) -> Result<(), String> {
        if self.events > MAX_HELD_EVENTS {
            return Err(format!("more than {MAX_HELD_EVENTS} events in a response of this kind"));
        }
        self.fits_in_memory()
    }
}

fn number(value: &str, most: u64) -> Result<u64, String> {
    let number = value.parse().ok().filter(|number| *number <= most);
    number.ok_or_else(|| format!("expected a number up to {most}"))
}

fn status(value: &str) -> Result<u16, String> {
    let status = value.parse().ok().filter(|status| (200..=599).contains(status));
    status.ok_or_else(|| "expected a status from 200 to 599".to_owned())
}

fn time(value: &str) -> Result<Duration, String> {
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (count, unit) = value.split_at(digits);
    let count = count.parse::<u64>().ok();
    let time = match (count, unit) {
        (Some(0), "") => Some(Duration::ZERO),
        (Some(count), "us") => Some(Duration::from_micros(count)),
        (Some(count), "ms") => Some(Duration::from_millis(count)),
        (Some(count), "s") => Some(Duration::from_secs(count)),
        _ => None,
    };
    time.filter(|time| *time <= MAX_TIME)
        .ok_or_else(|| "expected a time such as 500us, 10ms or 2s".to_owned())
}

/// A time, or the shortest and the longest: `5ms..50ms`.
fn delays(value: &str) -> Result<(Duration, Option<Duration>), String> {
    let Some((shortest, longest)) = value.split_once("..") else { return Ok((time(value)?, None)) };
    let (shortest, longest) = (time(shortest)?, time(longest)?);
    if longest < shortest {
        return Err("expected the shorter time first".to_owned());
    }
    Ok((shortest, Some(longest)))
}

fn usage_place(value: &str) -> Result<UsagePlace, String> {
    Ok(match value {
        "asked" => UsagePlace::Asked,
        "always" => UsagePlace::Always,
        "finish" => UsagePlace::Finish,
        "every" => UsagePlace::Every,
        "none" => UsagePlace::None,
        _ => return Err("expected asked, always, finish, every or none".to_owned()),
    })
}

fn finish(value: &str) -> Result<Finish, String> {
    Ok(match value {
        "stop" => Finish::Stop,
        "length" => Finish::Length,
        "content_filter" => Finish::ContentFilter,
        _ => return Err("expected stop, length or content_filter".to_owned()),
    })
}

fn fault(value: &str) -> Result<Fault, String> {
    let (kind, at) = value.split_once('@').map_or((value, None), |(kind, at)| (kind, Some(at)));
    let kind = match kind {
        "silence" => FaultKind::Silence,
        "cut" => FaultKind::Cut,
        "reset" => FaultKind::Reset,
        "garbage" => FaultKind::Garbage,
        "error" => FaultKind::Error,
        _ => return Err("expected silence, cut, reset, garbage or error, then perhaps @N or @N+B".to_owned()),
    };
    Ok(Fault { kind, at: at.map(point).transpose()? })
}

fn point(value: &str) -> Result<Point, String> {
    let (events, bytes) = value.split_once('+').unwrap_or((value, "0"));
    Ok(Point { events: number(events, MAX_EVENTS)?, bytes: number(bytes, MAX_EVENT_TEXT)? as usize })
}

#[cfg(test)]
mod tests {
    use super::super::HELP;
    use super::*;

    fn parsed(text: &str) -> Result<Directions, String> {
        let mut directions = Directions::default();
        directions.add(text).map(|()| directions)
    }

    #[test]
    fn nothing_said_is_the_default() {
        assert_eq!(parsed("").unwrap(), Directions::default());
        assert_eq!(parsed(" , ").unwrap(), Directions::default());
    }

    #[test]
    fn all_pairs_are_taken() {
        let text = "events=100, pace=10ms,size=250,delay=2s..3s,limit=google,after=9s,utilization=87,chunk=7,stamp=1,usage=finish,cached=3,reasoning=4,\
                    finish=length,tool=look,calls=2,status=500,reject=422,fault=cut@50+9";
        let fault = Fault { kind: FaultKind::Cut, at: Some(Point { events: 50, bytes: 9 }) };
        let expected = Directions {
            events: 100,
            size: 250,
            pace: Duration::from_millis(10),
            delay: Duration::from_secs(2),
            longest_delay: Some(Duration::from_secs(3)),
            limit: LimitStyle::Google,
            after: Duration::from_secs(9),
            utilization: Some(87),
            chunk: 7,
            stamp: true,
            usage: UsagePlace::Finish,
            cached: 3,
            reasoning: 4,
            finish: Finish::Length,
            tool: Some("look".to_owned()),
            calls: 2,
            status: 500,
            reject: Some(422),
            fault: Some(fault),
        };
        assert_eq!(parsed(text).unwrap(), expected);
    }

    #[test]
    fn later_direction_wins() {
        let mut directions = parsed("events=1,pace=500us").unwrap();
        directions.add("events=2").unwrap();
        assert_eq!((directions.events, directions.pace), (2, Duration::from_micros(500)));
    }

    #[test]
    fn a_fault_without_a_place_comes_before_the_headers() {
        assert_eq!(
            parsed("fault=silence").unwrap().fault,
            Some(Fault { kind: FaultKind::Silence, at: None })
        );
        let at = Some(Point { events: 0, bytes: 0 });
        assert_eq!(parsed("fault=garbage@0").unwrap().fault, Some(Fault { kind: FaultKind::Garbage, at }));
    }

    #[test]
    fn mistakes_are_named_with_what_was_expected() {
        for (text, expected) in [
            ("events", "`events` is not key=value"),
            ("speed=9", "`speed=9`: there is no such key"),
            ("events=-1", "expected a number up to 1000000000"),
            ("pace=10", "expected a time such as"),
            ("pace=2h", "expected a time such as"),
            ("delay=3601s", "expected a time such as"),
            ("delay=3s..2s", "expected the shorter time first"),
            ("limit=some", "expected openai, seconds"),
            ("status=99", "expected a status from 200 to 599"),
            ("usage=some", "expected asked, always"),
            ("finish=soon", "expected stop, length"),
            ("fault=fire@3", "expected silence, cut"),
            ("fault=cut@x", "expected a number"),
            ("fault=cut@1+", "expected a number"),
        ] {
            let error = parsed(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn the_help_names_every_key() {
        let mut directions = Directions::default();
        let keys = "events size pace delay chunk stamp usage cached reasoning finish tool calls status limit after reject fault";
        for key in keys.split(' ') {
            assert!(HELP.contains(&format!("{key}=")), "{key}");
            assert!(!directions.set(key, "?").is_err_and(|error| error.contains("no such key")), "{key}");
        }
    }

    #[test]
    fn only_what_is_held_whole_has_a_bound() {
        assert!(parsed("events=1000000,size=0").unwrap().fits_in_memory().is_ok());
        assert!(parsed("events=1000000,size=250").unwrap().fits_in_memory().is_err());
    }
}
