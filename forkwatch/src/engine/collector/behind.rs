//! Whether looks at processes come late, because there is more to look at than may be looked at: it is said, since silence
//! means less then.

use std::time::{Duration, Instant};

/// So late a look is worth a word.
const LATE: Duration = Duration::from_secs(10);
/// At most one word in this time.
const BETWEEN_WORDS: Duration = Duration::from_secs(60);

/// What has been late, and when that was said.
#[derive(Default)]
pub(super) struct Behind {
    said: Option<Instant>,
    /// Questions that found no room since then.
    gave_way: u64,
}

impl Behind {
    /// A question has waited since then; so many wait still.
    pub(super) fn comes(&mut self, since: Instant, waiting: usize, now: Instant) {
        let late = now.saturating_duration_since(since);
        if late >= LATE && self.is_news(now) {
            tracing::warn!(
                waiting,
                "looks at processes come {} s late, for there are too many to look at: what goes wrong now is told late, or \
                 not at all",
                late.as_secs()
            );
        }
    }

    /// A question found no room.
    pub(super) fn gave_way(&mut self, now: Instant) {
        self.gave_way += 1;
        if self.is_news(now) {
            tracing::warn!(
                looks = self.gave_way,
                "looks at processes were left out, for there are too many to look at: what they would have shown is not told"
            );
            self.gave_way = 0;
        }
    }

    /// Whether nothing has been said for a while; from now on something has.
    fn is_news(&mut self, now: Instant) -> bool {
        let is_news = self.said.is_none_or(|said| now.saturating_duration_since(said) >= BETWEEN_WORDS);
        if is_news {
            self.said = Some(now);
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_is_said_once_in_a_while() {
        let now = Instant::now();
        let mut behind = Behind::default();
        behind.comes(now, 3, now + LATE / 2);
        assert_eq!(behind.said, None);
        behind.comes(now, 3, now + LATE);
        assert_eq!(behind.said, Some(now + LATE));
        behind.gave_way(now + LATE);
        behind.gave_way(now + LATE);
        assert_eq!((behind.said, behind.gave_way), (Some(now + LATE), 2));
        behind.gave_way(now + LATE + BETWEEN_WORDS);
        assert_eq!((behind.said, behind.gave_way), (Some(now + LATE + BETWEEN_WORDS), 0));
    }
}
