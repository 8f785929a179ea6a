//! Which findings are asked for.

use std::time::Duration;

use jiff::Timestamp;
use wildmatch::WildMatch;

use super::Brief;
use crate::model::{
    finding::{Certainty, Severity},
    process::escape,
    resolution::Resolution,
};

/// Most findings of one answer.
pub const MOST_LISTED: usize = 1000;
/// Where nobody says how many.
const USUAL: usize = 100;

/// Why a filter cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// There is no such key.
    #[error("`{0}` is no filter of this list; {known}", known = KNOWN)]
    Unknown(String),
    /// Which of two values is meant, nobody can know.
    #[error("`{0}` is there twice, and can have one value only")]
    Twice(String),
    /// The value is none that the key can have.
    #[error("`{value}` cannot be the value of `{key}`: {wants}")]
    Value {
        /// The key of the query, as it was written.
        key: String,
        /// What was written after `=`.
        value: String,
        /// What it can be.
        wants: &'static str,
    },
}

/// What is said of the keys.
const KNOWN: &str =
    "there are since, until, hazard, severity, certainty, state, unit, program, pid, q, before and limit";

/// What somebody has written, safe for a terminal.
fn shown(text: &str) -> String {
    escape(text.chars().take(80).collect::<String>())
}

/// Which findings are asked for: those that match everything that is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Something was said of it at this time or later: nanoseconds of Unix time.
    pub since: Option<u64>,
    /// It was reported before this time.
    pub until: Option<u64>,
    /// It is about this hazard.
    pub hazard: Option<String>,
    /// It matters at least this much.
    pub severity: Option<Severity>,
    /// It is at least this sure.
    pub certainty: Option<Certainty>,
    /// What has become of it, or how it ended; `open` is whatever the watch still follows.
    pub state: Option<String>,
    /// The unit or the container, with * and ?.
    pub unit: Option<String>,
    /// The program to blame, with * and ?.
    pub program: Option<String>,
    /// The child, another to which the same has happened, or the forker: any of these.
    pub pids: Vec<u32>,
    /// Words that stand in what a list shows of it.
    pub words: Option<String>,
    /// Only those with a lesser id.
    pub before: Option<u64>,
    /// How many at most.
    pub limit: Option<usize>,
}

