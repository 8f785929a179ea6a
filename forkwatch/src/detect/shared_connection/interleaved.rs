//! Whether the turns on a connection show that two processes are in each other's way, or may as well wait for one another.

use crate::model::connection::{Act, Turn};

/// Whether one has sent while another waited for its answer, or took what another waited for, or whether two take what comes
/// without having asked. Who holds a lock from each question to its answer does none of these; and where nobody ever takes
/// an answer, as on a connection for logs, each message may well arrive whole.
pub(super) fn is_proven(turns: &[Turn]) -> bool {
    let is_answered = turns.iter().any(|turn| turn.act == Act::Received);
    let (mut asking, mut listening): (Vec<u32>, Option<u32>) = (Vec::new(), None);
    for Turn { pid, act, .. } in turns {
        let others_ask = asking.iter().any(|asks| asks != pid);
        match act {
            Act::Sent if others_ask => {
                if is_answered {
                    return true;
                }
            }
            Act::Sent => {
                if !asking.contains(pid) {
                    asking.push(*pid);
                }
            }
            Act::Received if asking.contains(pid) => asking.retain(|asks| asks != pid),
            Act::Received => {
                if others_ask || listening.is_some_and(|listens| listens != *pid) {
                    return true;
                }
                listening = Some(*pid);
            }
            Act::ShutDown => {}
        }
    }
    false
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
    fn a_question_between_another_and_its_answer_is_proof() {
        assert!(shown("1s 2s 2r"));
        assert!(shown("1s 1r 2s 1s 1r"));
        // The answer of one goes to another, or two take what comes.
        assert!(shown("1s 2r"));
        assert!(shown("1r 2r"));
    }

    #[test]
    fn turns_under_a_lock_and_logs_are_none() {
        assert!(!shown("1s 1r 2s 2r 1s 1r 2s 2r"));
        assert!(!shown("1r 2s 2r 1s 1r"));
        assert!(!shown("1s 2s 3s 1s 2s"));
        assert!(!shown(""));
    }
}
