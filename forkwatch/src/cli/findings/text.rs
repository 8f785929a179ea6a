//! Findings for a reader, in 80 columns.

use std::fmt::Write as _;

use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;

use crate::{
    api::{Brief, Findings, Kept, StoreHealth},
    detect,
    model::{
        finding::{Certainty, Severity},
        process::escape,
        time::BootTime,
    },
    output::{
        columns::{Columns, Times},
        json,
    },
    paragraph,
};

/// Further children that are named.
const ALSO: usize = 8;
/// Where what belongs to a label begins.
const LABELLED: &str = "           ";

/// The latest last: that is what stands above the prompt. The process that was asked for is named wherever it is meant.
pub(super) fn list(found: &Findings, asked: Option<u32>) -> String {
    let mut out = String::new();
    for brief in found.findings.iter().rev() {
        block(&mut out, brief, asked);
        out.push('\n');
    }
    let count = found.findings.len();
    let more = if found.next.is_some() { ", and there are more: see --count and --since" } else { "" };
    let what = match count {
        0 => "No finding matches".to_owned(),
        1 => "1 finding".to_owned(),
        count => format!("{count} findings"),
    };
    let of = if count == 0 { format!(", of {} that are kept", found.store.findings) } else { String::new() };
    paragraph::add(&mut out, "", "", &format!("{what}{of}{more}. {}", kept(&found.store)));
    if let Some(newest) = found.findings.first() {
        paragraph::add(&mut out, "", "", &format!("Evidence of one: forkwatch findings {}", newest.id));
    }
    out
}

/// How long findings are kept.
fn kept(store: &StoreHealth) -> String {
    let days = store.seconds / 86_400;
    let time = if days > 1 { format!("{days} days") } else { format!("{} hours", store.seconds / 3600) };
    let place = if store.path.is_some() { "" } else { ", in memory until the daemon ends" };
    let unreadable = match store.unreadable {
        0 => String::new(),
        1 => " 1 record cannot be read.".to_owned(),
        count => format!(" {count} records cannot be read."),
    };
    let trouble = store.trouble.as_ref().map_or_else(String::new, |why| format!(" NOT ALL ARE KEPT: {why}."));
    format!("The last {time} are kept, at most {}{place}.{unreadable}{trouble}", store.most)
}

/// One with its evidence.
pub(in crate::cli) fn one(kept: &Kept) -> String {
    let mut out = String::new();
    block(&mut out, &kept.brief, None);
    if let Some(end) =
        kept.end.as_ref().and_then(|end| end.pointer("/forkwatch/finding/summary")).and_then(Value::as_str)
    {
        paragraph::add(&mut out, "  end: ", "       ", end);
    }
    out.push('\n');
    evidence(&mut out, kept);
    out.push('\n');
    paragraph::add(
        &mut out,
        "",
        "",
        &format!(
            "`forkwatch explain {}` tells what it means, and `forkwatch findings --json {}` all that is kept of it.",
            kept.brief.hazard, kept.brief.id
        ),
    );
    out
}

/// What it rests on, as it was shown when it was found. What a later edition has written is shown as it stands there.
pub(in crate::cli) fn evidence(out: &mut String, kept: &Kept) {
    let hazard = detect::find(&kept.brief.hazard).map(|hazard| hazard.id);
    let read = hazard.and_then(|hazard| json::read_finding(&kept.report, hazard));
    let Some((finding, unknown)) = read else {
        let why = if kept.report.is_null() {
            "Its evidence was too long to be kept.".to_owned()
        } else {
            format!(
                "Its evidence is of a hazard that this forkwatch does not know: see `--json {}`.",
                kept.brief.id
            )
        };
        paragraph::add(out, "", "", &why);
        return;
    };
    let columns = Columns::new(Times::Since(BootTime::default()), None, 1 << 22, false);
    *out += &columns.evidence(&finding);
    for (name, value) in unknown {
        let text = escape(value.to_string());
        paragraph::add(out, &format!("{name:>9}: "), LABELLED, &text);
    }
}

