//! What only the processes show that are deployed: their start, their end, what survives a request that fails,
//! and what AWS's own events make of them.
//!
//! They need the bootstraps of a release build, in the folder that `PARLANCE_BOOTSTRAPS` names.

mod events;
mod failures;
mod gateway;
mod outages;
mod process;
mod streaming;
mod streams;

use std::path::PathBuf;

use crate::support::{World, deployed, world_over};

/// The folder of bootstraps, or a word that the test is skipped.
#[expect(clippy::print_stderr, reason = "shown with a test that is skipped")]
fn folder() -> Option<PathBuf> {
    let folder = deployed::bootstraps();
    if folder.is_none() {
        eprintln!("skipped: PARLANCE_BOOTSTRAPS names no folder of bootstraps");
    }
    folder
}

/// The functions of the template over a store of their own.
async fn deployment() -> Option<World> {
    let folder = folder()?;
    Some(world_over(|client| client).await.deployed(&folder))
}
