//! The integration tests, one binary.

mod docker_runtime;
mod private_docker;
