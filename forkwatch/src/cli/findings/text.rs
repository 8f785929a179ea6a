//! Findings for a reader, in 80 columns.

use std::fmt::Write as _;

use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;

use crate::{
    api::{Brief, Findings, Kept, StoreHealth},
    model::finding::{Certainty, Severity},
    paragraph,
};

/// The latest last: that is what stands above the prompt.
pub(super) fn list(found: &Findings) -> String {
    let mut out = String::new();
    for brief in found.findings.iter().rev() {
        block(&mut out, brief);
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
    let trouble = store.trouble.as_ref().map_or_else(String::new, |why| format!(" NOT ALL ARE KEPT: {why}."));
    format!("The last {time} are kept, at most {}{place}.{trouble}", store.most)
}

/// One with its evidence.
pub(super) fn one(kept: &Kept) -> String {
    let mut out = String::new();
    block(&mut out, &kept.brief);
    let at = |pointer: &str| kept.report.pointer(pointer).and_then(Value::as_str);
    if let Some(remedy) = at("/forkwatch/finding/remedy/text") {
        paragraph::add(&mut out, "  fix: ", "       ", remedy);
    }
    if let Some(link) = at("/forkwatch/finding/remedy/link") {
        paragraph::add(&mut out, "  see: ", "       ", link);
    }
    paragraph::add(
        &mut out,
        "  ",
        "  ",
        &format!("forkwatch explain {} tells what it means.", kept.brief.hazard),
    );
    if let Some(end) =
        kept.end.as_ref().and_then(|end| end.pointer("/forkwatch/finding/summary")).and_then(Value::as_str)
    {
        paragraph::add(&mut out, "  end: ", "       ", end);
    }
    if let Some(evidence) = kept.report.pointer("/forkwatch/finding/evidence")
        && let Ok(evidence) = serde_json::to_string_pretty(evidence)
    {
        out.push_str("\n  evidence:\n");
        for line in evidence.lines() {
            let _ = writeln!(out, "    {line}");
        }
    }
    out
}

fn block(out: &mut String, brief: &Brief) {
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
    use crate::api::KeptState;

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
            name: "gunicorn".to_owned(),
            parent_pid: 812,
            repeats: 0,
        }
    }

    #[test]
    fn a_list_fits_eighty_columns_and_says_what_is_kept() {
        let text = list(&found(vec![brief(), Brief { repeats: 3, ..brief() }]));
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
    fn where_nothing_matches_that_is_said() {
        let text = list(&found(Vec::new()));
        assert!(text.starts_with("No finding matches, of 2 that are kept. "), "{text}");
    }
}
