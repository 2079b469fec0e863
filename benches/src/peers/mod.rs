//! One file per runtime: how it answers to the traits that the workloads are written against.

pub(crate) mod may;
pub(crate) mod smol;
pub(crate) mod strands;
pub(crate) mod threads;
pub(crate) mod tokio;
