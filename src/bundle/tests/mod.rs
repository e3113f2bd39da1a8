//! The format against a plain writer and reader, against those who change it, and against OpenSSL.

mod bits;
mod hostile;
mod keys;
mod make;
mod moved;
mod trust;

use std::collections::BTreeSet;

use super::*;
use crate::model::{Failure, Sha256, Timestamp};
use make::{Maker, at, cut, delegated, device, image, key, pack, pages, sealed, unpack};
