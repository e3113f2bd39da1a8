//! What a server may do to a download, and what may be said of it.

use super::super::server::{Act, Make, Script};
use super::Dice;
use super::lies;
use crate::model::Failure;

/// Not the bytes that were asked for, in whatever way that comes out. What is said to be of a newer format is so by a
/// single byte, and nobody can have signed it yet.
const CONTENT: &[Failure] = &[
    Failure::DownloadSizeMismatch,
    Failure::DownloadDigestMismatch,
    Failure::DownloadContentChanged,
    Failure::ImageUndecodable,
    Failure::TargetTooSmall,
    Failure::BundleDamaged,
    Failure::BundleIncompatible,
    Failure::BundleSignature,
    Failure::BundleKey,
];
const LINE: &[Failure] = &[Failure::DownloadUnreachable];
const STATUS: &[Failure] = &[Failure::DownloadHttpStatus];
const ANSWER: &[Failure] = &[Failure::DownloadHttpAnswer];
const REDIRECT: &[Failure] = &[Failure::DownloadRedirect];
const SIZE: &[Failure] = &[Failure::DownloadSizeMismatch];
const CHANGED: &[Failure] = &[Failure::DownloadContentChanged];
const WRONG: &[Failure] =
    &[Failure::DownloadDigestMismatch, Failure::ImageUndecodable, Failure::TargetTooSmall];

/// What a file may be called of which the bytes, or how many there are, were something else for a while.
pub(super) const NOT_IT: &[&[Failure]] = &[CONTENT, ANSWER];

/// Whether an update may succeed although this happens at every request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Hope {
    None,
    /// A bundle may: what is wrong may be where nothing is fetched.
    ForBundles,
    Some,
}

/// One thing that a server does.
#[derive(Clone, Debug)]
pub(super) struct Mishap {
    pub(super) name: &'static str,
    pub(super) script: Script,
    /// What an update may be told to have failed by, if this is what it met last.
    pub(super) codes: &'static [&'static [Failure]],
    /// The same where it is a plain image of a size that was announced, which is met so at every request.
    pub(super) exactly: &'static [Failure],
    /// What is wrong with the bytes may be found later, and in a later process: as this.
    pub(super) later: &'static [&'static [Failure]],
    pub(super) hope: Hope,
}

