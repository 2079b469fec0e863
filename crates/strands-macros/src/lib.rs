//! Attribute macros of the `strands` crate.
