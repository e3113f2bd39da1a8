//! What servers do with requests for a part of a file.

use super::super::http::with_head;
use super::super::server::Script;
use super::*;

/// A device that lacks some twenty places of the image.
fn sparse() -> (Bench, Vec<u8>) {
    let old = image(6_000_000);
    let new = edit(&old, 20);
    (rig(&old, &new), new)
}

#[test]
fn ranges_are_asked_for_with_an_end_and_without_a_condition() {
    let (bench, new) = sparse();
    let seen = bench.succeeds(&new);
    let log = bench.server.log();
    assert_eq!((log[0].range(), log[0].last()), (Some(0), Some(8191)));
    assert!(log.iter().all(|request| request.header("if-range").is_none()));
    for request in &log[1..] {
        assert!(request.range() <= request.last() && request.last() < Some(bench.server.file().len()));
    }
    let asked: usize = log[1..].iter().map(|it| it.last().unwrap() + 1 - it.range().unwrap()).sum();
    assert_eq!(seen.fetched as usize, asked + 8192, "what was asked for and nothing else");
    assert_eq!(seen.fetched_twice, 0);
    let mut sorted: Vec<_> = log.iter().map(|it| it.range()).collect();
    sorted.sort_unstable();
    assert_eq!(sorted, log.iter().map(|it| it.range()).collect::<Vec<_>>(), "from front to back");
}

#[test]
fn p053_a_range_that_is_cut_is_continued() {
    let (clean, new) = sparse();
    let wanted = clean.succeeds(&new).fetched;
    for len in [0, 1, 500, 4000] {
        let (mut bench, new) = sparse();
        bench.settings.attempts = 6;
        for _ in 0..3 {
            bench.server.then(Script::Good).then(Script::Cut(len));
        }
        let seen = bench.succeeds(&new);
        assert_eq!((seen.fetched, seen.fetched_twice), (wanted, 0), "{len}");
    }
    // Many troubles, with something got in between: that is no reason to give up.
    let (mut bench, new) = sparse();
    bench.settings.attempts = 2;
    for _ in 0..8 {
        bench.server.then(Script::Good).then(Script::Cut(0));
    }
    bench.succeeds(&new);
}

#[test]
fn a_server_that_closes_after_each_range_is_asked_on_new_connections() {
    let (bench, new) = sparse();
    for _ in 0..100 {
        bench.server.then(Script::Cut(usize::MAX));
    }
    let seen = bench.succeeds(&new);
    assert_eq!((seen.fetched_twice, bench.server.connections()), (0, bench.server.requests()));
}

#[test]
fn p055_a_server_without_ranges_is_read_once() {
    let (bench, new) = sparse();
    bench.server.without_ranges();
    let seen = bench.succeeds(&new);
    assert_eq!((bench.server.requests(), seen.fetched_twice), (1, 0));
    assert!(seen.fetched <= bench.server.file().len() as u64);
    // Cut at nine tenths: once more from the first byte.
    let (bench, new) = sparse();
    let len = bench.server.file().len();
    bench.server.then(Script::Whole(len * 9 / 10)).without_ranges();
    let seen = bench.succeeds(&new);
    assert!(seen.fetched <= 2 * len as u64 && bench.server.requests() == 2, "{seen:?}");
}

/// Page by page, it would be sent once for each.
#[test]
fn p055_a_server_without_ranges_is_not_read_again_and_again() {
    // No zeros, and nothing twice.
    let new: Vec<u8> =
        (0..2_000_000_u64).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
    let bench = rig(&[], &new);
    let seen = bench.succeeds(&new);
    assert_eq!(seen.fetched_twice, 0, "of a server with ranges its pages are had one by one");
    let bench = rig(&[], &new);
    bench.server.without_ranges();
    let (failure, told) = bench.fails();
    assert_eq!(failure, Failure::DownloadHttpAnswer);
    assert!(told.contains("sends parts of files"), "{told}");
    assert_eq!(bench.server.requests(), 1);
    // It has most of it: what it needs of the rest is few enough to be kept.
    let bench = rig(&new, &edit(&new, 12));
    bench.server.without_ranges();
    bench.succeeds(&edit(&new, 12));
}

#[test]
fn p056_wrong_parts_are_never_used() {
    let (bench, _) = sparse();
    let file = bench.server.file();
    let total = file.len();
    for wrong in [
        format!("content-range: bytes 1-8192/{total}"),
        format!("content-range: bytes 0-8190/{total}"),
        format!("content-range: bytes 0-9000/{total}"),
        "content-range: bytes 0-8191/*".to_owned(),
        "content-range: nonsense".to_owned(),
        "x: y".to_owned(),
    ] {
        let part = with_head(&file[1..8193], &format!("HTTP/1.1 206 x\r\netag: \"one\"\r\n{wrong}"));
        let (bench, new) = sparse();
        bench.server.then(part.clone());
        bench.succeeds(&new);
        let (bench, _) = sparse();
        bench.server.then(part.clone()).then(part.clone());
        assert_eq!(bench.fails().0, Failure::DownloadHttpAnswer, "{wrong}");
        assert_eq!(bench.disk.operations(), 0);
    }
}

/// The first part is cut short, and whoever is asked for its rest knows no parts: what came of it is not the beginning
/// of what comes now.
#[test]
fn p055_the_whole_may_come_in_place_of_the_rest_of_the_first_part() {
    for len in [16, 17, 1065, 8191] {
        let (bench, new) = sparse();
        bench.server.then(Script::Cut(len)).then(Script::Whole(usize::MAX));
        bench.succeeds(&new);
    }
}