impl Filter {
    /// Reads the query of a URL, without its question mark.
    pub fn parse(query: &str, now: Timestamp) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        let mut seen: Vec<String> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (decode(key), decode(value));
            filter.set(&key, &value, now)?;
            if seen.contains(&key) {
                return Err(FilterError::Twice(key));
            }
            seen.push(key);
        }
        Ok(filter)
    }

    /// Sets one of the keys of a query.
    pub fn set(&mut self, key: &str, value: &str, now: Timestamp) -> Result<(), FilterError> {
        let wrong = |wants| FilterError::Value { key: key.to_owned(), value: shown(value), wants };
        let text = || Some(value.to_owned()).filter(|value| !value.is_empty());
        match key {
            "since" => self.since = Some(parse_since(value, now).map_err(wrong)?),
            "until" => self.until = Some(parse_since(value, now).map_err(wrong)?),
            "hazard" => self.hazard = text(),
            "severity" => {
                self.severity = Some(match value {
                    "info" => Severity::Info,
                    "warning" => Severity::Warning,
                    "critical" => Severity::Critical,
                    _ => return Err(wrong("give the least one: info, warning or critical")),
                });
            }
            "certainty" => {
                self.certainty = Some(match value {
                    "heuristic" => Certainty::Heuristic,
                    "strong" => Certainty::Strong,
                    "certain" => Certainty::Certain,
                    _ => return Err(wrong("give the least one: heuristic, strong or certain")),
                });
            }
            "state" => {
                let is_end = Resolution::ALL.iter().any(|how| how.name() == value);
                if !STATES.contains(&value) && !is_end {
                    return Err(wrong(
                        "give open, suspected, confirmed, unknown, resolved or unwatched, or how it ended: execed, \
                         exited, asked-by-parent, asked-by-other, killed, killed-by-parent, killed-by-other, woke, \
                         ended or cleared",
                    ));
                }
                self.state = text();
            }
            "unit" => self.unit = text(),
            "program" => self.program = text(),
            "pid" => {
                let pids = value.split(',').map(str::parse).collect::<Result<_, _>>();
                self.pids =
                    pids.map_err(|_| wrong("give the number of a process, or several with , between"))?;
            }
            "q" => self.words = text().map(|text| text.to_lowercase()),
            "before" => {
                self.before = Some(
                    u64::from_str_radix(value, 16)
                        .map_err(|_| wrong("give the `next` of the answer before"))?,
                );
            }
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=MOST_LISTED).contains(limit));
                self.limit = Some(limit.ok_or_else(|| wrong("give a number from 1 to 1000"))?);
            }
            _ => return Err(FilterError::Unknown(shown(key))),
        }
        Ok(())
    }

    /// How many are listed at most.
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(USUAL)
    }

    /// Whether a finding of which something was last said then is asked for, but for its id and its first time.
    pub fn matches(&self, brief: &Brief, last: u64) -> bool {
        let glob = |pattern: &Option<String>, values: &[Option<&str>]| {
            pattern.as_deref().is_none_or(|pattern| {
                let pattern = WildMatch::new(pattern);
                values.iter().flatten().any(|value| pattern.matches(value))
            })
        };
        self.since.is_none_or(|since| last >= since)
            && self.hazard.as_deref().is_none_or(|hazard| hazard == brief.hazard)
            && self.severity.is_none_or(|least| brief.severity >= least)
            && self.certainty.is_none_or(|least| brief.certainty >= least)
            && self.state.as_deref().is_none_or(|state| is_in(brief, state))
            && glob(&self.unit, &[brief.unit.as_deref(), brief.container.as_deref()])
            && glob(&self.program, &[Some(&brief.program)])
            && (self.pids.is_empty() || self.pids.iter().any(|pid| brief.is_about(*pid)))
            && self.words.as_deref().is_none_or(|words| has_words(brief, words))
    }
}

const STATES: [&str; 6] = ["open", "suspected", "confirmed", "unknown", "resolved", "unwatched"];

fn is_in(brief: &Brief, asked: &str) -> bool {
    match asked {
        "open" => brief.state.is_open(),
        asked => brief.state.name() == asked || brief.resolution.as_deref() == Some(asked),
    }
}

fn has_words(brief: &Brief, words: &str) -> bool {
    let fields = [&brief.summary, &brief.program, &brief.hazard, &brief.name];
    let more = [&brief.unit, &brief.container].into_iter().flatten();
    let text: String = fields.into_iter().chain(more).fold(String::new(), |text, field| text + field + "\n");
    let text = text.to_lowercase();
    words.split_whitespace().all(|word| text.contains(word))
}

/// Reads a time: RFC 3339, or how long ago, such as `12h`. Nanoseconds of Unix time; the error says what it can be.
pub fn parse_since(text: &str, now: Timestamp) -> Result<u64, &'static str> {
    const WANTS: &str = "give how long ago, such as 90m, 12h or 7d, or a time such as 2026-11-29T22:00:00Z";
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
    let ago = match days {
        Some(days) => Some(Duration::from_secs(u64::from(days) * 86_400)),
        None => text.parse::<jiff::SignedDuration>().ok().and_then(|ago| Duration::try_from(ago).ok()),
    };
    let at = match ago {
        Some(ago) => {
            now.as_nanosecond() - i128::try_from(ago.as_nanos()).unwrap_or(i128::MAX).min(now.as_nanosecond())
        }
        None => text.parse::<Timestamp>().map_err(|_| WANTS)?.as_nanosecond(),
    };
    Ok(u64::try_from(at.max(0)).unwrap_or(u64::MAX))
}

