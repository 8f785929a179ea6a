//! How long a thread has slept.

use super::file;

/// Nanoseconds since a thread last ran, by the scheduler's clock; absent where the kernel does not tell
/// (`CONFIG_SCHED_DEBUG`).
///
/// That clock leaves out what a CPU has spent in interrupts, so between two CPUs it may be off by as much: good to tell
/// a reader since when, not to prove anything.
pub(super) fn slept(process: u32, thread: u32) -> Option<u64> {
    let own = last_ran("/proc/thread-self/sched")?;
    own.checked_sub(last_ran(&format!("/proc/{process}/task/{thread}/sched"))?)
}

/// `se.exec_start`: milliseconds with six decimals (`proc_sched_show_task`, kernel/sched/debug.c).
fn last_ran(path: &str) -> Option<u64> {
    parse(&file::read_small(path).ok()?)
}

fn parse(text: &[u8]) -> Option<u64> {
    let value = file::field(text, "se.exec_start")?.trim_start_matches(':').trim();
    let (milliseconds, nanoseconds) = value.split_once('.')?;
    let nanoseconds = (nanoseconds.len() == 6).then(|| nanoseconds.parse::<u64>().ok())??;
    milliseconds.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_read_in_nanoseconds() {
        let text = b"sleep (5840, #threads: 1)\n---\nse.exec_start                                :      13087290.752387\n";
        assert_eq!(parse(text), Some(13_087_290_752_387));
        for broken in
            [&b"se.exec_start : 7\n"[..], b"se.exec_start : 7.5\n", b"se.vruntime : 1.000000\n", b""]
        {
            assert_eq!(parse(broken), None);
        }
    }
}
