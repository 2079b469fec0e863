//! Contexts to begin with.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::time::Duration;
use strands::context::{self, Context};

/// Far enough away that nothing here comes near it.
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn root() -> Context {
    context::background()
}

/// A context that is done.
pub(crate) fn canceled() -> Context {
    let (ctx, cancel) = context::with_cancel(&root());
    cancel.cancel();
    ctx
}
