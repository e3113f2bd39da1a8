//! What the slots hold: changing, lying, and being left alone.

use std::collections::BTreeSet;

use super::writer::pages;
use super::*;

fn writes(bench: &Bench) -> u64 {
    bench.disk.written()
}

#[test]
fn what_the_target_holds_is_not_written_again() {
    for chunking in [Chunking::Aligned, Chunking::Content] {
        let old = image(6_000_000);
        let new = edit(&old, 7);
        let maker = Maker { chunking, ..Maker::new() };
        for held in [&old, &new] {
            let bench = rig_by(&maker, &old, &new);
            bench.disk.fill(held);
            let seen = bench.succeeds(&new);
            let differs = differing(held, &new);
            assert_eq!((seen.written, writes(&bench)), (differs, differs), "{chunking:?}");
            let told = seen.plan.unwrap().write;
            // By chunks, and not by blocks.
            assert!(
                told >= differs && told <= 6 * differs,
                "{chunking:?}: {told} were told, {differs} written"
            );
            if chunking == Chunking::Aligned {
                assert_eq!(told, differs);
            }
        }
    }
}

#[test]
fn what_the_target_holds_need_not_be_anywhere_else() {
    for chunking in [Chunking::Aligned, Chunking::Content] {
        let new = image(6_000_000);
        let bench = rig_by(&Maker { chunking, ..Maker::new() }, &[], &new);
        bench.disk.fill(&new);
        let seen = bench.succeeds(&new);
        assert!(seen.fetched <= 8192.max(sections(&bench.server.file()).bodies as u64));
        assert_eq!((bench.disk.operations(), seen.written), (0, 0));
        // All of it is here, only later: it moves to the front before it is overwritten.
        let shift = 40 * 4096;
        let maker = Maker { chunking, ..Maker::new() };
        let mut bench = rig_by(&maker, &[], &new[shift..]);
        bench.disk = Disk::new(8 << 20);
        bench.disk.fill(&new);
        let seen = bench.succeeds(&new[shift..]);
        let file = bench.server.file().len() as u64;
        assert!(seen.fetched < file / 8, "{chunking:?}: {} of {file}", seen.fetched);
    }
}

/// Bytes that lie before the place where they are wanted are overwritten by then.
#[test]
fn what_would_be_overwritten_is_not_counted_upon() {
    let new = image(6_000_000);
    let mut bench = rig(&[], &new);
    bench.disk = Disk::new(8 << 20);
    bench.disk.fill(&new[40 * 4096..]);
    bench.succeeds(&new);
}

#[test]
fn zeros_are_made_only_where_there_are_none() {
    let mut new = image(1_000_000);
    new.resize(5_000_000, 0);
    new.extend(image(500_000));
    let mut bench = rig(&[], &new);
    bench.succeeds(&new);
    assert!(bench.disk.zeroed() >= 3_900_000, "{}", bench.disk.zeroed());
    let (operations, written) = (bench.disk.operations(), writes(&bench));
    discard(&mut bench.checkpoint());
    bench.progress = Progress::default();
    bench.succeeds(&new);
    assert_eq!((bench.disk.operations(), writes(&bench)), (operations, written), "all of it was there");
}

/// The running system writes into its slot between looking and copying, at any moment.
#[test]
fn seeds_that_change_under_us_cost_what_has_changed() {
    for chunking in [Chunking::Aligned, Chunking::Content] {
        let old = image(4_000_000);
        let new = edit(&old, 5);
        let maker = Maker { chunking, ..Maker::new() };
        let mut sizes = vec![];
        // The first four are those that look it through.
        for reads in [0, 2, 4, 5, 8, 1000] {
            let bench = rig_by(&maker, &old, &new);
            *bench.rig.as_ref().unwrap().seed.changes_after.lock().unwrap() = Some(reads);
            let seen = bench.succeeds(&new);
            assert_eq!(seen.fetched_twice, 0, "{chunking:?} {reads}");
            sizes.push(seen.fetched);
        }
        assert!(sizes[0] > sizes[5] && sizes[3] > sizes[5], "{chunking:?}: it did not matter: {sizes:?}");
    }
}

/// What was a seed is something else, all the time and every time.
#[test]
fn seeds_that_lie_are_found_out() {
    let old = image(3_000_000);
    let new = edit(&old, 3);
    // Says one thing when it is looked through and another when it is read.
    #[derive(Debug)]
    struct Liar(Mutex<(u32, Vec<u8>)>);
    impl Seed for Liar {
        fn size(&self) -> u64 {
            self.0.lock().unwrap().1.len() as u64
        }
        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
            let mut inner = self.0.lock().unwrap();
            inner.0 += 1;
            let (from, len) = (offset as usize, buffer.len());
            buffer.copy_from_slice(&inner.1[from..from + len]);
            match inner.0 {
                0..=3 => {}
                n if n % 3 == 0 => return Err(io::Error::from_raw_os_error(5)),
                n if n % 3 == 1 => buffer[len / 2] ^= 1,
                _ => return Ok(len / 2),
            }
            Ok(len)
        }
    }
    let bench = rig(&old, &new);
    let liar = Liar(Mutex::new((0, old.clone())));
    let signed = Signed { seed: Some(&liar), ..bench.rig.as_ref().unwrap().signed() };
    let fetch = Fetch { signed: Some(signed), ..bench.fetch() };
    write(&fetch, &mut bench.disk.open(), &mut bench.checkpoint()).unwrap();
    assert!(bench.disk.durable()[..new.len()] == *new);
    assert!(liar.0.lock().unwrap().0 > 4, "it was asked");
}

/// A seed whose chunks lie all over is used chunk by chunk.
#[test]
fn what_has_moved_is_found() {
    let old = image(1464 * 4096);
    let mut new = old[3_000_000 - 3_000_000 % 4096..].to_vec();
    new.extend(&old[..3_000_000 - 3_000_000 % 4096]);
    let bench = rig(&old, &new);
    let seen = bench.succeeds(&new);
    assert!(seen.fetched < bench.server.file().len() as u64 / 8, "{}", seen.fetched);
    // By a few bytes: only content says where chunks end. What of it is not found are the groups with a chunk that is
    // nowhere in the old one.
    let new = [&b"some bytes more"[..], &old].concat();
    let bench = rig_by(&Maker { chunking: Chunking::Content, ..Maker::new() }, &old, &new);
    let seen = bench.succeeds(&new);
    let ids = |image: &[u8]| -> BTreeSet<_> {
        let chunks = pages(image, Chunking::Content).into_iter().flat_map(|page| page.chunks);
        chunks.map(|chunk| (chunk.id, chunk.len)).collect()
    };
    let (theirs, ours) = (ids(&new), ids(&old));
    let missing = theirs.difference(&ours).filter(|(id, _)| !id.is_zero()).count() as u64;
    let most = sections(&bench.server.file()).data as u64 + missing * (32 << 10);
    assert!(
        seen.fetched <= most && missing < theirs.len() as u64 / 4,
        "{} of {most}, {missing}",
        seen.fetched
    );
}
