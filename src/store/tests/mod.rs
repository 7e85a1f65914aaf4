//! Tests of the store through its public door.

pub mod data;
