//! Clocks, and what names this host.

use nix::time::{ClockId, clock_gettime};

use super::file;
use crate::model::time::BootTime;

/// The present time of `CLOCK_BOOTTIME`.
pub fn now() -> BootTime {
    BootTime(u64::try_from(nanoseconds(ClockId::CLOCK_BOOTTIME)).unwrap_or_default())
}

/// Nanoseconds to add to a [`BootTime`] for the Unix time, as the clocks stand now: it moves when the wall clock is
/// set.
pub fn wall_offset() -> i64 {
    // The two clocks cannot be read at once: the closest of a few pairs is off by less than a microsecond.
    (0..4)
        .map(|_| {
            let before = nanoseconds(ClockId::CLOCK_BOOTTIME);
            let wall = nanoseconds(ClockId::CLOCK_REALTIME);
            let after = nanoseconds(ClockId::CLOCK_BOOTTIME);
            (after - before, wall - before - (after - before) / 2)
        })
        .min()
        .map_or(0, |(_, offset)| offset)
}

/// Both clocks exist on every kernel that forkwatch runs on, and `clock_gettime(2)` names no other failure than a
/// clock that does not: zero stands for that.
fn nanoseconds(clock: ClockId) -> i64 {
    clock_gettime(clock).map_or(0, |time| time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}

/// The kernel's random id of this boot; absent where `/proc/sys` is hidden.
pub fn boot_id() -> Option<String> {
    let text = String::from_utf8(file::read_small("/proc/sys/kernel/random/boot_id").ok()?).ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}

/// The host's name.
pub fn host_name() -> Option<String> {
    let text = file::read_small("/proc/sys/kernel/hostname").ok()?;
    Some(String::from_utf8_lossy(&text).trim().to_owned()).filter(|name| !name.is_empty())
}

/// The highest pid plus one; absent where `/proc/sys` is hidden.
pub fn pid_max() -> Option<u32> {
    String::from_utf8(file::read_small("/proc/sys/kernel/pid_max").ok()?).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_offset_turns_boot_time_into_wall_time() {
        let wall = i128::from(now().0) + i128::from(wall_offset());
        let expected = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        assert!((wall - i128::try_from(expected).unwrap()).abs() < 1_000_000_000);
    }

    #[test]
    fn this_boot_has_an_id_and_the_host_a_name() {
        assert_eq!(boot_id().unwrap().len(), 36);
        let uname = std::process::Command::new("uname").arg("-n").output().unwrap();
        assert_eq!(host_name().unwrap(), String::from_utf8(uname.stdout).unwrap().trim());
        assert!(pid_max().unwrap() > std::process::id());
    }
}
