//! A limit on open files below the number of open files.

use std::process::Command;

use super::Cause;
use crate::scene::Scene;

/// A number of files below that of the program at its start: the next file gets a higher number,
/// and is refused.
const FEW: u32 = 8;

pub struct DescriptorsUsedUp;

impl Cause for DescriptorsUsedUp {
    fn strike(&mut self, scene: &mut Scene) {
        limit(scene, FEW);
    }

    fn lift(&mut self, scene: &mut Scene) {
        limit(scene, 1024);
    }
}

/// Sets the soft limit of the program.
fn limit(scene: &Scene, files: u32) {
    let arguments = [format!("--pid={}", scene.child.id()), format!("--nofile={files}:")];
    assert!(Command::new("prlimit").args(arguments).status().unwrap().success());
}
