//! A program that forks beside a thread, in a unit of its own. The children live on.

use anyhow::Result;

use crate::systemd::run;

/// Forks again from time to time: on a machine that is too slow to look at a child in time, that one stays undecided.
const PROGRAM: &str = "import os, threading, time
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
for _ in range(6):
    if os.fork() == 0:
        break
    time.sleep(20)
time.sleep(1000)";

/// Starts it as this unit.
pub(crate) fn start(unit: &str) -> Result<()> {
    run("systemd-run", &["--unit", unit, "/usr/bin/python3", "-c", PROGRAM]).map(drop)
}
