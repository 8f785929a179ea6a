use super::*;

const MASTER: u32 = 10;

fn key(tgid: u32) -> ProcessKey {
    ProcessKey { tgid, start: BootTime(u64::from(tgid) * 1_000_000_000) }
}

fn at(milliseconds: u64) -> BootTime {
    BootTime(100_000_000_000 + milliseconds * 1_000_000)
}

const LOG: StreamId = StreamId { device: 1, inode: 5 };

fn log(position: u64, holders: &[u32]) -> Stream {
    let holders = holders.iter().flat_map(|one| [(key(*one), 1), (key(*one), 2)]).collect();
    Stream { id: LOG, name: "/var/log/x".to_owned(), access: StreamAccess::File(position), holders }
}

/// A master and two workers that share a file.
fn family() -> Hearing {
    let mut hearing = Hearing::default();
    let heard = |tgid| Heard {
        process: key(tgid),
        comm: "gunicorn".into(),
        is_master: tgid == MASTER,
        server: ("gunicorn".to_owned(), true),
    };
    hearing.family([MASTER, 11, 12].map(heard).to_vec(), at(0));
    assert!(hearing.streams(vec![log(100, &[MASTER, 11, 12])], at(0)).is_empty());
    // The first look only counts.
    assert!(hearing.seen(look(&[(MASTER, 0), (11, 0), (12, 0)], None), at(1)).is_empty());
    hearing
}

fn look(written: &[(u32, u64)], gulp: Option<(&str, u64)>) -> WrittenSeen {
    let count = |(process, count): &(u32, u64)| {
        let count = Some(*count).filter(|count| *count != u64::MAX);
        Count { process: key(*process), before: count, after: count }
    };
    let gulps = gulp.map(|(text, position)| Gulp {
        id: LOG,
        bytes: text.as_bytes().to_vec(),
        position,
        passed_over: 0,
        taken: None,
    });
    WrittenSeen { written: written.iter().map(count).collect(), gulps: gulps.into_iter().collect() }
}

fn told(lines: &[WrittenLine]) -> Vec<(Vec<u32>, &str)> {
    lines.iter().map(|line| (line.by.iter().map(|(one, _)| one.tgid).collect(), line.text.as_str())).collect()
}

#[test]
fn a_line_is_of_the_one_who_has_written() {
    let mut hearing = family();
    let lines = hearing.seen(look(&[(MASTER, 0), (11, 6), (12, 0)], Some(("hello\n", 106))), at(10));
    assert_eq!(told(&lines), [(vec![11], "hello")]);
    assert_eq!(lines[0].descriptor, None, "both lead there");
    assert_eq!(hearing.question(false).taps[0].access, StreamAccess::File(106));
    assert_eq!(hearing.question(false).processes[1], (key(11), Some(6)));
    // It may write elsewhere, too.
    let lines = hearing.seen(look(&[(MASTER, 0), (11, 6), (12, 900)], Some(("x\n", 108))), at(20));
    assert_eq!(told(&lines), [(vec![12], "x")]);
    // What a master writes is not a worker's.
    let lines = hearing.seen(look(&[(MASTER, 5), (11, 6), (12, 900)], Some(("boss\n", 113))), at(30));
    assert_eq!(told(&lines), []);
}

#[test]
fn where_several_have_written_it_is_one_of_theirs_unless_the_count_tells() {
    let mut hearing = family();
    let lines = hearing.seen(look(&[(MASTER, 0), (11, 60), (12, 70)], Some(("hello\n", 106))), at(10));
    assert_eq!(told(&lines), [(vec![11, 12], "hello")]);
    let lines = hearing.seen(look(&[(MASTER, 0), (11, 66), (12, 170)], Some(("hello\n", 112))), at(20));
    assert_eq!(told(&lines), [(vec![11], "hello")]);
    assert_eq!(hearing.last(key(11), at(30)), ["(one of 2 processes) hello", "hello"]);
}

