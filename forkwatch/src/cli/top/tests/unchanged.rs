use super::*;
use crate::cli::top::{known::Known, rows::Row};

/// How many of these lines are none of those.
fn made(lines: &[Rc<Row>], before: &[Rc<Row>]) -> usize {
    lines.iter().filter(|line| !before.iter().any(|known| Rc::ptr_eq(known, line))).count()
}

#[test]
fn lines_are_made_again_only_where_something_is_new() {
    let same = shown();
    let mut view = View::new(None);
    view.show(same.clone());
    let lines = view.rows.clone();
    assert_eq!(lines.len(), 5);
    for second in 62..120 {
        view.show(Shown { now: context().timestamp(at(second * SECOND)), ..same.clone() });
        assert_eq!(made(&view.rows, &lines), 0, "nothing is new");
    }
    let text = screen(&mut view, 150, 24);
    assert!(text.contains("111 s"), "what has not run goes on not to run: {text}");
    view.show(Shown { seen: HashMap::from([(key(100, 0), Rc::new(looked()))]), ..same.clone() });
    assert_eq!(made(&view.rows, &lines), 3, "one server was looked at");
    view.show(Shown { findings: Arc::new(Vec::new()), ..same });
    assert_eq!(made(&view.rows, &lines), 5);
    assert!(!screen(&mut view, 150, 24).contains("1!"));
}

#[test]
fn only_servers_that_have_changed_are_asked_for_again() {
    let answer = |table: &WorkerTable, told, most| servers::servers(table, told, most, &context());
    let mut table = table();
    let mut known = Known::default();
    assert_eq!(known.missing(7), Some(usize::MAX));
    known.take(answer(&table, 7, usize::MAX));
    assert_eq!(known.missing(7), None);
    let before = Arc::clone(&known.servers);
    happened(
        &mut table,
        100,
        "gunicorn",
        104,
        WorkerChange::Forked { seen: true, state: WorkerState::Starting },
    );
    assert_eq!(known.missing(8), Some(1));
    known.take(answer(&table, 8, 1));
    let whole = servers::servers(&table, 8, usize::MAX, &context()).servers;
    assert_eq!(known.servers.iter().map(|one| (**one).clone()).collect::<Vec<_>>(), whole);
    let kept = known.servers.iter().filter(|one| before.iter().any(|other| Arc::ptr_eq(one, other)));
    assert_eq!(kept.count(), 1, "the other one is the very same");
    // Another watch has begun to count anew.
    assert_eq!(known.missing(2), Some(usize::MAX));
    known.take(answer(&WorkerTable::default(), 2, usize::MAX));
    assert!(known.servers.is_empty());
}
