//! Results in the forms that other programs read: `streamgauge usage` and the admin pages write the same.

pub mod csv;
pub mod json;
pub mod numbers;