#[test]
fn what_a_stranger_writes_to_the_file_is_nobodys_here() {
    let mut hearing = family();
    assert!(
        hearing.seen(look(&[(MASTER, 0), (11, 0), (12, 0)], Some(("stranger\n", 109))), at(10)).is_empty()
    );
    let lines = hearing.seen(look(&[(MASTER, 0), (11, 6), (12, 0)], Some(("hello\n", 115))), at(500));
    assert_eq!(told(&lines), [(vec![11], "hello")]);
    // Both in one look: he has written less than came.
    let lines = hearing.seen(look(&[(MASTER, 0), (11, 8), (12, 0)], Some(("stranger\nx\n", 126))), at(510));
    assert_eq!(told(&lines)[0], (vec![MASTER, 11, 12], "stranger"));
    // A count that comes a moment later is waited for.
    assert!(hearing.seen(look(&[(MASTER, 0), (11, 8), (12, 0)], Some(("late\n", 131))), at(520)).is_empty());
    let lines = hearing.seen(look(&[(MASTER, 0), (11, 8), (12, 5)], Some(("", 131))), at(530));
    assert_eq!(told(&lines), [(vec![12], "late")]);
}

#[test]
fn the_last_lines_of_one_that_has_ended_are_kept_until_asked_for() {
    let mut hearing = family();
    let text = "1\n2\n3\n4\n5\n6\nTraceback";
    let ended = look(&[(MASTER, 0), (11, u64::MAX), (12, 0)], Some((text, 121)));
    assert_eq!(hearing.seen(ended, at(10)).len(), 6);
    assert_eq!(hearing.last(key(11), at(11)), ["3", "4", "5", "6", "Traceback…"]);
    assert!(hearing.last(key(11), at(12)).is_empty());
}

#[test]
fn a_flood_is_cut_and_counted() {
    let mut hearing = family();
    let text = "x\n".repeat(2000);
    let lines = hearing.seen(look(&[(MASTER, 0), (11, 4000), (12, 0)], Some((&text, 4100))), at(10));
    assert_eq!((lines.len() as u64, hearing.unshown().0.lines), (MOST_LINES, 1500));
    assert!(hearing.unshown().0.is_nothing());
    // The same again in this second: all of it is too much, and what was not even read is counted by its bytes.
    let mut seen = look(&[(MASTER, 0), (11, 8000), (12, 0)], Some((&text, 99_100)));
    seen.gulps.iter_mut().for_each(|gulp| gulp.passed_over = 91_000);
    assert!(hearing.seen(seen, at(20)).is_empty());
    let unshown = Unshown { lines: 2000, passed_over: 91_000, taken: 0 };
    assert_eq!(hearing.unshown(), (unshown, Vec::new()));
    let lines = hearing.seen(look(&[(MASTER, 0), (11, 8002), (12, 0)], Some(("y\n", 99_102))), at(1500));
    assert_eq!(told(&lines), [(vec![11], "y")]);
}

#[test]
fn streams_that_cannot_be_read_are_said_once_and_new_files_are_read_from_their_beginning() {
    let mut hearing = family();
    let socket = |inode| Stream {
        id: StreamId { device: 0, inode },
        name: format!("socket:[{inode}]"),
        access: StreamAccess::No("it is a socket".to_owned()),
        holders: vec![(key(11), 1)],
    };
    assert_eq!(
        hearing.streams(vec![socket(9)], at(1000)),
        [("socket:[9]".to_owned(), "it is a socket".to_owned())]
    );
    assert!(hearing.streams(vec![socket(9)], at(2000)).is_empty());
    let rotated = Stream { id: StreamId { device: 1, inode: 6 }, ..log(30, &[11]) };
    hearing.streams(vec![rotated], at(3000));
    let taps = hearing.question(true).taps;
    assert_eq!(
        taps.iter().map(|tap| &tap.access).collect::<Vec<_>>(),
        [&StreamAccess::File(100), &StreamAccess::File(0)]
    );
    hearing.streams(Vec::new(), at(9000));
    assert!(hearing.question(true).taps.is_empty(), "nobody has them any more");
}
