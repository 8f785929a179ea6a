//! Whether the turns on a connection show that two processes are in each other's way, or may as well wait for one another.

use crate::model::connection::{Act, Turn};

/// What is at most so long may be a token or a sign of life, such as a heartbeat of AMQP (8 bytes): it is the same to all who
/// takes which.
const LONGEST_TOKEN: u64 = 8;

/// Whether one has asked, another that takes answers too has sent before the first had its own, and the first, which has
/// sent nothing since, then took what came.
///
/// Who holds a lock from each question to its answer never does that. Nor does who sends what is never answered under the
/// same lock: before it takes an answer, it asks. A process that only listens while another asks is no proof: of several
/// questions by one process in a row the kernel side tells the first alone.
pub(super) fn is_proven(turns: &[Turn]) -> bool {
    let takes_answers = |pid: u32| turns.iter().any(|turn| turn.pid == pid && turn.act == Act::Received);
    let mut asking: Vec<Asking> = Vec::new();
    for Turn { pid, act, bytes, .. } in turns {
        let own = asking.iter().position(|asks| asks.pid == *pid).map(|place| asking.swap_remove(place));
        match act {
            Act::Sent => {
                if takes_answers(*pid) {
                    for asks in &mut asking {
                        asks.is_disturbed = true;
                    }
                }
                asking.push(Asking { pid: *pid, is_disturbed: false });
            }
            Act::Received => {
                if own.is_some_and(|own| own.is_disturbed) && *bytes > LONGEST_TOKEN {
                    return true;
                }
            }
            Act::ShutDown => asking.extend(own),
        }
    }
    false
}

/// A process that has sent and taken nothing since.
struct Asking {
    pid: u32,
    /// Whether another has asked meanwhile.
    is_disturbed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `1s 2r`: process 1 sent, process 2 received.
    fn shown(turns: &str) -> bool {
        let turn = |word: &str| Turn {
            pid: word.trim_end_matches(char::is_alphabetic).parse().unwrap(),
            act: if word.ends_with('s') { Act::Sent } else { Act::Received },
            after_ns: 0,
            bytes: 100,
        };
        is_proven(&turns.split_whitespace().map(turn).collect::<Vec<_>>())
    }

    #[test]
    fn who_takes_an_answer_after_another_has_asked_too_is_proof() {
        assert!(shown("1s 2s 1r 2r"));
        assert!(shown("1s 2s 2r 1r"));
        assert!(shown("1s 1r 2s 1s 2r 1r"));
        assert!(shown("1s 1r 2s 2r 1s 2s 1r"));
    }

    #[test]
    fn turns_under_a_lock_and_logs_are_none() {
        assert!(!shown("1s 1r 2s 2r 1s 1r 2s 2r"));
        assert!(!shown("1r 2s 2r 1s 1r"));
        assert!(!shown("1s 2s 3s 1s 2s"));
        assert!(!shown(""));
    }

    #[test]
    fn one_that_waits_for_no_answer_is_none() {
        // Under a lock, messages that are never answered, and questions.
        assert!(!shown("1s 2s 2r 1s 2s 2r"));
        assert!(!shown("1s 2s 2r 1s 1r 2s 2r 1s 2s 2r"));
        // The first only sends, without a lock, each message by one call.
        assert!(!shown("2s 1s 2r 1s 2s 1s 2r"));
        // A greeting before a handover, and two that listen.
        assert!(!shown("1s 2r"));
        assert!(!shown("1r 2r 1r"));
        // The first has asked again, which is not told: nobody else has sent since.
        assert!(!shown("1s 1r 2r 1r"));
    }

    #[test]
    fn tokens_of_which_each_does_for_everybody_are_none() {
        let turn = |(pid, act, bytes)| Turn { pid, act, after_ns: 0, bytes };
        let taken = |bytes| {
            [(1, Act::Sent, 1), (2, Act::Sent, 1), (1, Act::Received, bytes), (2, Act::Received, bytes)]
        };
        assert!(!is_proven(&taken(1).map(turn)));
        assert!(!is_proven(&taken(8).map(turn)));
        assert!(is_proven(&taken(9).map(turn)));
    }
}