/// Undoes the encoding of a URL. What is none stays as it is.
fn decode(text: &str) -> String {
    let mut rest = text.as_bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'+', _) => out.push(b' '),
            (b'%', [high, low, after @ ..]) => {
                let digit = |digit: u8| char::from(digit).to_digit(16);
                match digit(*high).zip(digit(*low)).and_then(|(high, low)| u8::try_from(high * 16 + low).ok())
                {
                    Some(byte) => {
                        out.push(byte);
                        rest = after;
                    }
                    None => out.push(b'%'),
                }
            }
            (byte, _) => out.push(*byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{KeptState, findings::test_brief};

    fn now() -> Timestamp {
        "2026-11-29T22:00:00Z".parse().unwrap()
    }

    fn nanoseconds(text: &str) -> u64 {
        u64::try_from(text.parse::<Timestamp>().unwrap().as_nanosecond()).unwrap()
    }

    #[test]
    fn a_time_is_how_long_ago_or_a_moment() {
        for (text, at) in [
            ("12h", "2026-11-29T10:00:00Z"),
            ("90m", "2026-11-29T20:30:00Z"),
            ("7d", "2026-11-22T22:00:00Z"),
            ("2026-11-28T01:02:03Z", "2026-11-28T01:02:03Z"),
            ("2026-11-28T03:02:03+02:00", "2026-11-28T01:02:03Z"),
        ] {
            assert_eq!(parse_since(text, now()), Ok(nanoseconds(at)), "{text}");
        }
        assert_eq!(parse_since("999999d", now()), Ok(0), "before all");
        for wrong in ["", "yesterday", "-1h", "12", "d"] {
            assert!(parse_since(wrong, now()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn everything_that_is_set_must_match() {
        let brief = Brief { unit: Some("app.service".to_owned()), also_pids: vec![9], ..test_brief() };
        let matches = |query: &str| {
            Filter::parse(query, now()).unwrap().matches(&brief, nanoseconds("2026-11-29T21:00:00Z"))
        };
        for query in [
            "",
            "hazard=orphaned-lock",
            "since=2h",
            "unit=app*",
            "unit=app.service&program=gunicorn",
            "severity=warning",
            "certainty=strong",
            "state=open",
            "state=confirmed",
            "pid=7",
            "pid=6",
            "pid=1,7",
            "pid=9",
            "q=GUNICORN+lock",
            "q=gunicorn%20lock",
        ] {
            assert!(matches(query), "{query}");
        }
        for query in [
            "hazard=blocked-signals",
            "since=30m",
            "unit=db*",
            "unit=app.service&program=uwsgi",
            "certainty=certain&state=suspected",
            "state=resolved",
            "pid=8",
            "q=gunicorn+mutexes",
        ] {
            assert!(!matches(query), "{query}");
        }
    }

    #[test]
    fn every_state_that_is_printed_can_be_asked_for() {
        for how in Resolution::ALL {
            let resolution = Some(how.name().to_owned());
            let brief = Brief { state: KeptState::Resolved, resolution, ..test_brief() };
            for (query, is_it) in
                [(how.name(), true), ("resolved", true), ("open", false), ("confirmed", false)]
            {
                let filter = Filter::parse(&format!("state={query}"), now()).unwrap();
                assert_eq!(filter.matches(&brief, 0), is_it, "{query}");
            }
        }
    }

    #[test]
    fn what_is_no_filter_is_said() {
        for (query, word) in [
            ("colour=red", "there are since"),
            ("severity=high", "critical"),
            ("limit=0", "from 1 to 1000"),
            ("limit=1001", "from 1 to 1000"),
            ("since=soon", "12h"),
            ("pid=-1", "number of a process"),
            ("before=xyz", "`next`"),
            ("state=gone", "unwatched"),
            ("state=gone", "killed-by-parent"),
            ("since=1h&since=2h", "there twice"),
            ("pid=7&unit=a&pid=8", "there twice"),
            ("pid=7,x", "number of a process"),
        ] {
            let error = Filter::parse(query, now()).unwrap_err().to_string();
            assert!(error.contains(word), "{query}: {error}");
        }
    }

    #[test]
    fn broken_encoding_stays_as_it_is() {
        assert_eq!(decode("%41%4"), "A%4");
        assert_eq!(decode("%zz+%"), "%zz %");
        assert_eq!(decode("%ff"), "\u{fffd}");
    }
}
