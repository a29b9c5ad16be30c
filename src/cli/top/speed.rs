//! Output per second of running streams.
//!
//! Most services send one token in each event, and report a count at the end only, so that events
//! are what can be compared between two readings.

use std::collections::HashMap;

use super::reading::{Reading, Stream};

/// The shortest time between two readings for a speed.
const SHORTEST: f64 = 0.05;

/// Events per second, by the ids of streams.
#[derive(Debug, Default)]
pub(super) struct Speeds(HashMap<String, f64>);

impl Speeds {
    /// The averages since the first token.
    pub(super) fn of(reading: &Reading) -> Self {
        let streams = reading.running.streams.iter();
        Self(streams.filter_map(|stream| Some((stream.id.clone(), average(stream)?))).collect())
    }

    /// The speeds between two readings; averages for streams that the first does not have.
    pub(super) fn between(before: &Reading, now: &Reading) -> Self {
        let seconds = now.taken.saturating_duration_since(before.taken).as_secs_f64();
        let mut speeds = Self::of(now);
        if seconds < SHORTEST {
            return speeds;
        }
        let known: HashMap<_, _> =
            before.running.streams.iter().map(|stream| (&stream.id, stream.events)).collect();
        for stream in &now.running.streams {
            if let Some(events) = known.get(&stream.id) {
                let speed = stream.events.saturating_sub(*events) as f64 / seconds;
                speeds.0.insert(stream.id.clone(), speed);
            }
        }
        speeds
    }

    /// `None` before the first token.
    pub(super) fn get(&self, stream: &Stream) -> Option<f64> {
        stream.time_to_first_token_ms?;
        self.0.get(&stream.id).copied()
    }

    /// The sum of all streams.
    pub(super) fn sum(&self, streams: &[Stream]) -> f64 {
        streams.iter().filter_map(|stream| self.get(stream)).sum()
    }
}

fn average(stream: &Stream) -> Option<f64> {
    let seconds = (stream.duration_ms - stream.time_to_first_token_ms?) / 1e3;
    (seconds >= SHORTEST).then(|| stream.events as f64 / seconds)
}
