//! What a bundle costs is known before it is fetched, and nothing is fetched that was not allowed.

use super::*;

fn cost(bench: &Bench) -> Cost {
    match bench.write() {
        Err(Error::Cost { cost, cap }) => {
            assert_eq!(cap, bench.settings.data_cap);
            cost
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_too_much_waits_for_somebody_to_allow_it() {
    let old = image(6_000_000);
    let new = edit(&old, 12);
    let maker = Maker::new();
    let free = rig_by(&maker, &old, &new);
    let wanted = free.succeeds(&new).plan.unwrap();
    let mut bench = rig_by(&maker, &old, &new);
    bench.settings.data_cap = wanted.fetch - 1;
    let told = cost(&bench);
    assert_eq!((told.write, told.full), (wanted.write, wanted.full));
    assert_eq!(bench.disk.operations(), 0);
    let spent = bench.progress.snapshot().fetched;
    assert!(spent < wanted.fetch / 2, "only what tells the cost was fetched: {spent}");
    assert_eq!(told.fetch, wanted.fetch + spent, "what was spent to know that is spent once more");
    bench.rig.as_mut().unwrap().allowance = Some(told.fetch - 1);
    assert_eq!(cost(&bench).fetch, told.fetch + spent);
    // It is enough, to the byte, for as often as it was asked.
    bench.rig.as_mut().unwrap().allowance = Some(told.fetch + spent);
    bench.progress = Progress::default();
    let seen = bench.succeeds(&new);
    assert_eq!(seen.plan.unwrap().fetch, told.fetch + spent);
    // The cap itself is enough.
    let mut bench = rig_by(&maker, &old, &new);
    bench.settings.data_cap = wanted.fetch;
    bench.succeeds(&new);
}

#[test]
fn even_the_table_is_not_fetched_if_that_is_too_much() {
    let new = image(6_000_000);
    let mut bench = rig(&[], &new);
    bench.settings.data_cap = 8192;
    let told = cost(&bench);
    assert!(told.fetch >= told.full && told.full == bench.server.file().len() as u64, "{told:?}");
    assert_eq!(bench.server.requests(), 1);
}

#[test]
fn a_server_without_ranges_costs_all_of_it() {
    let old = image(6_000_000);
    let new = edit(&old, 12);
    let mut bench = rig(&old, &new);
    bench.server.without_ranges();
    let len = bench.server.file().len() as u64;
    bench.settings.data_cap = len / 2;
    let told = cost(&bench);
    let spent = bench.progress.snapshot().fetched;
    assert!(told.fetch > len / 2 && told.fetch <= len + spent && spent <= len / 4, "{told:?}, {spent}");
    assert_eq!(bench.disk.operations(), 0);
}

/// What changes under us is fetched after all, as far as that is allowed.
#[test]
fn more_than_was_planned_is_asked_for_anew() {
    let old = image(6_000_000);
    let new = edit(&old, 5);
    let maker = Maker::new();
    let planned = rig_by(&maker, &old, &new).succeeds(&new).plan.unwrap();
    let mut bench = rig_by(&maker, &old, &new);
    bench.settings.data_cap = planned.fetch + 10_000;
    // Right after it was looked through.
    *bench.rig.as_ref().unwrap().seed.changes_after.lock().unwrap() = Some(7);
    let told = cost(&bench);
    assert!(told.fetch > bench.settings.data_cap, "{told:?}");
    let seen = bench.progress.snapshot();
    assert!(seen.fetched < bench.settings.data_cap + (400 << 10));
    // With leave it is finished, from what was written.
    bench.rig.as_mut().unwrap().allowance = Some(100 << 20);
    bench.succeeds(&new);
}

#[test]
fn the_rate_limit_holds_for_ranges_too() {
    let old = image(3_000_000);
    let new = edit(&old, 10);
    let bench = rig(&old, &new);
    let began = std::time::Instant::now();
    bench.rate.set(400_000);
    let fetched = bench.succeeds(&new).fetched;
    assert!(began.elapsed() >= Duration::from_millis(fetched * 1000 / 400_000 * 9 / 10), "{fetched}");
}
