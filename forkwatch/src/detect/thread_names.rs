//! Threads for a sentence: what they are called, and what they do.

use crate::model::thread::{Occupation, SeenThread, occupation};

/// Threads, or groups of them, that a sentence names.
const SHOWN: usize = 4;

/// Threads that are called alike, but for numbers in their names, and are at one place.
struct Group {
    /// Their name, if they have the same.
    name: String,
    /// It with `*` for each number.
    pattern: String,
    is_one_name: bool,
    place: Option<String>,
    count: usize,
}

/// The first few different ones, with how often each was seen: `flush: write (app.py:12), pool_* x4`.
pub(super) fn name_threads(threads: &[SeenThread], occupations: &[Occupation]) -> String {
    let mut groups: Vec<Group> = Vec::new();
    for thread in threads {
        let name = thread.name(occupations);
        let place = occupation(thread.tid, occupations).and_then(Occupation::place);
        let pattern = pattern(&name);
        match groups.iter_mut().find(|group| group.pattern == pattern && group.place == place) {
            Some(group) => {
                group.count += 1;
                group.is_one_name &= group.name == name;
            }
            None => groups.push(Group { name, pattern, is_one_name: true, place, count: 1 }),
        }
    }
    let mut shown: Vec<String> = groups.iter().take(SHOWN).map(Group::words).collect();
    if groups.len() > SHOWN {
        shown.push("...".to_owned());
    }
    shown.join(", ")
}

/// A name with `*` for each number in it.
pub(super) fn pattern(name: &str) -> String {
    let mut pattern = String::new();
    let mut in_number = false;
    for character in name.chars() {
        let is_digit = character.is_ascii_digit();
        if !is_digit {
            pattern.push(character);
        } else if !in_number {
            pattern.push('*');
        }
        in_number = is_digit;
    }
    pattern
}

impl Group {
    fn words(&self) -> String {
        let Self { name, pattern, is_one_name, place, count } = self;
        let name = if *is_one_name { name } else { pattern };
        let times = if *count > 1 { format!(" x{count}") } else { String::new() };
        let place = place.as_ref().map_or_else(String::new, |place| format!(": {place}"));
        format!("{name}{times}{place}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stack::Frame;

    fn threads(comms: &[&str]) -> Vec<SeenThread> {
        (7..).zip(comms).map(|(tid, comm)| SeenThread { tid, comm: (*comm).into() }).collect()
    }

    fn occupied(tid: u32, name: Option<&str>, at: Option<(&str, &str, Option<u32>)>) -> Occupation {
        let at = at.map(|(function, module, line)| Frame {
            function: Some(function.to_owned()),
            module: Some(module.to_owned()),
            line,
            ..Frame::default()
        });
        Occupation { tid, name: name.map(str::to_owned), at, queue: None }
    }

    #[test]
    fn threads_are_named_without_repeating_a_name() {
        let threads = threads(&["python", "flush", "python", "\x1b[2J", "grpc", "rdk:main"]);
        assert_eq!(name_threads(&threads, &[]), "python x2, flush, \\x1b[2J, grpc, ...");
    }

    #[test]
    fn what_they_are_called_in_their_program_and_do_is_told() {
        let threads = threads(&["python", "python", "python", "rdk:main", "python", "worker-1"]);
        let at = Some(("_worker", "/usr/lib/python3.11/concurrent/futures/thread.py", Some(81)));
        let occupations = [
            occupied(7, Some("cache-refresher"), Some(("holder", "/srv/b.py", Some(4)))),
            occupied(8, Some("pool-0_0"), at),
            occupied(9, Some("pool-0_11"), at),
            occupied(10, None, Some(("rd_kafka_thread_main", "/usr/lib/librdkafka.so.1", None))),
            occupied(11, Some("Thread-1 (run)"), Some(("run", "/srv/jobs/__init__.py", None))),
        ];
        assert_eq!(
            name_threads(&threads[..4], &occupations),
            "cache-refresher: holder (b.py:4), pool-*_* x2: _worker (thread.py:81), \
             rdk:main: rd_kafka_thread_main (librdkafka.so.1)"
        );
        assert_eq!(
            name_threads(&threads[4..], &occupations),
            "Thread-1 (run): run (jobs/__init__.py), worker-1"
        );
    }

    #[test]
    fn threads_at_other_places_are_others() {
        let threads = threads(&["python", "python"]);
        let occupations = [
            occupied(7, None, Some(("one", "/a.py", Some(1)))),
            occupied(8, None, Some(("two", "/a.py", Some(5)))),
        ];
        assert_eq!(name_threads(&threads, &occupations), "python: one (a.py:1), python: two (a.py:5)");
    }
}
