//! `shared-connection-closed`: a child says goodbye on its parent's connection.

use super::hazard::Case;
use crate::{
    detect::Hazard,
    model::{
        detector::{Aspect, DetectorState, Observable, Reach, Wanted},
        finding::{Certainty, Finding, HazardId, Severity, State},
        program_name::called,
    },
    remedy::connection::farewells,
};

pub(crate) static HAZARD: Hazard = Hazard {
    id: HazardId::new("shared-connection-closed"),
    title: "A child closes its parent's connection when it ends",
    what: "A child that ends in the usual way runs the destructors and exit handlers of libraries that it inherited. \
           For a connection that is open in both they send the protocol's farewell, or shut the socket down, and \
           the server ends a session that the parent still uses: it finds its connection lost, or hangs in the \
           next request.",
    detection: "The sockets are watched as for shared-connection. A finding is made when a child that has not used \
                the connection otherwise sends one message of at most 64 bytes on it and ends within a second, or \
                closes its copy; when the parent does so as it ends, and the child uses the connection; or when a \
                child shuts the socket down. Of a child too short-lived to be watched, the bytes that TCP counted \
                until its end tell, where the parent was not seen to send. If a child has closed its copy before it was \
                watched, and the server ends the connection of the parent within a second of the fork, that is a \
                suspicion; and so is it where a child has used the connection otherwise, and it is over half a second after \
                the child's end.",
    certainty: Certainty::Strong,
    certainty_reason: "shutdown(2) acts on the socket itself, for everyone who holds it: certain. Of a short message \
                       just before the end it is only not known whether it was the farewell: strong.",
    state: State::Confirmed,
    severity: Severity::Warning,
    look_alikes: &[
        "A child that closes its copy and sends nothing: that is right, and touches nobody.",
        "A child that leaves by _exit: no destructor runs.",
        "A child that was killed.",
        "A server that accepts, forks and keeps its copy, which it never uses: a child that ends the connection with the \
         client is suspected only.",
    ],
    remedies: farewells,
    links: &[
        "https://man7.org/linux/man-pages/man2/_exit.2.html",
        "https://man7.org/linux/man-pages/man2/shutdown.2.html",
    ],
    watches: "children that say goodbye on their parent's connection",
    sees: &[(Aspect::Descriptors, Wanted::Each), (Aspect::Sockets, Wanted::Helps)],
    without_sight: Some((
        Reach::Programs,
        DetectorState::Limited,
        "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH the memory and the descriptors of other users' processes cannot be read: only one's own are judged",
    )),
    needs: &[
        (Observable::SocketUse, DetectorState::Off, "the use of a connection cannot be watched"),
        (Observable::Heirs, DetectorState::Limited, "a child's first second is not seen"),
        (Observable::Shutdowns, DetectorState::Limited, "farewells are seen, but not every shutdown(2)"),
    ],
    knows_threads: false,
    tells_who_hangs: false,
    ends: &[],
};

/// In what way a connection was ended for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// The child shut it down.
    ShutDown,
    /// The child said a last short thing as it ended.
    AtItsEnd,
    /// The child said one short thing, closed its copy, and went on. The parent holds its own still.
    AndWentOn,
    /// The same, and somebody has tried to use the connection since, and may have closed it then.
    AndWasMissed,
    /// The child used it and ended, and it was over soon after.
    AfterUse,
    /// The process that had it first did so as it ended, and the child uses it.
    OfForker,
    /// The child has closed its copy before it was watched, and the server has ended the connection soon after.
    Unseen,
}

/// The finding about a connection that was ended for the others.
pub(super) fn judge(case: &Case<'_>, farewell: Farewell) -> Finding {
    let name = called(case.program);
    let (child, forker, peer) = (case.child.tgid, case.forker.tgid, case.peer());
    let of_child = format!("The child {child} of {name} (pid {forker})");
    let of_parent = "which its parent had opened before the fork and still holds";
    let summary = match farewell {
        Farewell::ShutDown => format!("{of_child} shut down the connection to {peer}, {of_parent}"),
        Farewell::AtItsEnd => {
            format!("{of_child} said goodbye on the connection to {peer} as it ended, {of_parent}")
        }
        Farewell::AndWentOn => {
            format!("{of_child} said goodbye on the connection to {peer} and closed its copy, {of_parent}")
        }
        Farewell::AndWasMissed => format!(
            "{of_child} said goodbye on the connection to {peer} and closed its copy; its parent had opened it before \
             the fork, and it was used again after that"
        ),
        Farewell::Unseen => format!(
            "{of_child} closed its copy of the connection to {peer}, {of_parent}, and the server ended that within a second: \
             probably the child said goodbye on it"
        ),
        Farewell::AfterUse => format!(
            "{of_child} used the connection to {peer}, {of_parent}, and when it ended, the connection was over: probably the \
             child said goodbye on it"
        ),
        Farewell::OfForker => format!(
            "{name} (pid {forker}) said goodbye on the connection to {peer} as it ended, which it had opened before \
             the fork and its child {child} still uses"
        ),
    };
    // A server that accepts, forks and forgets to close its copy misses nothing by what its child does for the client.
    let is_its_own = case.socket.accepted && !case.forker_uses_it;
    let (state, certainty) = match farewell {
        Farewell::ShutDown | Farewell::AtItsEnd | Farewell::AndWentOn if is_its_own => {
            (State::Suspected, Certainty::Heuristic)
        }
        Farewell::ShutDown => (HAZARD.state, Certainty::Certain),
        Farewell::Unseen | Farewell::AfterUse => (State::Suspected, Certainty::Heuristic),
        _ => (HAZARD.state, HAZARD.certainty),
    };
    Finding { state, ..case.finding(&HAZARD, certainty, summary, case.connection().farewell()) }
}
