//! What becomes of a download whose process does not run all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::http::{SIZE, bench};
use super::server::{Act, Script};
use super::*;

/// Longer than a wait may last, and by how much one has to be overslept.
const FREEZE: Duration = Duration::from_millis(1600);

/// Before this many bytes have come nothing is frozen.
const FIRST: usize = 500_000;

/// Freezes everybody in this test, the server and all timers, again and again with a moment between, from when `FIRST`
/// bytes have come until `done`, but `most` times at most. How often it was.
struct Freezer {
    rounds: Arc<AtomicU32>,
    done: Arc<AtomicBool>,
}

impl Freezer {
    fn start(bench: &Bench, most: u32, done: impl Fn(&Snapshot) -> bool + Send + 'static) -> Self {
        let freezer = Self { rounds: Arc::default(), done: Arc::default() };
        let (rounds, over, progress) = (freezer.rounds.clone(), freezer.done.clone(), bench.progress.clone());
        bench.server.runtime().spawn(async move {
            while progress.snapshot().fetched < FIRST as u64 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            for _ in 0..most {
                if over.load(Ordering::SeqCst) || done(&progress.snapshot()) {
                    return;
                }
                rounds.fetch_add(1, Ordering::SeqCst);
                // All tasks and timers are this thread's.
                std::thread::sleep(FREEZE);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        freezer
    }

    fn rounds(self) -> u32 {
        self.done.store(true, Ordering::SeqCst);
        self.rounds.load(Ordering::SeqCst)
    }
}

#[test]
fn p136_waits_that_are_always_slept_through_are_silence_in_the_end() {
    let (bench, image) = bench();
    bench.server.then(Script::StallAfter(FIRST));
    let freezer = Freezer::start(&bench, 12, |now| now.connections > 1);
    let seen = bench.succeeds(&image);
    assert_eq!((seen.connections, seen.fetched_twice), (2, 0));
    let rounds = freezer.rounds();
    assert!(rounds < 6, "only after {rounds} freezes another connection was made");
}

#[test]
fn p136_two_waits_that_are_slept_through_are_no_silence() {
    let image = image(1_100_003);
    let bench = Bench::new(&image, SIZE);
    let head = format!("HTTP/1.1 200 OK\r\netag: \"one\"\r\ncontent-length: {}\r\n\r\n", image.len());
    bench.server.then(Script::Acts(vec![
        Act::Send([head.as_bytes(), &image[..FIRST]].concat()),
        // Over while it is frozen for the second time.
        Act::Pause(FREEZE * 3 / 2),
        Act::Send(image[FIRST..].to_vec()),
    ]));
    let freezer = Freezer::start(&bench, 2, |_| false);
    let seen = bench.succeeds(&image);
    assert_eq!((seen.connections, seen.fetched_twice, freezer.rounds()), (1, 0, 2));
}

#[test]
fn p136_the_time_limit_holds_for_who_sleeps_through_every_wait() {
    let (mut bench, _) = bench();
    bench.settings.time_limit = FREEZE;
    bench.server.then(Script::StallAfter(FIRST));
    let freezer = Freezer::start(&bench, 12, |_| false);
    let (failure, detail) = bench.fails();
    assert_eq!(failure, Failure::DownloadUnreachable, "{detail}");
    assert!(detail.contains("gave up"), "{detail}");
    let rounds = freezer.rounds();
    assert!(rounds <= 2, "frozen {rounds} times");
}
