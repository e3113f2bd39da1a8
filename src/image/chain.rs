//! A plain image: all links between the source and the slot, which stand at the same byte at every boundary.

use super::checkpoint::{Journal, Point};
use super::decode::{Decoder, Limits, Out, State};
use super::hash::Hasher;
use super::sink::{self, Sink};
use super::source::Source;
use super::{Error, Fetch, Target};
use crate::model::Image;

/// A packed image may be longer than it is unpacked by a sixty-fourth and by this much: what cannot be packed takes less,
/// and the rest is for what is in the file beside it.
const SLACK: u64 = 1 << 20;

/// Where every link of the chain stood at a boundary.
#[derive(Clone)]
pub(super) struct Position {
    /// So many bytes of the file were unpacked …
    pub(super) offset: u64,
    pub(super) fetched: Hasher,
    /// … and made so many bytes of the image.
    pub(super) len: u64,
    pub(super) image: Hasher,
    pub(super) decoder: State,
}

/// All links between the source and the slot.
pub(super) struct Chain<'a> {
    offset: u64,
    fetched: Hasher,
    decoder: Decoder,
    end: HashedSink<'a>,
    /// The last boundary. All before it has been handed to the sink.
    boundary: Option<Position>,
}

impl<'a> Chain<'a> {
    pub(super) fn begin(
        fetch: &Fetch<'_>,
        target: &'a mut dyn Target,
        position: Option<Position>,
    ) -> Result<Self, Error> {
        let size = fetch.artifact.size;
        let limits = Limits { memory: fetch.settings.decoder_memory, total: size };
        let (from, len) = position.as_ref().map_or((0, 0), |position| (position.offset, position.len));
        fetch.progress.note(|now| (now.position, now.written, now.resumed_at) = (from, len, from));
        let Some(position) = position else {
            let end = HashedSink { hasher: Hasher::default(), sink: Sink::new(target, 0)? };
            let decoder = Decoder::new(limits);
            return Ok(Self { offset: 0, fetched: Hasher::default(), decoder, end, boundary: None });
        };
        let mut window = |buffer: &mut [u8]| {
            let begin = len.checked_sub(buffer.len() as u64);
            sink::read_exactly(target, begin.ok_or(Error::StartOver("bad checkpoint".into()))?, buffer)
        };
        let decoder = Decoder::resume(&position.decoder, limits, &mut window);
        // Whatever is wrong with an old checkpoint, the image may still be fetched from its beginning.
        let decoder = decoder.map_err(|error| Error::StartOver(error.chain()))?;
        let end = HashedSink { hasher: position.image.clone(), sink: Sink::new(target, len)? };
        let fetched = position.fetched.clone();
        Ok(Self { offset: from, fetched, decoder, end, boundary: Some(position) })
    }

    /// Everything from here to the end of the file.
    pub(super) fn run(
        mut self,
        fetch: &Fetch<'_>,
        source: &mut Source<'_>,
        journal: &mut Journal<'_>,
    ) -> Result<Image, Error> {
        loop {
            let bytes = match source.next() {
                Ok(Some(bytes)) => bytes,
                Ok(None) => break,
                Err(error) => {
                    if error.leaves_a_good_beginning() {
                        self.checkpoint(source, journal)?;
                        self.recount(source, journal);
                    }
                    return Err(error);
                }
            };
            self.check_length(fetch, source, bytes.len())?;
            if self.offset == 0 {
                self.decoder.learn_total(source.total());
                journal.claim(source);
            }
            self.accept(&bytes)?;
            let (offset, written) = (self.offset, self.end.sink.position());
            fetch.progress.note(|now| (now.position, now.written) = (offset, written));
            if self.boundary.as_ref().is_some_and(|boundary| journal.is_due(boundary.offset)) {
                self.checkpoint(source, journal)?;
            }
            if journal.is_behind(source) {
                self.recount(source, journal);
            }
        }
        self.finish(fetch)
    }

    /// Of a file whose length nobody said who asked for it, no more is fetched than an image for this slot can need: all formats
    /// have room for bytes that unpack to nothing, without an end.
    fn check_length(&self, fetch: &Fetch<'_>, source: &Source<'_>, more: usize) -> Result<(), Error> {
        let size = self.end.sink.size();
        let most = size.saturating_add(size / 64).saturating_add(SLACK);
        let len = (self.offset + more as u64).max(source.total().unwrap_or(0));
        let is_endless = fetch.artifact.size.is_none() && len > most;
        if is_endless { Err(Error::TooLong { len, size }) } else { Ok(()) }
    }

    /// Pushes the next bytes of the file through.
    fn accept(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let step = self.decoder.decode(rest, &mut self.end)?;
            self.fetched.update(&rest[..step.used]);
            self.offset += step.used as u64;
            rest = &rest[step.used..];
            if step.boundary
                && let Some(decoder) = self.decoder.state()
            {
                self.boundary = Some(Position {
                    offset: self.offset,
                    fetched: self.fetched.clone(),
                    len: self.end.sink.position(),
                    image: self.end.hasher.clone(),
                    decoder,
                });
            }
        }
        Ok(())
    }

    /// Makes the slot durable up to here, and then the last boundary.
    fn checkpoint(&mut self, source: &Source<'_>, journal: &mut Journal<'_>) -> Result<(), Error> {
        if let Some(boundary) = &self.boundary
            && journal.is_new(boundary.offset)
        {
            self.end.sink.flush()?;
            journal.save(source, Point::Half(Box::new(boundary.clone())));
        }
        Ok(())
    }

    /// Saves how much was fetched, without a new boundary to go with it: an .xz file may have none for long.
    fn recount(&self, source: &Source<'_>, journal: &mut Journal<'_>) {
        match &self.boundary {
            // Not flushed yet; the old one will do until it is.
            Some(boundary) if journal.is_new(boundary.offset) => {}
            Some(boundary) => journal.recount(source, Point::Half(Box::new(boundary.clone()))),
            None => journal.recount(source, Point::Nothing),
        }
    }

    fn finish(mut self, fetch: &Fetch<'_>) -> Result<Image, Error> {
        // Before the decoder's opinion: of a file that is not the wanted one, its errors only mislead.
        let found = self.fetched.finish();
        if let Some(wanted) = fetch.artifact.sha256
            && wanted != found
        {
            return Err(Error::Digest { found, wanted });
        }
        self.decoder.finish(&mut self.end)?;
        self.end.sink.flush()?;
        let len = self.end.sink.position();
        fetch.progress.note(|now| now.written = len);
        Ok(Image { sha256: self.end.hasher.finish(), len })
    }
}

/// The digest of the image, and behind it the sink.
struct HashedSink<'a> {
    hasher: Hasher,
    sink: Sink<'a>,
}

impl Out for HashedSink<'_> {
    fn accept(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.sink.accept(bytes)?;
        self.hasher.update(bytes);
        Ok(())
    }

    fn announce(&mut self, len: u64) -> Result<(), Error> {
        self.sink.check_room(len)
    }
}
