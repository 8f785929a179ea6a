//! What the operator accepts: rules that silence findings, each with its reason.

use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use crate::model::{
    finding::HazardId,
    process::{Comm, Program},
    provenance::Owner,
    thread::SeenThread,
};

/// Silences the findings that all of its criteria fit. Patterns know `*` and `?`.
///
/// Comm, executable and unit of a user's process are what that user calls them, so that nobody is silenced by a name that
/// he has borrowed: see `SuppressRule::fits`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written<String>", into = "Written<String>")]
pub struct SuppressRule {
    exe: Option<WildMatch>,
    comm: Option<WildMatch>,
    unit: Option<WildMatch>,
    uid: Option<u32>,
    thread: Option<WildMatch>,
    hazard: Option<String>,
    reason: String,
}

/// A suppress rule that says too little or contradicts itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllowError {
    /// It would silence everything.
    #[error(
        "a suppress rule without a criterion would silence every finding: give it `exe`, `comm`, `unit`, `uid`, `thread` or `hazard`"
    )]
    NoCriterion,
    /// An empty pattern fits nothing.
    #[error(
        "`{0}` of a suppress rule is empty and would fit nothing: remove it, or write a pattern such as \"*\""
    )]
    EmptyPattern(&'static str),
    /// The reason is blank.
    #[error("a suppress rule needs a `reason`: say why this is safe, for whoever reads it next")]
    NoReason,
}

/// A rule as it is written, whatever checks the id of its hazard.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written<Hazard> {
    #[serde(skip_serializing_if = "Option::is_none")]
    exe: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comm: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hazard: Option<Hazard>,
    #[serde(default)]
    reason: String,
}

impl From<SuppressRule> for Written<String> {
    fn from(rule: SuppressRule) -> Self {
        let SuppressRule { exe, comm, unit, uid, thread, hazard, reason } = rule;
        let [exe, comm, unit, thread] =
            [exe, comm, unit, thread].map(|pattern| pattern.map(|pattern| pattern.to_string()));
        Self { exe, comm, unit, uid, thread, hazard, reason }
    }
}

impl<Hazard: Into<String>> TryFrom<Written<Hazard>> for SuppressRule {
    type Error = AllowError;

    fn try_from(written: Written<Hazard>) -> Result<Self, AllowError> {
        let Written { exe, comm, unit, uid, thread, hazard, reason } = written;
        let patterns = [("exe", &exe), ("comm", &comm), ("unit", &unit), ("thread", &thread)];
        if let Some((name, _)) = patterns.iter().find(|(_, pattern)| pattern.as_deref() == Some("")) {
            return Err(AllowError::EmptyPattern(name));
        }
        if hazard.is_none() && uid.is_none() && patterns.iter().all(|(_, pattern)| pattern.is_none()) {
            return Err(AllowError::NoCriterion);
        }
        if reason.trim().is_empty() {
            return Err(AllowError::NoReason);
        }
        let pattern = |text: Option<String>| text.map(|text| WildMatch::new(&text));
        Ok(Self {
            exe: pattern(exe),
            comm: pattern(comm),
            unit: pattern(unit),
            uid,
            thread: pattern(thread),
            hazard: hazard.map(Into::into),
            reason,
        })
    }
}

impl SuppressRule {
    /// Why the operator accepts what it silences.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The id of the hazard that it is about alone, which nobody has checked.
    pub fn hazard(&self) -> Option<&str> {
        self.hazard.as_deref()
    }

    /// Whether it is about findings that name a thread.
    pub const fn names_a_thread(&self) -> bool {
        self.thread.is_some()
    }

    /// Whether everything but the thread fits.
    ///
    /// A rule that says whose processes it is about, by uid or unit, takes those at their word. Any other is about the
    /// host's programs and its containers', and about what a user runs only by an executable that root has put there.
    fn fits(&self, hazard: HazardId, program: &Program) -> bool {
        let at_its_word = self.uid.is_some() || self.unit.is_some() || program.owner() != Owner::User;
        let by_exe = |pattern| (at_its_word || program.runs_file_of_root()) && fits_exe(pattern, program);
        let by_comm = |pattern| at_its_word && fits_comm(pattern, program.comm);
        self.hazard.as_deref().is_none_or(|wanted| wanted == hazard.name())
            && self.uid.is_none_or(|wanted| program.uid == Some(wanted))
            && self.exe.as_ref().is_none_or(by_exe)
            && self.comm.as_ref().is_none_or(by_comm)
            && self.unit.as_ref().is_none_or(|pattern| fits_unit(pattern, program))
    }

    fn fits_thread(&self, thread: &SeenThread) -> bool {
        self.thread.as_ref().is_some_and(|pattern| fits_comm(pattern, thread.comm))
    }
}

