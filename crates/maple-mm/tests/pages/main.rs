//! Address spaces with pages: what faults, calls and forks do to them.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/world.rs"]
mod world;

mod around;
mod caching;
mod explicit;
mod faults;
mod files;
mod flavours;
mod forking;
mod guards;
mod moving;
mod random;
mod taking;
