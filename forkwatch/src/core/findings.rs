//! The life of a finding: it is reported once, or counted as a repeat, or accepted by the operator, and says how it ended.

use super::{Output, Settings, later::resolved, recent::Recent, repeats::Repeats, suppress::suppressed};
use crate::model::{
    child_end::ChildEnd,
    finding::{Finding, HazardId},
    process::{ProcessKey, Program},
    program_name::called,
    resolution::Resolution,
    time::BootTime,
};

/// Most reported children whose end is waited for.
const MOST_OPEN: usize = 1024;
/// Most processes of which it is known what was found about those that they forked.
const MOST_FORKERS: usize = 1024;

/// What a detector has found, and how it is to be told.
pub struct Report<'a> {
    /// What it has found.
    pub finding: Finding,
    /// Whether the end of the child ends it; else whoever reports it says how it ends.
    pub until_its_end: bool,
    /// Whether it is about one child, so that who watches a single server wants to know of each.
    pub of_one_child: bool,
    /// A program besides the one to blame that rules of the operator may name.
    pub heir: Option<&'a Program>,
}

impl Report<'_> {
    /// A finding that nothing ends by itself.
    pub const fn of(finding: Finding) -> Self {
        Self { finding, until_its_end: false, of_one_child: false, heir: None }
    }

    /// A finding that the end of its child ends.
    pub const fn until_the_end(finding: Finding) -> Self {
        Self { finding, until_its_end: true, of_one_child: false, heir: None }
    }
}

/// What was reported, and of that what is not over yet.
pub(super) struct Findings {
    pub(super) repeats: Repeats,
    /// Findings that were reported one by one, by the child whose end resolves them.
    open: Recent<Vec<Finding>>,
    /// What was found about those that a process forked, whether it was told, counted as a repeat, or accepted.
    found: Recent<Vec<HazardId>>,
}

impl Default for Findings {
    fn default() -> Self {
        Self { repeats: Repeats::default(), open: Recent::new(MOST_OPEN), found: Recent::new(MOST_FORKERS) }
    }
}

impl Findings {
    /// Reports a finding, unless the operator accepts it or it is a repeat. Gives it back where it is reported now.
    pub(super) fn report(
        &mut self,
        report: Report<'_>,
        settings: &Settings,
        out: &mut Vec<Output>,
    ) -> Option<Finding> {
        let Report { finding, of_one_child, heir, until_its_end } = report;
        let (hazard, facts) = (finding.hazard, &finding.facts);
        self.note(finding.parent, hazard);
        let count = facts.thread_count.unwrap_or(0);
        let accepted = |program| suppressed(&settings.suppress, hazard, program, &facts.threads, count);
        if let Some((rule, accepting)) = accepted(&finding.program).or_else(|| heir.and_then(accepted)) {
            let reason = accepting.reason().to_owned();
            out.push(Output::Suppressed { hazard, program_name: finding.program_name, rule, reason });
            return None;
        }
        let program_name = finding.program_name.clone();
        let unit = finding.program.place().map(str::to_owned);
        out.push(Output::Unsafe { hazard, program_name, unit, uid: finding.program.uid });
        if settings.snapshot {
            return Some(self.repeats.report(finding, out));
        }
        let is_awaited = finding.program.uid.is_some_and(|uid| settings.tell_each_of.contains(&uid));
        let singly = settings.tell_each && of_one_child || is_awaited;
        self.repeats.enter(finding, settings.summary_interval, singly, until_its_end, out)
    }

    fn note(&mut self, forker: ProcessKey, hazard: HazardId) {
        match self.found.get_mut(forker) {
            Some(found) if found.contains(&hazard) => {}
            Some(found) => found.push(hazard),
            None => {
                self.found.insert(forker, vec![hazard]);
            }
        }
    }

    /// Whether one of these hazards was found about those that a process forked.
    pub(super) fn has_found(&self, forker: ProcessKey, hazards: &[HazardId]) -> bool {
        self.found.get(forker).is_some_and(|found| found.iter().any(|hazard| hazards.contains(hazard)))
    }

    /// Has the end of its child resolve a finding.
    pub(super) fn keep_open(&mut self, reported: Finding) {
        let child = reported.child;
        let mut findings = self.open.remove(child).unwrap_or_default();
        findings.push(reported);
        self.open.insert(child, findings);
    }

    /// The open findings about a child.
    pub(super) fn open(&self, child: ProcessKey) -> &[Finding] {
        self.open.get(child).map_or(&[], Vec::as_slice)
    }

    /// Says of the findings about a child, or of those of one hazard, how they ended. Tells whether none is open any
    /// more, where one was.
    pub(super) fn over(
        &mut self,
        child: ProcessKey,
        hazard: Option<HazardId>,
        (how, end): (Resolution, Option<&ChildEnd>),
        at: BootTime,
        out: &mut Vec<Output>,
    ) -> bool {
        self.repeats.over(child, hazard, (how, end), at, out);
        if self.open.is_empty() {
            return false;
        }
        let findings = self.open.remove(child).unwrap_or_default();
        let (over, open): (Vec<_>, Vec<_>) =
            findings.into_iter().partition(|finding| hazard.is_none_or(|hazard| finding.hazard == hazard));
        let is_last = open.is_empty() && !over.is_empty();
        if !open.is_empty() {
            self.open.insert(child, open);
        }
        for mut finding in over {
            finding.facts.end = end.map(|end| Box::new(end.of_program(&finding.program_name)));
            let (name, parent) = (called(&finding.program), finding.parent.tgid);
            let words = finding.facts.end.as_ref().map_or_else(|| how.words().to_owned(), |end| end.words());
            let summary = format!("{} of {name} (pid {parent}) {words}", child.tgid);
            out.push(resolved(finding, how, at, summary));
        }
        is_last
    }

    /// Whether no finding waits for the end of its child.
    #[cfg(test)]
    pub(super) fn are_over(&self) -> bool {
        self.open.is_empty() && self.repeats.are_over()
    }

    #[cfg(test)]
    pub(super) fn within_bounds(&self) -> bool {
        self.repeats.within_bounds() && self.open.within_bounds() && self.found.within_bounds()
    }
}
