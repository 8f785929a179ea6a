//! Which parts of a watch are at work: by what they do when they are asked to, not by whether they are still there.
//!
//! The rule is pure, whoever calls it says when: a part is asked to show that it works, and is silent from then on
//! until it does. [`Pulse`] is that rule shared between the parts and those who vouch for them: the watchdog,
//! `/-/ready`, `/-/healthy` and the metrics. Nobody asks unless one of these does, so an idle watch stays asleep.

mod pulse;
mod questions;

use std::{
    fmt,
    time::{Duration, Instant},
};

pub use self::{
    pulse::{Looks, Pulse},
    questions::Questions,
};

/// How long a part may take to answer before it counts as silent to those who ask over HTTP.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// A part of the watch that what it says rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Takes records out of the ring and judges them.
    Ring,
    /// Answers the core's questions by looking at processes.
    Evidence,
    /// Serves metrics and health.
    Http,
}

impl Part {
    /// Every part.
    pub const ALL: [Self; 3] = [Self::Ring, Self::Evidence, Self::Http];

    /// The name in metrics and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Evidence => "evidence",
            Self::Http => "http",
        }
    }
}

/// A part that does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failing {
    /// The part of the watch.
    pub part: Part,
    /// Whether it gave no answer, or a bad one.
    pub how: How,
}

/// In what way a part does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It has been asked so long ago, and has done nothing since.
    Silent(Duration),
    /// It answers, and says that it cannot do its work.
    Unable(&'static str),
}

impl fmt::Display for Failing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = self.part.name();
        match self.how {
            How::Silent(since) => write!(formatter, "{part} has not answered for {} s", since.as_secs()),
            How::Unable(why) => write!(formatter, "{part} cannot work: {why}"),
        }
    }
}

/// All of them on one line, for a log or a page.
pub fn describe(failing: &[Failing]) -> String {
    failing.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What is known of every part.
#[derive(Debug, Default)]
pub struct Health {
    ring: Progress,
    evidence: Progress,
    http: Progress,
}

/// What is known of one.
#[derive(Debug, Default)]
struct Progress {
    /// When it was asked first since it last did something.
    asked: Option<Instant>,
    /// Why it cannot do its work, as it last said itself.
    unable: Option<&'static str>,
}

impl Health {
    /// Asks a part to show that it works. Whether that is news: one that is silent already was asked before.
    pub fn ask(&mut self, part: Part, now: Instant) -> bool {
        let asked = &mut self.of_mut(part).asked;
        let news = asked.is_none();
        asked.get_or_insert(now);
        news
    }

    /// A part has done some of its work: it is not silent.
    pub fn moves(&mut self, part: Part) {
        self.of_mut(part).asked = None;
    }

    /// A part has done what it was asked to: it works.
    pub fn works(&mut self, part: Part) {
        *self.of_mut(part) = Progress::default();
    }

    /// A part has answered that it cannot do its work. That counts until it says otherwise.
    pub fn is_unable(&mut self, part: Part, why: &'static str) {
        *self.of_mut(part) = Progress { asked: None, unable: Some(why) };
    }

    /// Whether some part may still answer: it was asked, less than `patience` ago.
    pub fn is_awaited(&self, now: Instant, patience: Duration) -> bool {
        let waits = |asked: Instant| now.saturating_duration_since(asked) < patience;
        Part::ALL.into_iter().any(|part| self.of(part).asked.is_some_and(waits))
    }

    /// The parts that do not work: unable to, or silent for `patience` and longer.
    pub fn failing(&self, now: Instant, patience: Duration) -> Vec<Failing> {
        let how = |progress: &Progress| {
            let silent = progress.asked.map(|asked| now.saturating_duration_since(asked));
            let silent = silent.filter(|since| *since >= patience).map(How::Silent);
            silent.or_else(|| progress.unable.map(How::Unable))
        };
        let failing = |part| Some(Failing { part, how: how(self.of(part))? });
        Part::ALL.into_iter().filter_map(failing).collect()
    }

    const fn of(&self, part: Part) -> &Progress {
        match part {
            Part::Ring => &self.ring,
            Part::Evidence => &self.evidence,
            Part::Http => &self.http,
        }
    }

    const fn of_mut(&mut self, part: Part) -> &mut Progress {
        match part {
            Part::Ring => &mut self.ring,
            Part::Evidence => &mut self.evidence,
            Part::Http => &mut self.http,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_part_is_silent_from_the_first_question_that_it_leaves_open() {
        let start = Instant::now();
        let mut health = Health::default();
        assert_eq!(health.failing(start + 900 * SECOND, PATIENCE), [], "nobody has asked");
        assert!(health.ask(Part::Evidence, start));
        assert!(!health.ask(Part::Evidence, start + SECOND), "it was asked already");
        assert_eq!(health.failing(start + SECOND, PATIENCE), []);
        let silent = Failing { part: Part::Evidence, how: How::Silent(12 * SECOND) };
        assert_eq!(health.failing(start + 12 * SECOND, PATIENCE), [silent]);
        assert_eq!(silent.to_string(), "evidence has not answered for 12 s");
        // Any work shows that it goes on.
        health.moves(Part::Evidence);
        assert_eq!(health.failing(start + 900 * SECOND, PATIENCE), []);
    }

    #[test]
    fn each_part_that_hangs_is_named_and_no_other() {
        let start = Instant::now();
        for hung in Part::ALL {
            let mut health = Health::default();
            for part in Part::ALL {
                health.ask(part, start);
            }
            Part::ALL.into_iter().filter(|part| *part != hung).for_each(|part| health.works(part));
            assert!(health.is_awaited(start + SECOND, PATIENCE));
            let failing = health.failing(start + PATIENCE, PATIENCE);
            assert_eq!(failing, [Failing { part: hung, how: How::Silent(PATIENCE) }]);
            // Nobody waits a second time for what is known to be silent.
            assert!(!health.is_awaited(start + PATIENCE, PATIENCE));
        }
    }

    #[test]
    fn a_part_that_cannot_work_is_believed_until_it_says_otherwise() {
        let now = Instant::now();
        let mut health = Health::default();
        health.ask(Part::Evidence, now);
        health.is_unable(Part::Evidence, "it cannot read /proc");
        health.moves(Part::Evidence);
        assert!(!health.is_awaited(now, PATIENCE));
        assert_eq!(describe(&health.failing(now, PATIENCE)), "evidence cannot work: it cannot read /proc");
        health.works(Part::Evidence);
        assert_eq!(health.failing(now, PATIENCE), []);
    }
}
