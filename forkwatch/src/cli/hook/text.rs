//! Hooks for a reader.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::{
    hooks::{HookDocument, HooksDocument, LastRun, TrialDocument},
    model::{lasted::lasted, process::escape},
    output::columns::humanly,
    paragraph,
};

/// All of them, and how it goes.
pub(super) fn list(document: &HooksDocument, now: Timestamp) -> String {
    let mut out = String::new();
    let state = match (document.running, document.connected) {
        (false, _) => "No process runs them: systemctl start forkwatch-hooks".to_owned(),
        (true, true) => {
            format!("Running; the daemon is heard since {}", ago(document.since.as_deref(), now))
        }
        (true, false) => format!(
            "Running, but NOTHING STARTS A HOOK: {}",
            document.why.as_deref().unwrap_or("the daemon was not heard yet")
        ),
    };
    paragraph::add(&mut out, "", "  ", &state);
    if document.lost > 0 {
        let lost = format!("MISSED: {}, because too many waited", counted(document.lost, "event"));
        paragraph::add(&mut out, "", "  ", &lost);
    }
    if document.gaps > 0 {
        let times = if document.gaps == 1 { "once".to_owned() } else { format!("{} times", document.gaps) };
        let lost = format!("MISSED: whatever happened while the daemon was not heard, {times}");
        paragraph::add(&mut out, "", "  ", &lost);
    }
    if document.waiting > 0 {
        let wait = if document.waiting == 1 { "waits for its" } else { "wait for their" };
        let waiting = format!("{} {wait} hooks", counted(document.waiting, "event"));
        paragraph::add(&mut out, "", "  ", &waiting);
    }
    out.push('\n');
    out + &hooks(document, now)
}

/// `1 event`, `2 events`
pub(super) fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// What there is.
pub(super) fn hooks(document: &HooksDocument, now: Timestamp) -> String {
    if document.hooks.is_empty() {
        return format!("{} has no [[hook]].\n", document.file);
    }
    let mut out = format!("{}, in the order in which they run:\n", document.file);
    for one in &document.hooks {
        hook(&mut out, one, now);
    }
    out
}

fn hook(out: &mut String, hook: &HookDocument, now: Timestamp) {
    let switched = if hook.switched { ", until forkwatch hooks ends" } else { "" };
    let on = if hook.enabled { "on" } else { "OFF" };
    let _ = writeln!(out, "\n  {} ({on}{switched})", hook.name);
    let mut add =
        |first: &str, text: &str| paragraph::add(out, &format!("    {first:<6}"), "          ", text);
    add("for", &hook.on.join(", "));
    match hook.does.as_slice() {
        [url] if url.starts_with("http://") => add("posts", &escape(url.as_bytes())),
        words => add("runs", &words.iter().map(|word| word_of(word)).collect::<Vec<_>>().join(" ")),
    }
    let at_most = hook.at_most.replace('/', " times in ");
    add("bound", &format!("{} a run; for each user at most {at_most}", hook.timeout));
    let counts = [
        (hook.good, "well"),
        (hook.failed, "failed"),
        (hook.timed_out, "took too long"),
        (hook.gone, "not run: the process had ended"),
        (hook.left_out, "left out: more often than it may"),
    ];
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if !counts.is_empty() {
        add("ran", &counts.join(", "));
    }
    if let Some(last) = &hook.last {
        add("last", &format!("{} it {}", ago(Some(&last.at), now), run(last)));
    }
}

/// What came of a test.
pub(super) fn trial(tried: &TrialDocument) -> String {
    let mut out = String::new();
    paragraph::add(&mut out, "", "  ", &format!("{} {}", tried.name, run(&tried.ran)));
    for line in tried.ran.output.lines() {
        let _ = writeln!(out, "  | {}", escape(line.as_bytes()));
    }
    if !tried.enabled {
        paragraph::add(&mut out, "", "  ", "It is off: an event does not run it.");
    }
    out
}

fn run(last: &LastRun) -> String {
    // Programs that do nothing take less than what is counted.
    let took = lasted(last.took_ms.saturating_mul(1_000_000));
    format!("{} ({took})", escape(last.words.as_bytes()))
}

