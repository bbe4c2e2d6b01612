//! Errors of a tool that measures.

use std::error::Error;

/// Any error: in a tool that measures, all of them end the measurement with a text.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Result of anything that may fail.
pub type Outcome<T> = Result<T, Failure>;
