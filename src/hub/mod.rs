//! (in work)
pub mod backoff;
pub mod identity;
pub mod sas;
pub mod topics;
