//! The plugin boundary, with real libraries: what is refused and why, what loads, and what a panic does.

#[path = "fixtures/cargo_build.rs"]
mod cargo_build;
#[path = "loader/drive.rs"]
mod drive;
#[path = "loader/files.rs"]
mod files;
#[path = "loader/fixtures.rs"]
mod fixtures;
#[path = "loader/listing.rs"]
mod listing;
#[path = "loader/panics.rs"]
mod panics;
#[path = "loader/running.rs"]
mod running;
#[path = "loader/versions.rs"]
mod versions;
