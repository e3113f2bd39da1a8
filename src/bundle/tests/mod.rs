//! The format against a plain writer and reader, against those who change it, and against OpenSSL.

mod bits;
mod form;
mod hostile;
mod keys;
mod make;
mod moved;
mod trust;

use std::collections::BTreeSet;

use super::*;
use crate::model::{Failure, Sha256, Timestamp};
use make::{Maker, at, cut, delegated, device, image, key, pack, pages, sealed, unpack};

#[track_caller]
fn refused(result: Result<Opened, Refusal>, code: Failure, part: &str) {
    let refusal = result.expect_err("accepted");
    assert_eq!(refusal.failure(), code, "{refusal}");
    assert!(refusal.to_string().contains(part), "{refusal}");
}
