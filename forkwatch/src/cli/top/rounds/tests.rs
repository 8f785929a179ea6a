use super::*;
use crate::{
    host,
    model::{
        process::Program,
        server::{Member, State, Tree},
        time::BootTime,
    },
};

fn key(tgid: u32) -> ProcessKey {
    ProcessKey { tgid, start: BootTime(0) }
}

/// A family of this process alone.
fn family(master: ProcessKey) -> Family {
    let member = Member {
        process: master,
        parent: 1,
        program: Program::default(),
        loaded: Vec::new(),
        forked: false,
        state: State::Sleeping,
        details: None,
    };
    Family::new(&Tree { at: BootTime(0), members: vec![member], whole: true }, master)
}

/// Makes all visits that are due within so many seconds; says how often it was looked, and how often it was only counted.
fn visits(
    rounds: &mut Rounds,
    wanted: &[ProcessKey],
    seconds: u64,
    takes: Duration,
    runs: impl Fn(&[u32]) -> Option<Runs> + Copy,
) -> (usize, usize) {
    let (mut looks, mut all) = (0, 0);
    let mut now = rounds.at;
    let end = now + Duration::from_secs(seconds);
    while now < end {
        match rounds.next(wanted, now) {
            Ok(master) => {
                all += 1;
                let mut look = |master| {
                    looks += 1;
                    Some(family(master))
                };
                rounds.visit(master, now, runs, &mut look);
                rounds.spend(takes);
                now += takes;
            }
            Err(pause) => now += pause.unwrap(),
        }
    }
    (looks, all - looks)
}

fn sleeps(_: &[u32]) -> Option<Runs> {
    host::runs([])
}

#[test]
fn what_has_not_run_is_looked_at_twice_and_then_left_alone() {
    let mut rounds = Rounds::new(Instant::now());
    let wanted = [key(10), key(20)];
    let (looks, counted) = visits(&mut rounds, &wanted, 50, Duration::from_micros(100), sleeps);
    assert_eq!(looks, 4, "the second look finds what was counted before it");
    assert!(counted > 90, "{counted}");
    let (looks, _) = visits(&mut rounds, &wanted, 20, Duration::from_micros(100), sleeps);
    assert_eq!(looks, 2, "others may have changed its memory");
}

#[test]
fn what_cannot_be_counted_is_looked_at_each_time() {
    let mut rounds = Rounds::new(Instant::now());
    let never = |_: &[u32]| None;
    let (looks, counted) = visits(&mut rounds, &[key(10)], 50, Duration::from_micros(100), never);
    assert!(looks >= 49 && counted == 0, "{looks} and {counted}");
}

#[test]
fn what_has_run_is_looked_at_again() {
    let mut rounds = Rounds::new(Instant::now());
    let own = |_: &[u32]| host::runs([std::process::id()]);
    let mut looks = 0;
    let mut look = |master| {
        looks += 1;
        Some(family(master))
    };
    for round in 0..6 {
        let before = own(&[]);
        while own(&[]) == before {
            std::thread::yield_now();
        }
        rounds.visit(key(10), rounds.at + Duration::from_secs(round), own, &mut look);
    }
    assert_eq!(looks, 6);
}

#[test]
fn all_visits_together_take_a_small_part_of_the_time() {
    let mut rounds = Rounds::new(Instant::now());
    let wanted: Vec<ProcessKey> = (1..=25).map(key).collect();
    let takes = Duration::from_millis(15);
    let never = |_: &[u32]| None;
    let (at_once, _) = visits(&mut rounds, &wanted, 1, takes, never);
    assert!((10..=15).contains(&at_once), "a screen fills at once: {at_once}");
    let (looks, _) = visits(&mut rounds, &wanted, 600, takes, never);
    assert!((takes * u32::try_from(looks).unwrap()) <= Duration::from_secs(600) / SHARE + takes, "{looks}");
    assert!(looks > 100, "{looks}");
}

#[test]
fn new_ones_come_first_and_nobody_is_left_out() {
    let mut rounds = Rounds::new(Instant::now());
    let now = rounds.at;
    let wanted = [key(10), key(20)];
    let mut look = |master| Some(family(master));
    for expected in [10, 20] {
        let next = rounds.next(&wanted, now).unwrap();
        assert_eq!(next, key(expected));
        rounds.visit(next, now, sleeps, &mut look);
    }
    assert_eq!(rounds.next(&wanted, now), Err(Some(SHORTEST)));
    assert_eq!(rounds.next(&[key(10), key(30)], now), Ok(key(30)));
    assert_eq!(rounds.next(&[], now), Err(None));
}
