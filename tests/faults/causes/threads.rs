//! A sink's thread that panics at a batch, in a program built with the feature `faults`.

use super::Cause;
use crate::scene::Launch;

pub struct SinkPanics {
    directions: &'static str,
}

impl SinkPanics {
    pub fn once() -> Self {
        Self { directions: "panic:jsonl:1" }
    }

    pub fn always() -> Self {
        Self { directions: "panic:jsonl" }
    }
}

impl Cause for SinkPanics {
    fn prepare(&mut self, launch: &mut Launch) {
        launch.environment.push(("STREAMGAUGE_FAULT", self.directions.to_owned()));
    }
}
