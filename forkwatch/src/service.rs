//! What a service manager is told (`sd_notify(3)`). Without one, all of this does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// The watch is on and the listeners are bound: whatever depends on forkwatch may start. Also ends a reload.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(&line(status))]);
}

/// Tells in one line what the program does: `systemctl status` shows it.
pub fn status(status: &str) {
    send(&[NotifyState::Status(&line(status))]);
}

/// The configuration is being reloaded; [`ready`] must follow, whether that works or not.
pub fn reloading() {
    // The time must be in the same message, or the manager cannot tell which reload it is about.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "cannot read the monotonic clock"),
    }
}

/// The program is ending in good order.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Fed for as long as all parts of the watch show that they work, so that one that hangs is restarted.
#[derive(Clone, Copy, Debug)]
pub struct Watchdog {
    /// Half of the time after which the manager loses patience.
    interval: Duration,
}

impl Watchdog {
    /// As the manager wants it (`WATCHDOG_USEC`); absent if it does not watch.
    pub fn from_environment() -> Option<Self> {
        sd_notify::watchdog_enabled().map(|timeout| Self { interval: timeout / 2 })
    }

    /// How often [`Self::feed`] is to be called, while all is well.
    pub const fn interval(self) -> Duration {
        self.interval
    }

    /// All is well at this moment.
    pub fn feed(self) {
        send(&[NotifyState::Watchdog]);
    }
}

/// A line break would begin another assignment.
fn line(text: &str) -> String {
    text.replace(|character: char| character.is_control(), " ")
}

fn send(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "cannot notify the service manager");
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixDatagram, process::Command};

    use super::*;

    /// Runs this test anew in a process with a manager in its environment, and reads what that is told.
    #[test]
    fn the_manager_is_told_in_messages_it_understands() {
        if std::env::var_os("NOTIFY_SOCKET").is_some() {
            status("attaching\nREADY=1");
            ready("watching");
            reloading();
            let watchdog = Watchdog::from_environment().unwrap();
            assert_eq!(watchdog.interval(), Duration::from_secs(15));
            watchdog.feed();
            stopping();
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "service::tests::the_manager_is_told_in_messages_it_understands"])
            .envs([("NOTIFY_SOCKET", path.as_os_str()), ("WATCHDOG_USEC", "30000000".as_ref())])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        manager.set_nonblocking(true).unwrap();
        let mut buffer = [0; 256];
        let messages: Vec<String> = std::iter::from_fn(|| {
            let length = manager.recv(&mut buffer).ok()?;
            Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
        })
        .collect();
        let [first, ready, reloading, rest @ ..] = messages.as_slice() else { panic!("{messages:?}") };
        assert_eq!(
            (first.as_str(), ready.as_str()),
            ("STATUS=attaching READY=1\n", "READY=1\nSTATUS=watching\n")
        );
        let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(time.trim().parse::<u64>().unwrap() > 0);
        assert_eq!(rest, ["WATCHDOG=1\n", "STOPPING=1\n"]);
    }
}