/// A pattern without a slash is about the file name.
fn fits_exe(pattern: &WildMatch, program: &Program) -> bool {
    let Some(exe) = program.exe.as_deref() else { return false };
    let path = exe.to_string_lossy();
    let path = path.strip_suffix(" (deleted)").unwrap_or(&path);
    pattern.matches(path) || path.rsplit('/').next().is_some_and(|name| pattern.matches(name))
}

/// A pattern without a slash is about units of the system; those of a user's manager and of a container have one.
fn fits_unit(pattern: &WildMatch, program: &Program) -> bool {
    let is_of_system = |name: &str| !name.contains('/');
    program
        .unit
        .as_deref()
        .is_some_and(|unit| pattern.matches(unit) && is_of_system(unit) == is_of_system(&pattern.to_string()))
}

fn fits_comm(pattern: &WildMatch, comm: Comm) -> bool {
    pattern.matches(&comm.to_text())
}

/// The rule that silences a finding, with its place in the list.
///
/// Rules with `thread` silence it only if every one of the `thread_count` surviving threads is known and fits such
/// a rule: one thread that nobody vouched for is enough to hang the child.
pub fn suppressed<'a>(
    rules: &'a [SuppressRule],
    hazard: HazardId,
    program: &Program,
    threads: &[SeenThread],
    thread_count: u32,
) -> Option<(usize, &'a SuppressRule)> {
    let fitting = || rules.iter().enumerate().filter(|(_, rule)| rule.fits(hazard, program));
    let without_thread = fitting().find(|(_, rule)| rule.thread.is_none());
    without_thread.or_else(|| {
        let all_known = usize::try_from(thread_count).is_ok_and(|count| count == threads.len());
        let vouched = |thread: &SeenThread| fitting().find(|(_, rule)| rule.fits_thread(thread));
        let first = threads.first().filter(|_| all_known).and_then(vouched)?;
        threads.iter().all(|thread| vouched(thread).is_some()).then_some(first)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::provenance::{Executable, Namespace, Provenance};

    fn rules(text: &str) -> Result<Vec<SuppressRule>, String> {
        #[derive(Debug, Deserialize)]
        struct File {
            suppress: Vec<SuppressRule>,
        }
        toml::from_str::<File>(text).map(|file| file.suppress).map_err(|error| error.message().to_owned())
    }

    fn rule(body: &str) -> Vec<SuppressRule> {
        rules(&format!("[[suppress]]\nreason = \"tested\"\n{body}")).unwrap()
    }

    fn program() -> Program {
        Program {
            comm: "gunicorn".into(),
            exe: Some("/usr/bin/python3.11".into()),
            unit: Some("web.service".into()),
            ..Program::default()
        }
    }

    fn threads(comms: &[&str]) -> Vec<SeenThread> {
        comms.iter().map(|comm| SeenThread { tid: 7, comm: (*comm).into() }).collect()
    }

    fn silences(rules: &[SuppressRule], comms: &[&str]) -> bool {
        let threads = threads(comms);
        let count = u32::try_from(threads.len()).unwrap();
        suppressed(rules, HazardId::new("multithreaded-fork"), &program(), &threads, count).is_some()
    }

    #[test]
    fn each_criterion_has_to_fit() {
        for (body, fits) in [
            ("exe = \"/usr/bin/python3*\"", true),
            ("exe = \"python3.??\"", true),
            ("exe = \"ruby*\"", false),
            ("comm = \"gunicorn\"", true),
            ("comm = \"gunicorn\"\nunit = \"web.*\"", true),
            ("comm = \"gunicorn\"\nunit = \"db.*\"", false),
            ("hazard = \"multithreaded-fork\"", true),
            ("hazard = \"pending-signals\"", false),
        ] {
            assert_eq!(silences(&rule(body), &["flush"]), fits, "{body}");
        }
    }

    /// Whether a rule silences a finding about that program.
    fn fits(body: &str, program: &Program) -> bool {
        suppressed(&rule(body), HazardId::new("orphaned-lock"), program, &[], 0).is_some()
    }

    /// A program that uid 1000 runs in that cgroup.
    fn users(cgroup: &str, unit: &str, exe: &str, executable: Executable) -> Program {
        Program {
            comm: "nginx".into(),
            exe: Some(exe.into()),
            cmdline: vec!["/usr/sbin/nginx".to_owned()],
            unit: Some(unit.to_owned()),
            cgroup: Some(cgroup.to_owned()),
            uid: Some(1000),
            provenance: Some(Provenance { namespaces: Some(Vec::new()), executable, login: Some(1000) }),
            ..Program::default()
        }
    }

    #[test]
    fn no_user_is_silenced_by_a_name_that_he_has_borrowed() {
        let manager = "/user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service";
        let session = "/user.slice/user-1000.slice/session-3.scope";
        let service = "user@1000.service/nginx.service";
        for liar in [
            users(manager, service, "/usr/sbin/nginx", Executable::Other),
            users(session, "session-3.scope", "/home/u/nginx", Executable::Host),
            users("/system.slice/cron.service", "cron.service", "/usr/sbin/nginx", Executable::Other),
        ] {
            for body in [
                "unit = \"nginx.service\"",
                "unit = \"*nginx.service\"",
                "unit = \"*x*\"",
                "exe = \"/usr/sbin/nginx\"",
                "exe = \"nginx\"",
                "comm = \"nginx\"",
                "comm = \"*\"",
                "comm = \"nginx\"\nunit = \"nginx.service\"",
                "uid = 33\ncomm = \"nginx\"",
            ] {
                assert!(!fits(body, &liar), "{body}: {liar:?}");
            }
            for body in ["uid = 1000", "uid = 1000\ncomm = \"nginx\"", "hazard = \"orphaned-lock\""] {
                assert!(fits(body, &liar), "{body}: {liar:?}");
            }
        }
        let named = users(manager, service, "/usr/sbin/nginx", Executable::Other);
        for body in ["unit = \"user@1000.service/nginx.service\"", "unit = \"user@*.service/*\""] {
            assert!(fits(body, &named), "{body}");
        }
        // The real executable is what it is, and a login's scope is the system's.
        let real = users(session, "session-3.scope", "/usr/sbin/nginx", Executable::Host);
        for body in ["exe = \"nginx\"", "exe = \"/usr/sbin/*\"", "unit = \"session-*.scope\""] {
            assert!(fits(body, &real), "{body}");
        }
    }

    #[test]
    fn services_and_containers_are_taken_at_their_word() {
        let service = Program {
            uid: Some(33),
            provenance: Some(Provenance {
                namespaces: Some(vec![Namespace::Mount]),
                executable: Executable::Host,
                login: None,
            }),
            ..users("/system.slice/nginx.service", "nginx.service", "/usr/sbin/nginx", Executable::Host)
        };
        let id = "3f1c9a7d".repeat(8);
        let inside = users(
            &format!("/system.slice/docker-{id}.scope"),
            "3f1c9a7d3f1c/nginx.service",
            "/usr/sbin/nginx",
            Executable::Other,
        );
        let container = Program { container: Some(id), ..inside };
        for body in ["exe = \"/usr/sbin/nginx\"", "comm = \"nginx\"", "uid = 33"] {
            assert!(fits(body, &service), "{body}");
        }
        assert!(fits("comm = \"nginx\"", &container) && fits("unit = \"*/nginx.service\"", &container));
        assert!(fits("unit = \"nginx.service\"", &service));
        assert!(!fits("unit = \"nginx.service\"", &container) && !fits("unit = \"*/*\"", &service));
    }

    #[test]
    fn every_surviving_thread_has_to_be_vouched_for() {
        let mut both = rule("thread = \"flush*\"");
        assert!(silences(&both, &["flush-1", "flush-2"]));
        assert!(!silences(&both, &["flush-1", "grpc"]));
        both.extend(rule("comm = \"gunicorn\"\nthread = \"grpc\""));
        assert!(silences(&both, &["flush-1", "grpc"]));
        both.extend(rule("comm = \"celery\"\nthread = \"*\""));
        assert!(!silences(&both, &["flush-1", "rdk:main"]));
        // 70 threads, of which 2 are named: the others are unknown.
        let named = threads(&["flush-1", "flush-2"]);
        assert!(suppressed(&both, HazardId::new("multithreaded-fork"), &program(), &named, 70).is_none());
        assert!(suppressed(&both, HazardId::new("pending-signals"), &program(), &[], 0).is_none());
    }

    #[test]
    fn what_is_unknown_fits_no_pattern() {
        let unknown = Program { comm: "gunicorn".into(), ..Program::default() };
        for body in ["exe = \"*\"", "unit = \"*\""] {
            assert!(
                suppressed(&rule(body), HazardId::new("pending-signals"), &unknown, &[], 0).is_none(),
                "{body}"
            );
        }
    }

    #[test]
    fn a_bad_rule_is_refused_with_what_to_do() {
        for (text, part) in [
            ("[[suppress]]\nreason = \"all\"", "without a criterion"),
            ("[[suppress]]\ncomm = \"x\"", "needs a `reason`"),
            ("[[suppress]]\ncomm = \"x\"\nreason = \" \"", "needs a `reason`"),
            ("[[suppress]]\ncomm = \"\"\nreason = \"r\"", "`comm` of a suppress rule is empty"),
            ("[[suppress]]\npid = 7\nreason = \"r\"", "unknown field `pid`"),
        ] {
            let error = rules(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
