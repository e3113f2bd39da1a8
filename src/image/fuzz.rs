//! Doors to what is within, for `tests/fuzz` and nobody else.

use super::Error;
use super::decode::{Decoder, Limits, Out, State};
use super::error::Cause;

pub use super::source::fuzz::{Ask, follow, judge};

/// An image, and where on the way there it could be taken up again.
#[derive(Debug, Default)]
pub struct Unpacked {
    /// The image.
    pub image: Vec<u8>,
    /// What the decoder announced before the first byte.
    pub announced: Option<u64>,
    /// Each boundary: how much of the input is used, how long the image is, and the state as a checkpoint keeps it.
    pub boundaries: Vec<(usize, usize, Vec<u8>)>,
}

/// Takes an image of up to `most` bytes, as a slot does.
struct Room<'a> {
    unpacked: &'a mut Unpacked,
    most: usize,
}

impl Out for Room<'_> {
    fn accept(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.unpacked.image.len() + bytes.len() > self.most {
            return Err(Error::Cancelled);
        }
        self.unpacked.image.extend_from_slice(bytes);
        Ok(())
    }

    fn announce(&mut self, len: u64) -> Result<(), Error> {
        self.unpacked.announced = Some(len);
        Ok(())
    }
}

/// Unpacks what comes in these pieces, into at most `most` bytes, by a decoder that may have so much `memory`.
///
/// # Errors
/// As for the decoder; [`Error::Cancelled`] if the image is longer.
pub fn unpack<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    memory: u64,
    most: usize,
) -> Result<Unpacked, Error> {
    run(Decoder::new(Limits { memory, total: None }), pieces, most)
}

/// Goes on from a state that a checkpoint kept, when the slot holds `image`, with the `pieces` that follow. Gives what
/// comes behind `image`.
///
/// # Errors
/// As for the decoder; [`Error::Client`] if that is no state.
pub fn go_on<'a>(
    state: &[u8],
    image: &[u8],
    pieces: impl Iterator<Item = &'a [u8]>,
    memory: u64,
    most: usize,
) -> Result<Unpacked, Error> {
    let none = |error: serde_json::Error| Error::Client(Cause::from(error.to_string()));
    let state: State = serde_json::from_slice(state).map_err(none)?;
    // Before the image's first byte there is nothing: a state that wants more is refused where the slot is read.
    let mut window = |buffer: &mut [u8]| match image.len().checked_sub(buffer.len()) {
        Some(from) => {
            buffer.copy_from_slice(&image[from..]);
            Ok(())
        }
        None => Err(Error::Cancelled),
    };
    let decoder = Decoder::resume(&state, Limits { memory, total: None }, &mut window)?;
    run(decoder, pieces, most)
}

fn run<'a>(
    mut decoder: Decoder,
    pieces: impl Iterator<Item = &'a [u8]>,
    most: usize,
) -> Result<Unpacked, Error> {
    let (mut unpacked, mut offset) = (Unpacked::default(), 0);
    for mut rest in pieces {
        while !rest.is_empty() {
            let step = decoder.decode(rest, &mut Room { unpacked: &mut unpacked, most })?;
            assert!(step.used > 0 && step.used <= rest.len(), "{} of {}", step.used, rest.len());
            (offset, rest) = (offset + step.used, &rest[step.used..]);
            if step.boundary
                && let Some(state) = decoder.state().and_then(State::settle)
            {
                let state = serde_json::to_vec(&state).map_err(|it| Error::Client(it.to_string().into()))?;
                unpacked.boundaries.push((offset, unpacked.image.len(), state));
            }
        }
    }
    decoder.finish(&mut Room { unpacked: &mut unpacked, most })?;
    Ok(unpacked)
}