fn block(out: &mut String, brief: &Brief, asked: Option<u32>) {
    let severity = match brief.severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    };
    let certainty = match brief.certainty {
        Certainty::Heuristic => "heuristic",
        Certainty::Strong => "strong",
        Certainty::Certain => "certain",
    };
    let state = brief.resolution.as_deref().unwrap_or_else(|| brief.state.name());
    let at = local(&brief.first_seen);
    let who = brief.unit.as_deref().or(brief.container.as_deref()).unwrap_or(&brief.program);
    let _ = writeln!(out, "{at}  {} in {who}", brief.hazard);
    paragraph::add(out, "  ", "  ", &brief.summary);
    let more = brief.also_pids.len().saturating_sub(ALSO) as u64 + brief.unnamed;
    if !brief.also_pids.is_empty() {
        let asked = asked.filter(|pid| brief.also_pids.contains(pid));
        let others = brief.also_pids.iter().copied().filter(|pid| Some(*pid) != asked);
        let named: Vec<String> =
            asked.into_iter().chain(others).take(ALSO).map(|pid| pid.to_string()).collect();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        paragraph::add(out, "  also about ", "  ", &format!("{}{more}", named.join(", ")));
    }
    let again = match brief.repeats {
        0 => String::new(),
        1 => ", once more".to_owned(),
        count => format!(", {count} times more"),
    };
    let _ = writeln!(out, "  {severity}, {certainty}, {state}{again}; id {}", brief.id);
}

/// In the local zone, to the second.
fn local(time: &str) -> String {
    let Ok(time) = time.parse::<Timestamp>() else { return time.to_owned() };
    time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::KeptState, output::samples};

    fn found(findings: Vec<Brief>) -> Findings {
        let store = StoreHealth { findings: 2, most: 10_000, seconds: 604_800, ..StoreHealth::default() };
        Findings { schema: "forkwatch.findings/1".to_owned(), findings, next: None, store }
    }

    fn brief() -> Brief {
        Brief {
            id: "18a3f0c2b4d5e6f7".to_owned(),
            first_seen: "2026-11-29T22:14:03.120Z".to_owned(),
            last_seen: "2026-11-29T22:14:03.120Z".to_owned(),
            hazard: "orphaned-lock".to_owned(),
            state: KeptState::Confirmed,
            resolution: None,
            certainty: Certainty::Certain,
            severity: Severity::Critical,
            summary: "gunicorn (pid 18534) waits for a lock that a thread of its parent holds, and that nobody can release".to_owned(),
            program: "gunicorn".to_owned(),
            unit: Some("app.service".to_owned()),
            container: None,
            uid: Some(33),
            pid: 18_534,
            entity_id: None,
            name: "gunicorn".to_owned(),
            parent_pid: Some(812),
            parent_entity_id: None,
            repeats: 0,
            also_pids: Vec::new(),
            unnamed: 0,
            carried_locks: 0,
        }
    }

    #[test]
    fn a_list_fits_eighty_columns_and_says_what_is_kept() {
        let text = list(&found(vec![brief(), Brief { repeats: 3, ..brief() }]), None);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("  orphaned-lock in app.service\n"), "{text}");
        assert!(
            text.contains("  critical, certain, confirmed, 3 times more; id 18a3f0c2b4d5e6f7\n"),
            "{text}"
        );
        assert!(
            text.contains("2 findings. The last 7 days are kept, at most 10000, in memory until"),
            "{text}"
        );
    }

    #[test]
    fn further_children_are_named_and_the_one_that_was_asked_for_is_among_them() {
        let brief = Brief { repeats: 40, also_pids: (100..130).collect(), unnamed: 10, ..brief() };
        let text = list(&found(vec![brief]), Some(125));
        assert!(
            text.contains("\n  also about 125, 100, 101, 102, 103, 104, 105, 106 and 32 more\n"),
            "{text}"
        );
    }

    #[test]
    fn one_is_shown_with_its_evidence_as_it_was_shown_when_it_was_found() {
        let finding = samples::finding();
        let report = serde_json::to_value(json::finding(&samples::context(), 0, &finding)).unwrap();
        let brief = Brief { hazard: finding.hazard.name().to_owned(), ..brief() };
        let mut kept = Kept { brief, report, end: None };
        let text = one(&kept);
        for words in [
            "  program: gunicorn --preload app:app (pid 4100",
            "  threads: grpc_global_tim (4101)",
            "      fix: Start",
        ] {
            assert!(text.contains(words), "no {words:?} in\n{text}");
        }
        let is_narrow = |line: &str| line.chars().count() <= 80 || line.contains("https://");
        assert!(!text.contains('{') && text.lines().all(is_narrow), "{text}");
        kept.report["forkwatch"]["finding"]["evidence"]["weather"] = Value::from("\u{1b}[31m fine");
        assert!(one(&kept).contains("  weather: \"\\\\u001b[31m fine\"\n"), "{}", one(&kept));
        kept.report = Value::Null;
        assert!(one(&kept).contains("too long to be kept"));
    }

    #[test]
    fn where_nothing_matches_that_is_said() {
        let text = list(&found(Vec::new()), None);
        assert!(text.starts_with("No finding matches, of 2 that are kept. "), "{text}");
    }
}
