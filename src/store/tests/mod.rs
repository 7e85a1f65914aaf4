//! Tests of the store through its public door.

mod archive;
mod damage;
pub mod data;
mod directory;
mod disk;
mod folded;
mod kill;
mod rotation;
mod roundtrip;
mod size;
mod unseen;
mod waits;
