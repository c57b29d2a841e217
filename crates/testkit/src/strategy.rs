//! Operations as `proptest` strategies.
