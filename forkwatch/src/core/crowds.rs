//! The children that repeats were about: who they are, and whether all of them have ended.

use std::collections::{BTreeMap, HashMap};

use super::{Output, later::resolved};
use crate::model::{
    child_end::ChildEnd,
    finding::{Facts, Finding, HazardId, Repeat, State},
    process::ProcessKey,
    program_name::called,
    resolution::Resolution,
    time::BootTime,
};

/// Most children that one summary names.
const MOST_NAMED: usize = 256;
/// Most children whose end is waited for, and most of those that are to be named in the next summaries.
const MOST_FOLLOWED: usize = 4096;

/// How a finding ended, and what is known of its child's end.
pub(super) type End<'a> = (Resolution, Option<&'a ChildEnd>);

/// All that are waited for.
#[derive(Default)]
pub(super) struct Crowds {
    last: u64,
    /// Those of which more may come.
    gathering: HashMap<u64, Crowd>,
    /// Those that a summary has told, the earliest first.
    told: BTreeMap<u64, Told>,
    /// In which of them a child is.
    of: HashMap<ProcessKey, Vec<u64>>,
}

/// The children of one program's repeats since the last report.
#[derive(Default)]
struct Crowd {
    hazard: Option<HazardId>,
    members: Vec<Member>,
    /// Those that are not named.
    unnamed: u64,
}

struct Member {
    repeat: Repeat,
    /// Whether its end ends what was found.
    is_followed: bool,
    over: Option<(Resolution, Option<ChildEnd>)>,
}

/// A summary whose children have not all ended.
struct Told {
    finding: Box<Finding>,
    children: usize,
    living: Vec<ProcessKey>,
    /// Those of which nobody will tell the end.
    unfollowed: u64,
    how: Option<Resolution>,
}

impl Crowds {
    /// Enters the child of a repeat in a crowd, or in a new one, and gives that.
    pub(super) fn enter(&mut self, crowd: Option<u64>, finding: &Finding, is_followed: bool) -> u64 {
        let id = crowd.unwrap_or(self.last + 1);
        self.last = self.last.max(id);
        let crowd = self.gathering.entry(id).or_default();
        crowd.hazard = Some(finding.hazard);
        let child = finding.child;
        if let Some(member) = crowd.members.iter_mut().find(|member| member.repeat.child == child) {
            // The same child again, which may have been over.
            (member.repeat.at, member.over) = (finding.at, None);
        } else if crowd.members.len() >= MOST_NAMED || self.of.len() >= 2 * MOST_FOLLOWED {
            crowd.unnamed += 1;
            return id;
        } else {
            let repeat = Repeat { child, comm: finding.child_comm, at: finding.at };
            crowd.members.push(Member { repeat, is_followed, over: None });
        }
        let crowds = self.of.entry(child).or_default();
        if !crowds.contains(&id) {
            crowds.push(id);
        }
        id
    }

    /// What has become of a child since the last repeat about it.
    pub(super) fn what_became_of(&self, crowd: Option<u64>, child: ProcessKey) -> Option<String> {
        let members = &self.gathering.get(&crowd?)?.members;
        let member = members.iter().find(|member| member.repeat.child == child)?;
        let (how, end) = member.over.as_ref()?;
        Some(words((*how, end.as_ref())))
    }

    /// Has a summary name the children, and waits for their ends from now on.
    pub(super) fn tell(&mut self, crowd: Option<u64>, finding: &mut Finding) {
        let Some((id, crowd)) = crowd.and_then(|id| Some((id, self.gathering.remove(&id)?))) else { return };
        finding.facts.unnamed = crowd.unnamed;
        finding.facts.again = crowd.members.iter().map(|member| member.repeat.clone()).collect();
        let waits_for = |member: &&Member| member.is_followed && member.over.is_none();
        let living: Vec<ProcessKey> =
            crowd.members.iter().filter(waits_for).map(|member| member.repeat.child).collect();
        let unfollowed = crowd.members.iter().filter(|member| !member.is_followed && member.over.is_none());
        let unfollowed = u64::try_from(unfollowed.count()).unwrap_or(u64::MAX).saturating_add(crowd.unnamed);
        for member in crowd.members.iter().filter(|member| !living.contains(&member.repeat.child)) {
            self.leave(member.repeat.child, id);
        }
        // Nothing will be heard of any of them.
        if crowd.members.iter().all(|member| !member.is_followed) {
            return;
        }
        let mut told = Told {
            finding: Box::new(Finding { facts: Facts::default(), repeats: 0, ..finding.clone() }),
            children: crowd.members.len(),
            living,
            unfollowed,
            how: None,
        };
        crowd.members.iter().filter_map(|member| member.over.as_ref()).for_each(|(how, _)| told.ended(*how));
        self.told.insert(id, told);
    }