impl Mishap {
    /// What is told by one code whenever it happens, and by none if it happens once and `codes` are empty.
    fn new(
        name: &'static str,
        script: Script,
        codes: &'static [&'static [Failure]],
        exactly: &'static [Failure],
        hope: Hope,
    ) -> Self {
        Self { name, script, codes, exactly, later: &[], hope }
    }

    /// A lie about bytes.
    fn lie(name: &'static str, make: Make, number: u64, exactly: &'static [Failure], hope: Hope) -> Self {
        let codes: &[&[Failure]] = &[CONTENT];
        Self { later: codes, ..Self::new(name, Script::Made(make, number), codes, exactly, hope) }
    }

    /// Whether a failure at this may be called so.
    pub(super) fn is_called(&self, failure: Failure) -> bool {
        self.codes.iter().any(|codes| codes.contains(&failure))
    }

    /// Anything at all that a server may do with a file of `len` bytes.
    pub(super) fn draw(dice: &mut Dice, len: usize) -> Self {
        match dice.below(6) {
            0 => Self::of_line(dice, len),
            1 => Self::of_words(dice),
            2 | 3 => Self::of_ranges(dice),
            _ => Self::of_bytes(dice),
        }
    }

    /// The connection.
    fn of_line(dice: &mut Dice, len: usize) -> Self {
        // Small numbers as often as large ones.
        let most = 1 << dice.below(u64::from(len.ilog2()) + 1);
        let at = (dice.below(most) as usize).min(len);
        match dice.below(7) {
            0 | 1 => Self::new("cut", Script::Cut(at), &[LINE], LINE, Hope::Some),
            2 | 3 => Self::new("reset", Script::Reset(at), &[LINE], LINE, Hope::Some),
            4 => Self::new("silent after a part", Script::StallAfter(at), &[LINE], LINE, Hope::Some),
            5 => Self::new("reset at once", Script::Acts(vec![Act::Reset]), &[LINE], LINE, Hope::None),
            _ => Self::new("silent", Script::Acts(vec![Act::Stall]), &[LINE], LINE, Hope::None),
        }
    }

    /// Status lines, pages and places to go to.
    fn of_words(dice: &mut Dice) -> Self {
        let number = dice.below(1 << 32);
        let made = |make: Make| Script::Made(make, number);
        match dice.below(11) {
            0 | 1 => {
                let code = [408, 425, 429, 500, 502, 503, 504, 599][number as usize % 8];
                let line = [
                    "",
                    "retry-after: 0\r\n",
                    "retry-after: 7200\r\n",
                    "retry-after: -1\r\n",
                    "retry-after: soon\r\n",
                    "retry-after: Sun, 06 Nov 2094 08:49:37 GMT\r\n",
                ];
                let script = Script::Status(code, line[dice.below(6) as usize]);
                Self::new("in trouble", script, &[STATUS], STATUS, Hope::None)
            }
            2 => {
                let code = [400, 401, 403, 404, 410, 451][number as usize % 6];
                Self::new("refused", Script::Status(code, ""), &[STATUS], STATUS, Hope::None)
            }
            3 => {
                let code = [201, 202, 204, 205, 300, 304][number as usize % 6];
                Self::new("a status of no use", Script::Status(code, ""), &[ANSWER], ANSWER, Hope::None)
            }
            4 => Self::new("a page", made(lies::page), &[ANSWER], ANSWER, Hope::None),
            // A place to go to and no page yet, if it happens once: so is the next one.
            5 => Self::new("a page to log in", made(lies::login), &[], ANSWER, Hope::None),
            6 => Self::new("onward", made(lies::onward), &[], REDIRECT, Hope::None),
            7 => {
                let line = [
                    "location: http://127.0.0.1:1/fw\r\n",
                    "",
                    "location: https://u:p@127.0.0.1/\r\n",
                    "location: ftp://127.0.0.1/\r\n",
                    "location: https://\r\n",
                    "location: https://[::1/\r\n",
                ];
                let script = Script::Status(302, line[number as usize % 6]);
                Self::new("to a bad place", script, &[REDIRECT], REDIRECT, Hope::None)
            }
            8 => Self::new("encoded", made(lies::encoded), &[ANSWER], ANSWER, Hope::None),
            9 => Self::new("a pause", made(lies::paused), &[], &[], Hope::Some),
            _ => Self::new("no HTTP", made(lies::gibberish), &[ANSWER], ANSWER, Hope::None),
        }
    }

    /// Which part of the file it is.
    fn of_ranges(dice: &mut Dice) -> Self {
        let number = dice.below(1 << 32);
        let made = |make: Make| Script::Made(make, number);
        match dice.below(6) {
            0 | 1 => Self::new("another part", made(lies::shifted), &[ANSWER], ANSWER, Hope::None),
            2 => Self::new("some part", made(lies::unsaid), &[ANSWER], ANSWER, Hope::None),
            3 => Self::new("no such part", Script::Status(416, ""), &[ANSWER], ANSWER, Hope::None),
            4 => {
                let all = Script::Whole(dice.below(2_000_000) as usize);
                Self::new("no parts", all, &[LINE], LINE, Hope::Some)
            }
            _ => {
                let lie = Self::lie("a part of a longer file", lies::other_total, number, ANSWER, Hope::None);
                Self { codes: NOT_IT, later: NOT_IT, ..lie }
            }
        }
    }

    /// Which bytes they are, and how many.
    fn of_bytes(dice: &mut Dice) -> Self {
        let number = dice.below(1 << 32);
        match dice.below(11) {
            0 => {
                let lie = Self::lie("a wrong length", lies::wrong_length, number, SIZE, Hope::None);
                Self { later: NOT_IT, ..lie }
            }
            1 => Self::lie("more than asked for", lies::longer, number, SIZE, Hope::ForBundles),
            2 => {
                let codes: &[&[Failure]] = &[CONTENT, LINE];
                Self { codes, ..Self::lie("less than asked for", lies::shorter, number, LINE, Hope::Some) }
            }
            3 | 4 => Self::lie("garbled", lies::garbled, number, WRONG, Hope::ForBundles),
            5 => Self::lie("another version", lies::other_version, number, WRONG, Hope::None),
            6 => {
                let script = Script::Made(lies::other_tag, number);
                let once = Self::new("another tag", script, &[CHANGED], CHANGED, Hope::Some);
                Self { later: &[CHANGED], ..once }
            }
            7 => Self::new("no tag", Script::Made(lies::no_tag, number), &[], &[], Hope::Some),
            8 => Self::lie("without an end", lies::endless, number, SIZE, Hope::None),
            _ => Self::lie("a bomb", lies::bomb, number, &[Failure::TargetTooSmall], Hope::None),
        }
    }
}