/// How long ago that was.
fn ago(at: Option<&str>, now: Timestamp) -> String {
    let since = at.and_then(|at| at.parse::<Timestamp>().ok()).map(|at| now.duration_since(at));
    let since = since.and_then(|since| u64::try_from(since.as_nanos()).ok());
    since.map_or_else(|| "just now".to_owned(), |since| format!("{} ago", humanly(since)))
}

/// An argument, as one would write it for a shell.
fn word_of(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:={}@%+,".contains(&byte);
    let safe = escape(word.as_bytes());
    if !word.is_empty() && word.bytes().all(is_plain) { safe } else { format!("'{safe}'") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::hook::Hooks;

    fn document() -> HooksDocument {
        let text = "[[hook]]\nname = \"page\"\non = [\"finding\", \"rescued\"]\n\
                    exec = [\"/usr/local/bin/page\", \"--pid\", \"{pid}\", \"a b\"]\n\
                    [[hook]]\nname = \"tell\"\non = [\"worker_exited\"]\nenabled = false\nurl = \"http://[::1]:9/x\"\n";
        HooksDocument::of("hooks.toml".to_owned(), &Hooks::parse("x", text).unwrap().0)
    }

    #[test]
    fn hooks_are_shown_in_their_order_with_how_they_have_run() {
        let mut document = document();
        document.running = true;
        document.connected = true;
        document.since = Some("2026-11-30T02:00:00.000Z".to_owned());
        let now: Timestamp = "2026-11-30T02:05:00Z".parse().unwrap();
        let page = document.hooks.last_mut().unwrap();
        page.good = 3;
        page.timed_out = 1;
        page.last = Some(LastRun {
            at: "2026-11-30T02:04:00.000Z".to_owned(),
            how: "failed".to_owned(),
            words: "exited with code 1".to_owned(),
            took_ms: 200,
            output: String::new(),
            written: 0,
        });
        let shown = list(&document, now);
        assert_eq!(
            shown,
            "Running; the daemon is heard since 5.0 min ago\n\n\
             hooks.toml, in the order in which they run:\n\n  \
             tell (OFF)\n    for   worker_exited\n    posts http://[::1]:9/x\n    \
             bound 10s a run; for each user at most 10 times in 60s\n\n  \
             page (on)\n    for   finding, rescued\n    runs  /usr/local/bin/page --pid {pid} 'a b'\n    \
             bound 10s a run; for each user at most 10 times in 60s\n    ran   3 well, 1 took too long\n    \
             last  1.0 min ago it exited with code 1 (200 ms)\n"
        );
        assert!(shown.lines().all(|line| line.len() <= 80));
    }

    #[test]
    fn that_nothing_starts_a_hook_cannot_be_overlooked() {
        let mut document = document();
        let now = Timestamp::now();
        assert!(list(&document, now).starts_with("No process runs them: systemctl start forkwatch-hooks\n"));
        document.running = true;
        document.why = Some("no forkwatch daemon answers at /x".to_owned());
        document.gaps = 2;
        let shown = list(&document, now);
        assert!(shown.contains("NOTHING STARTS A HOOK: no forkwatch daemon answers at /x"), "{shown}");
        let missed = "\nMISSED: whatever happened while the daemon was not heard, 2 times\n";
        assert!(shown.contains(missed) && shown.lines().all(|line| line.len() <= 80), "{shown}");
        assert!(!shown.contains(" 0 "), "{shown}");
        (document.gaps, document.lost, document.waiting) = (1, 1, 1);
        let shown = list(&document, now);
        assert!(shown.contains("not heard, once\n") && shown.contains("MISSED: 1 event, because"), "{shown}");
        assert!(shown.contains("\n1 event waits for its hooks\n"), "{shown}");
    }

    #[test]
    fn what_a_hook_has_written_drives_no_terminal() {
        let ran = crate::hooks::Ran {
            how: crate::hooks::How::Code(2),
            took: std::time::Duration::from_millis(5),
            output: "one\n\x1b[31mtwo".to_owned(),
            written: 12,
        };
        let shown = trial(&TrialDocument::new("x", false, &ran));
        assert!(shown.starts_with("x exited with code 2 (5 ms)\n  | one\n  | "), "{shown}");
        assert!(!shown.contains('\x1b') && shown.contains("It is off"), "{shown}");
    }
}
