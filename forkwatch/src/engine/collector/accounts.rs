//! On whose account a question goes.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::{Duration, Instant},
};

use crate::{host, reader::Account};

/// Processes that are remembered.
const MOST: usize = 8192;
/// After this time a process is looked up again: it may have changed its user, or its pid is another's.
const FRESH: Duration = Duration::from_secs(60);
/// From this uid on, users have whole ranges of them (subuid(5)).
const FIRST_SUBORDINATE: u32 = 65_536;

/// Whose the processes are that were asked about lately.
#[derive(Default)]
pub(super) struct Accounts(HashMap<u32, (Instant, u64, u64)>);

impl Accounts {
    /// The account of a question about this process, which concerns that one's family.
    pub(super) fn of(&mut self, process: u32, family: u32, now: Instant) -> Account {
        let known = self.0.get(&process).filter(|(at, ..)| now.saturating_duration_since(*at) < FRESH);
        let (user, unit) = if let Some((_, user, unit)) = known {
            (*user, *unit)
        } else {
            let (user, unit) = look_up(process);
            if self.0.len() >= MOST {
                self.0.clear();
            }
            self.0.insert(process, (now, user, unit));
            (user, unit)
        };
        Account { user, unit, family: family.into() }
    }
}

/// The user and the unit. What cannot be seen shares one account.
fn look_up(process: u32) -> (u64, u64) {
    let Some((_, owner)) = host::owner(process) else { return (u64::MAX, 0) };
    let unit = owner.unit.unwrap_or_default();
    let login = owner.uid.filter(|uid| *uid >= FIRST_SUBORDINATE).and_then(|_| login(&unit));
    let user = login.or(owner.uid).map_or(u64::MAX, u64::from);
    let mut hasher = DefaultHasher::new();
    unit.hash(&mut hasher);
    (user, hasher.finish())
}

/// The user whose session or service manager a unit belongs to: `user@1000.service/...` or `user-1000.slice`.
fn login(unit: &str) -> Option<u32> {
    let (_, rest) = unit.split_once("user@").or_else(|| unit.split_once("user-"))?;
    rest.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_range_of_ids_is_the_users() {
        assert_eq!(login("user@1000.service/podman-7.scope"), Some(1000));
        assert_eq!(login("/user.slice/user-33.slice/session-2.scope"), Some(33));
        assert_eq!(login("nginx.service"), None);
        assert_eq!(login("user@.service"), None);
    }

    #[test]
    fn a_process_is_on_its_users_account_and_what_is_gone_on_one() {
        let now = Instant::now();
        let mut accounts = Accounts::default();
        let own = std::process::id();
        let account = accounts.of(own, 1, now);
        assert_eq!((account.user, account.family), (nix::unistd::getuid().as_raw().into(), 1));
        assert_eq!(accounts.of(own, 1, now), account);
        assert_eq!(accounts.of(u32::MAX, 2, now).user, u64::MAX);
    }
}
