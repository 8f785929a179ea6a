use proptest::prelude::*;

use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);

fn account(user: u64, unit: u64, family: u64) -> Account {
    Account { user, unit, family }
}

/// Asks whatever may be asked for so long, at so much each, and gives how often each user was.
fn run(
    shares: &mut Shares<u32>,
    mut now: Instant,
    time: Duration,
    cost: impl Fn(u64) -> Duration,
) -> (HashMap<u64, u32>, Duration) {
    let (end, mut asked, mut taken) = (now + time, HashMap::new(), Duration::ZERO);
    while now < end {
        match shares.next(now) {
            Next::Ask(account, item) => {
                *asked.entry(account.user).or_default() += 1;
                let cost = cost(account.user);
                now += cost;
                taken += cost;
                shares.charge(account, cost, now);
                shares.put(account, item);
            }
            Next::Wait(wait) => now += wait,
            Next::Nothing => break,
        }
    }
    (asked, taken)
}

#[test]
fn one_question_of_another_comes_before_a_thousand_of_one() {
    let now = Instant::now();
    let mut shares = Shares::new(now);
    for item in 0_u32..1000 {
        shares.put(account(1000, 1, u64::from(item)), item);
    }
    let Next::Ask(first, _) = shares.next(now) else { panic!() };
    shares.charge(first, MILLISECOND, now);
    shares.put(account(33, 1, 1), 7777);
    assert_eq!(shares.next(now), Next::Ask(account(33, 1, 1), 7777));
}

#[test]
fn a_look_at_the_whole_host_keeps_no_other_look_at_that_users_processes_waiting() {
    let now = Instant::now();
    for (of_whole_host, next) in [(false, account(1000, 1, 1)), (true, account(33, 1, 1))] {
        let mut shares = Shares::new(now);
        let (crowd, own) = (account(1000, 1, 1), account(33, 1, 1));
        shares.charge(crowd, MILLISECOND * 1000, now);
        // There are thousands of processes, which one look goes through for this user.
        let asked = if of_whole_host { own.of_whole_host() } else { own };
        shares.put(asked, 1);
        assert_eq!(shares.next(now), Next::Ask(asked, 1));
        shares.charge(asked, MILLISECOND * 1500, now);
        shares.put(crowd, 2);
        shares.put(own, 3);
        let later = now + Duration::from_secs(60);
        let first = match shares.next(now) {
            Next::Wait(_) => shares.next(later),
            asked => asked,
        };
        assert!(matches!(first, Next::Ask(account, _) if account == next), "{of_whole_host}: {first:?}");
    }
}

#[test]
fn families_and_units_share_alike_within_a_user() {
    let now = Instant::now();
    let mut shares = Shares::new(now);
    for item in 0..100 {
        shares.put(account(0, 1, 1), item);
    }
    shares.put(account(0, 1, 2), 200);
    shares.put(account(0, 2, 1), 300);
    let mut order = Vec::new();
    for _ in 0..4 {
        let Next::Ask(account, item) = shares.next(now) else { panic!() };
        shares.charge(account, MILLISECOND, now);
        order.push(item);
    }
    assert_eq!(order, [0, 300, 200, 1]);
}

#[test]
fn the_whole_takes_a_small_part_of_a_cpu_and_one_user_leaves_something() {
    let now = Instant::now();
    let minute = Duration::from_secs(60);
    let mut shares = Shares::new(now);
    for item in 0..500 {
        shares.put(account(1000, 1, u64::from(item)), item);
    }
    let (_, taken) = run(&mut shares, now, minute, |_| 20 * MILLISECOND);
    assert!(taken < minute * 5 / 100, "{taken:?}");
    // Another user's question is asked at once, for all the first has had.
    let later = now + minute;
    shares.put(account(33, 1, 1), 1);
    assert_eq!(shares.next(later), Next::Ask(account(33, 1, 1), 1));
    // Many users that each want much take no more together than all may, once each has had its first.
    let mut shares = Shares::new(later);
    for user in 2000..2004 {
        shares.put(account(user, 1, 1), 1);
    }
    let (asked, taken) = run(&mut shares, later, minute, |_| 5 * MILLISECOND);
    assert!(taken < minute * 7 / 100, "{taken:?}");
    assert_eq!(asked.len(), 4);
    // And for all that, one who has taken nothing does not wait.
    let end = later + minute;
    assert!(shares.all.wait(Duration::ZERO, end).is_some());
    shares.put(account(33, 1, 1), 1);
    assert_eq!(shares.next(end), Next::Ask(account(33, 1, 1), 1));
}

#[test]
fn searches_keep_no_question_waiting_and_do_not_wait_for_long() {
    let mut now = Instant::now();
    let mut shares = Shares::new(now);
    for item in 0_u32..60 {
        assert_eq!(shares.put_search(account(0, 1, u64::from(item)), item, now), None);
    }
    shares.put(account(0, 1, 1), 1000);
    assert_eq!(shares.next(now), Next::Ask(account(0, 1, 1), 1000), "questions come first");
    // As many searches as may be: after them a question of the same user is asked at once, again and again.
    let mut searches = 0;
    while let Next::Ask(account, _) = shares.next(now) {
        now += 50 * MILLISECOND;
        shares.charge(account, 50 * MILLISECOND, now);
        searches += 1;
    }
    assert!((5..=20).contains(&searches), "{searches}");
    for item in 2000..2005 {
        shares.put(account(0, 1, 1), item);
        assert_eq!(shares.next(now), Next::Ask(account(0, 1, 1), item));
        shares.charge(account(0, 1, 1), 50 * MILLISECOND, now);
    }
    assert!(matches!(shares.next(now), Next::Wait(_)));
    assert_eq!(shares.late(now), None);
    let later = now + SEARCH_WAITS;
    assert_eq!(std::iter::from_fn(|| shares.late(later)).count(), 60 - searches);
    assert_eq!(shares.next(later), Next::Nothing);
}

