//! Packing, checking and estimating, with images that are made here.
#![allow(clippy::unwrap_used)]
