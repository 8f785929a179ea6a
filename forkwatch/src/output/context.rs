//! What an output must know of the host, and of the watch of it.

use jiff::Timestamp;

use crate::model::{process::ProcessKey, time::BootTime};

/// Digits of the boot id in an entity id: 64 random bits.
const BOOT_DIGITS: usize = 16;

/// The host that is watched. Unknown is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The host's name, as `uname -n` shows it.
    pub host_name: Option<String>,
    /// The kernel's random id of this boot, as in `/proc/sys/kernel/random/boot_id`.
    pub boot_id: Option<String>,
    /// Nanoseconds to add to a [`BootTime`] for the Unix time.
    pub wall_offset: i64,
    /// Its pids are below this.
    pub pid_max: Option<u32>,
    /// When the watch began; 0 where that is not known.
    pub began: BootTime,
}

impl Context {
    /// The wall clock at that time.
    pub fn timestamp(&self, at: BootTime) -> Timestamp {
        let nanoseconds = i64::try_from(at.0).unwrap_or(i64::MAX).saturating_add(self.wall_offset);
        // Never out of range: 64 bits of nanoseconds reach from 1677 to 2262.
        Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default()
    }

    /// Names a process on all hosts and for all times: the first 16 hexadecimal digits of the boot id, the pid, and
    /// the start in clock ticks since boot, with `-` between. Anyone can compute it from
    /// `/proc/sys/kernel/random/boot_id` and fields 1 and 22 of `/proc/PID/stat`; for a pid to be given out twice
    /// within a tick of 10 ms, all others would have to be given out between.
    pub fn entity_id(&self, process: ProcessKey) -> Option<String> {
        let boot: String =
            self.boot_id.as_ref()?.chars().filter(char::is_ascii_hexdigit).take(BOOT_DIGITS).collect();
        Some(format!("{boot}-{}-{}", process.tgid, process.start.ticks()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_id_is_computed_from_what_proc_shows() {
        let context = Context {
            boot_id: Some("0ec2b5e1-5a3e-4b0f-9d5a-2f6f1c3a9b77".to_owned()),
            ..Context::default()
        };
        let key = |start| ProcessKey { tgid: 10_468, start: BootTime(start) };
        assert_eq!(context.entity_id(key(1_336_299_999_999)).unwrap(), "0ec2b5e15a3e4b0f-10468-133629");
        assert_eq!(context.entity_id(key(1_336_290_000_000)), context.entity_id(key(1_336_299_999_999)));
        assert_eq!(Context::default().entity_id(key(0)), None);
    }

    #[test]
    fn no_time_is_out_of_range() {
        for wall_offset in [i64::MIN, 0, i64::MAX] {
            let context = Context { wall_offset, ..Context::default() };
            assert!(context.timestamp(BootTime(0)) <= context.timestamp(BootTime(u64::MAX)));
        }
        let context = Context { wall_offset: 1_789_041_600_000_000_000, ..Context::default() };
        let shown = format!("{:.9}", context.timestamp(BootTime(123_456_789)));
        assert_eq!(shown, "2026-09-10T12:00:00.123456789Z");
    }
}
