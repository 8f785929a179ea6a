//! How the clone family's system calls could be watched here, which is done on request only.

use super::check::Check;
use crate::kernel::{Probe, Way, offers, tracefs};

/// Tries it, unless something stands in the way of all watching.
pub(super) fn examine(obstacle: Option<&str>) -> (Check, Result<&'static Way, String>) {
    let way = match obstacle {
        Some(why) => Err(format!("not tried: {why}")),
        None => offers::on_request(&[Probe::CloneCalls]),
    };
    (check(way.as_ref().copied(), obstacle.is_none()), way)
}

fn check(way: Result<&Way, &String>, tried: bool) -> Check {
    let (id, title) = ("clone-calls", "Clone calls (on request)");
    match way {
        Ok(way) if way.uses_functions() => Check::ok(id, title, format!("by {}", way.words)),
        Ok(_) => Check::limited(
            id,
            title,
            "this kernel refuses fentry on kernel_clone; the tracepoints of clone, clone3, fork and vfork work, \
             but while they are attached every system call of every process takes a slower path (getppid: 142 \
             instead of 112 ns, 27 % more)",
            "use --clone-calls for a question, not for good",
        ),
        Err(why) if tried && tracefs().is_none() => Check::limited(
            id,
            title,
            format!("{why}; tracefs is not mounted, or cannot be read"),
            "where fentry on kernel_clone is refused it takes mount -t tracefs none /sys/kernel/tracing",
        ),
        Err(why) => Check::unknown(id, title, why.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::check::Status, *};

    #[test]
    fn what_every_system_call_pays_is_said() {
        let ways = Way::all_of(Probe::CloneCalls);
        let checks: Vec<Check> = ways.iter().map(|way| check(Ok(way), true)).collect();
        assert_eq!([Status::Ok, Status::Limited], [0, 1].map(|at: usize| checks[at].status));
        assert!(checks[1].found.contains("27 %"), "{}", checks[1].found);
    }
}