#[test]
fn a_search_lets_questions_pass_for_a_while_only() {
    let now = Instant::now();
    let mut shares = Shares::new(now);
    assert_eq!(shares.put_search(account(0, 1, 1), 1, now), None);
    for item in 1000..1003 {
        shares.put(account(0, 1, 1), item);
    }
    let ask = |item| Next::Ask(account(0, 1, 1), item);
    assert_eq!(shares.next(now), ask(1000));
    let later = now + SEARCH_YIELDS;
    assert_eq!((shares.next(later), shares.next(later)), (ask(1), ask(1001)));
    // Where little is left, it goes on waiting.
    assert_eq!(shares.put_search(account(0, 1, 1), 2, later), None);
    shares.charge(account(0, 1, 1), 500 * MILLISECOND, later);
    assert_eq!(shares.next(later + SEARCH_YIELDS), ask(1002));
    assert!(matches!(shares.next(later + SEARCH_YIELDS), Next::Wait(_)));
}

#[test]
fn what_can_wait_lets_others_pass_and_comes_in_its_turn() {
    let now = Instant::now();
    let mut shares = Shares::new(now);
    let account = account(0, 1, 1);
    for item in 0_u32..40 {
        assert_eq!(shares.put_patient(account, 1000 + item), None);
        assert_eq!(shares.put(account, item), None);
    }
    let asked: Vec<u32> = std::iter::from_fn(|| match shares.next(now) {
        Next::Ask(_, item) => Some(item),
        _ => None,
    })
    .collect();
    let place = |wanted: u32| asked.iter().position(|item| *item == wanted).unwrap();
    assert_eq!((place(0), place(1000), place(1001)), (0, TURNS as usize, 2 * TURNS as usize + 1));
    assert_eq!(asked.len(), 80);
}

#[test]
fn what_can_wait_leaves_something_for_what_cannot() {
    let mut now = Instant::now();
    let mut shares = Shares::new(now);
    let account = account(0, 1, 1);
    for item in 0_u32..100 {
        assert_eq!(shares.put_patient(account, item), None);
    }
    // Whatever can wait asks for as much as it gets.
    while let Next::Ask(account, _) = shares.next(now) {
        shares.charge(account, 20 * MILLISECOND, now);
    }
    let Next::Wait(wait) = shares.next(now) else { panic!("nothing waits") };
    assert!(wait < Duration::from_secs(1), "{wait:?}");
    for item in 1000..1005 {
        assert_eq!(shares.put(account, item), None);
        assert_eq!(shares.next(now), Next::Ask(account, item));
        shares.charge(account, 20 * MILLISECOND, now);
    }
    now += Duration::from_secs(10);
    assert!(matches!(shares.next(now), Next::Ask(..)), "it goes on");
}

#[test]
fn one_users_searches_take_no_room_from_another_s() {
    let now = Instant::now();
    let mut shares = Shares::new(now);
    for item in 0..64 {
        assert_eq!(shares.put_search(account(1000, 1, 1), item, now), None);
    }
    assert_eq!(shares.put_search(account(33, 1, 1), 7000, now), Some(63));
    shares.charge(account(1000, 1, 1), MILLISECOND, now);
    shares.root.put(&account(1000, 1, 1).path(), (account(1000, 1, 1), 1));
    shares.charge(account(1000, 1, 1), MILLISECOND, now);
    assert!(matches!(shares.next(now), Next::Ask(_, 1)));
    assert_eq!(shares.next(now), Next::Ask(account(33, 1, 1), 7000), "who has had least comes first");
}

#[test]
fn where_there_is_no_room_whoever_has_most_waiting_gives_way() {
    let mut shares = Shares::new(Instant::now());
    for item in 0..4096 {
        assert_eq!(shares.put(account(1000, 1, 1), item), None);
    }
    assert_eq!(shares.put(account(33, 1, 1), 5000), Some(4095));
    assert_eq!(shares.put(account(1000, 1, 1), 6000), Some(6000));
    assert_eq!(shares.waiting(), 4096);
}

proptest! {
    #[test]
    fn what_was_put_is_taken_once(
        puts in proptest::collection::vec((0_u64..4, 0_u64..3, 0_u64..3), 0..200)
    ) {
        let now = Instant::now();
        let mut shares = Shares::new(now);
        for (item, (user, unit, family)) in (0..).zip(&puts) {
            shares.put(account(*user, *unit, *family), item);
        }
        let mut taken = Vec::new();
        while let Next::Ask(account, item) = shares.next(now) {
            shares.charge(account, Duration::from_micros(3), now);
            taken.push(item);
        }
        taken.sort_unstable();
        let all: Vec<u64> = (0..puts.len() as u64).collect();
        prop_assert_eq!(taken, all);
        prop_assert_eq!(shares.waiting(), 0);
    }
}
