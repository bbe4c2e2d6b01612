//! The real binary, as people and scripts meet it.

mod demo;
mod disk;
mod errors;
mod hostile;
mod json_table;
mod outage;
mod package;
mod places;
mod resume;
mod services;
mod support;
mod transfer;
mod trust;
