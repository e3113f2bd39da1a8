//! A plain image: all links between the source and the slot, which stand at the same byte at every boundary.

use super::checkpoint::{Journal, Point};
use super::decode::{Decoder, Limits, State};
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
    pub(super) file: InFile,
    /// So many bytes of the image were made of it.
    pub(super) len: u64,
    pub(super) image: Hasher,
}

/// Where the links stood that come before the image.
#[derive(Clone)]
pub(super) struct InFile {
    /// So many bytes of the file were unpacked.
    pub(super) offset: u64,
    pub(super) fetched: Hasher,
    pub(super) decoder: State,
}

/// All links between the source and the slot.
pub(super) struct Chain<'a> {
    offset: u64,
    fetched: Hasher,
    decoder: Decoder,
    sink: &'a mut Sink,
    /// The last boundary, with the image's length there. All before it has been handed to the sink.
    boundary: Option<(InFile, u64)>,
    /// The last one that is durable.
    saved: Option<Position>,
}

/// Everything from `position`, or from the beginning, to the end of the file.
pub(super) fn install(
    fetch: &Fetch<'_>,
    target: &mut dyn Target,
    position: Option<Position>,
    source: &mut Source<'_>,
    journal: &mut Journal<'_>,
) -> Result<Image, Error> {
    let limits = Limits { memory: fetch.settings.decoder_memory, total: fetch.artifact.size };
    let (from, len) = position.as_ref().map_or((0, 0), |position| (position.file.offset, position.len));
    fetch.progress.note(|now| (now.position, now.written, now.resumed_at) = (from, len, from));
    let (decoder, fetched, image) = match &position {
        None => (Decoder::new(limits), Hasher::default(), Hasher::default()),
        Some(Position { file, len, image }) => {
            let mut window = |buffer: &mut [u8]| {
                let begin = len.checked_sub(buffer.len() as u64);
                sink::read_exactly(target, begin.ok_or(Error::StartOver("bad checkpoint".into()))?, buffer)
            };
            let decoder = Decoder::resume(&file.decoder, limits, &mut window);
            // Whatever is wrong with an old checkpoint, the image may still be fetched from its beginning.
            let decoder = decoder.map_err(|error| Error::StartOver(error.chain()))?;
            (decoder, file.fetched.clone(), image.clone())
        }
    };
    sink::fill(target, len, image, |sink| {
        let chain = Chain { offset: from, fetched, decoder, sink, boundary: None, saved: position };
        chain.run(fetch, source, journal)
    })
}

impl Chain<'_> {
    /// Everything from here to the end of the file.
    fn run(
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
            let (offset, written) = (self.offset, self.sink.position());
            fetch.progress.note(|now| (now.position, now.written) = (offset, written));
            if self.boundary.as_ref().is_some_and(|(file, _)| journal.is_due(file.offset)) {
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
        let size = self.sink.size();
        let most = size.saturating_add(size / 64).saturating_add(SLACK);
        let len = (self.offset + more as u64).max(source.total().unwrap_or(0));
        let is_endless = fetch.artifact.size.is_none() && len > most;
        if is_endless { Err(Error::TooLong { len, size }) } else { Ok(()) }
    }

    /// Pushes the next bytes of the file through.
    fn accept(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let step = self.decoder.decode(rest, self.sink)?;
            self.fetched.update(&rest[..step.used]);
            self.offset += step.used as u64;
            rest = &rest[step.used..];
            if step.boundary
                && let Some(decoder) = self.decoder.state()
            {
                self.sink.mark();
                let file = InFile { offset: self.offset, fetched: self.fetched.clone(), decoder };
                self.boundary = Some((file, self.sink.position()));
            }
        }
        Ok(())
    }

    /// Makes the slot durable up to here, and then the last boundary.
    fn checkpoint(&mut self, source: &Source<'_>, journal: &mut Journal<'_>) -> Result<(), Error> {
        if let Some((file, len)) = self.boundary.take_if(|(file, _)| journal.is_new(file.offset))
            && let Some(decoder) = file.decoder.settle()
        {
            let image = self.sink.flush()?;
            let position = Position { file: InFile { decoder, ..file }, len, image };
            self.saved = Some(position.clone());
            journal.save(source, Point::Half(Box::new(position)));
        }
        Ok(())
    }

    /// Saves how much was fetched, without a new boundary to go with it: an .xz file may have none for long.
    fn recount(&self, source: &Source<'_>, journal: &mut Journal<'_>) {
        match &self.boundary {
            // Not flushed yet; the old one will do until it is.
            Some((file, _)) if journal.is_new(file.offset) => {}
            Some(_) | None => {
                let saved = self.saved.clone();
                journal.recount(source, saved.map_or(Point::Nothing, |it| Point::Half(Box::new(it))));
            }
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
        self.decoder.finish(self.sink)?;
        self.sink.mark();
        let image = self.sink.flush()?;
        let len = self.sink.position();
        fetch.progress.note(|now| now.written = len);
        Ok(Image { sha256: image.finish(), len })
    }
}
