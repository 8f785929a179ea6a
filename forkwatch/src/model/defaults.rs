//! What forkwatch does where nobody says otherwise. The configuration, the options and their help, and whoever is
//! made without either take it from here.

use std::time::Duration;

/// How long a child may take to exec or exit before its fork is judged.
pub const GRACE: Duration = Duration::from_secs(1);
/// How long after a fork the parent's threads are looked at.
pub const RECHECK: Duration = Duration::from_millis(100);
/// How often repeats of one finding are summed up at most.
pub const SUMMARY_INTERVAL: Duration = Duration::from_secs(60);
/// How long a wait must have been seen without a change before it is reported, where the lock names its owner.
pub const STUCK_AFTER: Duration = Duration::from_secs(2);
/// How often all processes are looked at for forked children that no event told of.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// Size of the ring of records, in bytes.
pub const RING_BYTES: u32 = 1 << 20;
/// Most un-exec'd children that the kernel side follows at a time.
pub const MAX_CHILDREN: u32 = 1 << 14;