#[test]
fn p057_a_refused_range_is_asked_for_once_more() {
    let refuse = || Script::Status(416, "");
    let (bench, new) = sparse();
    bench.server.then(Script::Good).then(Script::Good).then(Script::Good).then(refuse());
    bench.succeeds(&new);
    let (bench, _) = sparse();
    bench.server.then(Script::Good).then(refuse()).then(Script::Good).then(refuse());
    assert_eq!(bench.fails().0, Failure::DownloadHttpAnswer);
}

#[test]
fn p058_a_file_that_changes_between_ranges_is_begun_again_once() {
    let old = image(6_000_000);
    let (maker, new) = (Maker::new(), edit(&old, 20));
    let newer = edit(&old, 9);
    let bench = rig_by(&maker, &old, &new);
    let other = maker.make(&newer);
    // After the fourth answer it is another file.
    bench.server.replace_after(4, other, "\"two\"");
    bench.succeeds(&newer);
    // And another, and another.
    let bench = rig_by(&maker, &old, &new);
    bench.server.replace_after(4, maker.make(&newer), "\"two\"").replace_after(
        8,
        maker.make(&new),
        "\"three\"",
    );
    assert_eq!(bench.fails().0, Failure::DownloadContentChanged);
}

/// Each has its own name and time for the file: what a balancer leads to is one of them, and then another.
#[test]
fn several_servers_with_names_of_their_own_for_the_same_file_are_as_good_as_one() {
    let (clean, new) = sparse();
    let wanted = clean.succeeds(&new);
    for has_ranges in [true, false] {
        let (bench, new) = sparse();
        let file = bench.server.file();
        for request in 1..200 {
            bench.server.replace_after(request, file.clone(), ["\"one\"", "\"two\""][request % 2]);
        }
        if has_ranges {
            bench.server.then(Script::Good).then(Script::Good).then(Script::Cut(100));
        } else {
            bench.server.then(Script::Cut(file.len() / 2)).then(Script::Cut(file.len() / 2)).without_ranges();
        }
        let seen = bench.succeeds(&new);
        assert!(!has_ranges || (seen.fetched, seen.fetched_twice) == (wanted.fetched, 0), "{seen:?}");
    }
}

/// As long as the right one, and with another name: what is wrong in it is not what was signed, and the next is the right one.
#[test]
fn p058_another_version_of_the_same_length_is_begun_again_once() {
    let (maker, old) = (Maker::new(), image(6_000_000));
    let new = edit(&old, 20);
    let good = maker.make(&new);
    let mut other = good.clone();
    other[sections(&good).data..].fill(0x5a);
    let clean = rig_by(&maker, &old, &new);
    clean.succeeds(&new);
    let is_data = |from: Option<usize>| from >= Some(sections(&good).data);
    let first = clean.server.log().iter().position(|it| is_data(it.range())).unwrap();
    // What is damaged is asked for twice.
    let bench = rig_by(&maker, &old, &new);
    bench.server.replace_after(first, other.clone(), "\"two\"").replace_after(
        first + 2,
        good.clone(),
        "\"three\"",
    );
    bench.succeeds(&new);
    // Wrong again, and there is nothing else to be blamed for it.
    let bench = rig_by(&maker, &old, &new);
    bench.server.replace_after(first, other, "\"two\"");
    assert_eq!(bench.fails().0, Failure::BundleDamaged);
}

/// Without anything that tells versions apart, a digest does.
#[test]
fn without_validators_nothing_wrong_is_put_together() {
    let old = image(6_000_000);
    let (maker, new) = (Maker::new(), edit(&old, 20));
    let bench = rig_by(&maker, &old, &new);
    bench.server.without_etag();
    bench.succeeds(&new);
    let bench = rig_by(&maker, &old, &new);
    let mut other = bench.server.file();
    let data = sections(&other).data;
    other[data..].fill(0x5a);
    bench.server.replace_after(4, other, "\"one\"");
    assert_eq!(bench.fails().0, Failure::BundleDamaged);
}

#[test]
fn a_group_that_was_damaged_on_the_way_is_fetched_once_more() {
    let (maker, new) = (Maker::new(), image(6_000_000));
    let clean = rig_by(&maker, &[], &new);
    clean.succeeds(&new);
    let mut file = clean.server.file();
    let log = clean.server.log();
    let index = log.iter().position(|it| it.range() >= Some(sections(&file).data)).unwrap();
    let (from, last) = (log[index].range().unwrap(), log[index].last().unwrap());
    file[from + 5] ^= 1;
    let (total, len) = (file.len(), last + 1 - from);
    let head = format!("content-range: bytes {from}-{last}/{total}\r\ncontent-length: {len}");
    let bench = rig_by(&maker, &[], &new);
    for _ in 0..index {
        bench.server.then(Script::Good);
    }
    bench.server.then(with_head(&file[from..=last], &format!("HTTP/1.1 206 x\r\netag: \"one\"\r\n{head}")));
    let seen = bench.succeeds(&new);
    assert!(seen.fetched > total as u64);
}

#[test]
fn redirects_lead_to_ranges_as_well() {
    let (bench, new) = sparse();
    let there: &'static str =
        Box::leak(format!("location: https://localhost:{}/x\r\n", bench.server.port()).into_boxed_str());
    for _ in 0..4 {
        bench.server.then(Script::Status(302, there)).then(Script::Good);
    }
    bench.succeeds(&new);
    let log = bench.server.log();
    assert_eq!((&*log[1].path, log[1].range()), ("/x", Some(0)));
    assert!(log[2].path.starts_with("/fw-2.twb"), "each time from the address that is known to be good");
}