    /// Says of a summary that was just told that it is over, where all its children had ended before; and gives up those
    /// that are too many.
    pub(super) fn settle(&mut self, crowd: Option<u64>, number: u64, at: BootTime, out: &mut Vec<Output>) {
        let Some(id) = crowd else { return };
        if let Some(told) = self.told.get_mut(&id) {
            told.finding.number = number;
            if told.living.is_empty() {
                let end = (told.how.unwrap_or(Resolution::Ended), None);
                self.close(id, end, at, out);
            }
        }
        while self.of.len() > MOST_FOLLOWED {
            let Some((id, told)) = self.told.pop_first() else { break };
            for child in &told.living {
                self.leave(*child, id);
            }
            let words = "are followed no longer: there are too many at a time".to_owned();
            out.push(unknown(*told.finding, at, &words));
        }
    }

    /// A child has ended, or what was found about it has.
    pub(super) fn over(
        &mut self,
        child: ProcessKey,
        hazard: Option<HazardId>,
        end: End<'_>,
        at: BootTime,
        out: &mut Vec<Output>,
    ) {
        if self.of.is_empty() {
            return;
        }
        for id in self.of.get(&child).cloned().unwrap_or_default() {
            if let Some(crowd) = self.gathering.get_mut(&id) {
                let is_it = hazard.is_none() || hazard == crowd.hazard;
                let member = crowd.members.iter_mut().find(|member| member.repeat.child == child);
                if let Some(member) = member.filter(|_| is_it) {
                    member.over = Some((end.0, end.1.cloned()));
                }
            } else if let Some(told) = self.told.get_mut(&id)
                && hazard.is_none_or(|hazard| hazard == told.finding.hazard)
            {
                told.ended(end.0);
                told.living.retain(|living| *living != child);
                let is_last = told.living.is_empty();
                self.leave(child, id);
                if is_last {
                    self.close(id, end, at, out);
                }
            }
        }
    }

    /// All that were followed have ended.
    fn close(&mut self, id: u64, end: End<'_>, at: BootTime, out: &mut Vec<Output>) {
        let Some(told) = self.told.remove(&id) else { return };
        let Told { mut finding, children, unfollowed, how, .. } = told;
        let (name, parent) = (called(&finding.program), finding.parent.tgid);
        if unfollowed > 0 {
            let whether =
                format!("have ended, as far as they were followed: of {unfollowed} it is not known");
            out.push(unknown(*finding, at, &whether));
            return;
        }
        let words = words(end);
        let summary = if children == 1 {
            finding.facts.end = end.1.map(|end| Box::new(end.of_program(&finding.program_name)));
            format!("{} of {name} (pid {parent}) {words}", finding.child.tgid)
        } else {
            // They were named in the summary.
            finding.facts.unnamed = u64::try_from(children).unwrap_or(u64::MAX);
            format!("all {children} children of {name} (pid {parent}) are over; the last of them {words}")
        };
        out.push(resolved(*finding, how.unwrap_or(end.0), at, summary));
    }

    fn leave(&mut self, child: ProcessKey, crowd: u64) {
        if let Some(crowds) = self.of.get_mut(&child) {
            crowds.retain(|id| *id != crowd);
            if crowds.is_empty() {
                self.of.remove(&child);
            }
        }
    }

    /// Whether nobody's end is waited for.
    #[cfg(test)]
    pub(super) fn are_over(&self) -> bool {
        self.told.is_empty()
    }

    #[cfg(test)]
    pub(super) fn within_bounds(&self) -> bool {
        self.of.len() <= 2 * MOST_FOLLOWED
            && self.of.values().all(|crowds| !crowds.is_empty())
            && self.gathering.values().all(|crowd| crowd.members.len() <= MOST_NAMED)
            && self.told.values().all(|told| !told.living.is_empty())
    }
}

impl Told {
    /// One way for all, or none in particular.
    fn ended(&mut self, how: Resolution) {
        self.how = Some(if self.how.is_none_or(|before| before == how) { how } else { Resolution::Ended });
    }
}

fn words((how, end): End<'_>) -> String {
    end.map_or_else(|| how.words().to_owned(), ChildEnd::words)
}

/// A summary of whose children nothing is known any more.
fn unknown(mut finding: Finding, at: BootTime, words: &str) -> Output {
    let (name, parent) = (called(&finding.program), finding.parent.tgid);
    finding.summary = format!("the children of {name} (pid {parent}) {words}");
    (finding.at, finding.state) = (at, State::Unknown);
    Output::Finding(Box::new(finding))
}
