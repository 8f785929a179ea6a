//! Who is it, and what to change: ecosystems, client libraries, and what a connection leads to.

pub mod calls;
mod client;
pub mod connection;
pub mod ecosystem;
mod service;

pub use service::service;

use crate::model::finding::Remedy;

/// An advice with the page that says more.
pub fn remedy(text: &str, link: &str) -> Remedy {
    Remedy { text: text.to_owned(), link: link.to_owned() }
}
