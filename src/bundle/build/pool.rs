//! Threads that work on jobs while their results come back in the order in which the jobs were given: what is made of
//! them is the same however many threads there are, and however fast each is.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::Scope;

/// Jobs and where their results go.
type Desk<J, R> = Sender<(J, SyncSender<R>)>;
/// Where the threads take jobs from, one after the other.
type Queue<J, R> = Mutex<Option<Receiver<(J, SyncSender<R>)>>>;

/// The threads, and the jobs under way: at most three for each thread, so memory is bounded by the size of a job.
pub(super) struct Pool<J, R> {
    desk: Desk<J, R>,
    pending: VecDeque<Receiver<R>>,
    limit: usize,
}

impl<J: Send, R: Send> Pool<J, R> {
    /// Starts `threads` threads, each with a worker of its own.
    pub(super) fn new<'scope, W>(
        scope: &'scope Scope<'scope, '_>,
        threads: usize,
        jobs: &'scope Queue<J, R>,
        worker: impl Fn() -> W,
    ) -> Self
    where
        W: FnMut(J) -> R + Send + 'scope,
        J: 'scope,
        R: 'scope,
    {
        let (desk, queue) = channel();
        *jobs.lock().unwrap_or_else(PoisonError::into_inner) = Some(queue);
        let threads = threads.max(1);
        for _ in 0..threads {
            let mut work = worker();
            scope.spawn(move || {
                while let Some((job, result)) = next(jobs) {
                    // Nobody waits any more: what it was for has failed.
                    let _ = result.send(work(job));
                }
            });
        }
        Self { desk, pending: VecDeque::new(), limit: 3 * threads }
    }

    /// Gives a job; the oldest result, if it is time to wait for one.
    ///
    /// # Errors
    /// If a worker has died.
    pub(super) fn give(&mut self, job: J) -> io::Result<Option<R>> {
        let (result, wait) = sync_channel(1);
        self.desk.send((job, result)).map_err(|_| died())?;
        self.pending.push_back(wait);
        if self.pending.len() < self.limit { Ok(None) } else { self.take() }
    }

    /// Waits for the oldest result; nothing if there is none.
    ///
    /// # Errors
    /// As [`give`](Self::give).
    pub(super) fn take(&mut self) -> io::Result<Option<R>> {
        self.pending.pop_front().map(|wait| wait.recv().map_err(|_| died())).transpose()
    }
}

fn next<T>(jobs: &Mutex<Option<Receiver<T>>>) -> Option<T> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.recv().ok()
}

fn died() -> io::Error {
    io::Error::other("a thread of the packer died")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_jobs_however_long_each_takes() {
        for threads in [1, 2, 8] {
            let jobs = Mutex::new(None);
            let mut got = Vec::new();
            std::thread::scope(|scope| {
                let mut pool = Pool::new(scope, threads, &jobs, || {
                    |number: u64| {
                        std::thread::sleep(Duration::from_micros((7 - number % 7) * 200));
                        number
                    }
                });
                for number in 0..100 {
                    got.extend(pool.give(number).unwrap());
                    assert!(pool.pending.len() < 3 * threads, "more under way than fits");
                }
                while let Some(number) = pool.take().unwrap() {
                    got.push(number);
                }
            });
            assert_eq!(got, (0..100).collect::<Vec<_>>());
        }
    }
}
