//! The real binary, as people and scripts meet it.

mod demo;
mod disk;
mod errors;
mod hostile;
mod interruption;
mod json_table;
mod outage;
mod package;
mod places;
mod resume;
mod services;
mod several;
mod support;
mod terminal;
mod transfer;
mod trust;
mod words;
