//! What is counted of servers' workers.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Instant, SystemTime},
};

use prometheus::proto::MetricFamily;

use super::{
    bounded::{OTHER, UNKNOWN, label},
    family::{Buckets, Family, float, seconds},
    shares::{Admission, Shares},
};
use crate::model::{
    child_end::ChildEnd,
    process::ProcessKey,
    worker::{Exited, WorkerChange, WorkerEvent, WorkerState, WorkersServer},
};

const WORKERS: Family<3> = Family::new(
    "forkwatch_workers",
    "Living workers of servers that fork them, by where they stand; at most metrics.max_series pairs of server and unit.",
    ["server", "unit", "state"],
);
const OLDEST: Family<2> = Family::new(
    "forkwatch_workers_oldest_seconds",
    "How long ago the oldest living worker was forked; absent where there is none.",
    ["server", "unit"],
);
const YOUNGEST: Family<2> = Family::new(
    "forkwatch_workers_youngest_seconds",
    "How long ago the youngest living worker was forked; absent where there is none.",
    ["server", "unit"],
);
const EXITS: Family<3> = Family::new(
    "forkwatch_worker_exits_total",
    "Workers that ended, by how: the exit code 0 or another one, the signal that killed them, or unknown.",
    ["server", "unit", "how"],
);
const READY: Family<2> = Family::new(
    "forkwatch_worker_ready_seconds",
    "From a worker's fork until it was first seen to wait for work.",
    ["server", "unit"],
);

/// Upper bounds, in milliseconds.
const BOUNDS: [u32; 12] = [25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000];
/// Most living workers of which is known where they stand.
const MOST_WORKERS: usize = 8192;
/// The names of signals that end programs in practice: a label must not take many values.
const SIGNALS: [&str; 9] =
    ["SIGKILL", "SIGTERM", "SIGABRT", "SIGSEGV", "SIGBUS", "SIGINT", "SIGQUIT", "SIGHUP", "SIGPIPE"];

/// A server and its unit.
type Series = (String, String);

/// How long workers took until they waited for work.
#[derive(Default)]
struct Times {
    counts: [u64; BOUNDS.len() + 1],
    sum: u64,
}

/// A living worker.
struct Living {
    series: Series,
    state: WorkerState,
    forked: SystemTime,
}

/// What was counted of workers since the start.
pub(super) struct Workers {
    series: Shares<Series>,
    living: HashMap<ProcessKey, Living>,
    exits: BTreeMap<(Series, &'static str), u64>,
    ready: BTreeMap<Series, Times>,
}

impl Workers {
    pub(super) fn new(max_series: usize) -> Self {
        Self {
            series: Shares::new(max_series),
            living: HashMap::new(),
            exits: BTreeMap::new(),
            ready: BTreeMap::new(),
        }
    }

    /// Takes in what has happened to a worker that was forked then.
    pub(super) fn take(&mut self, event: &WorkerEvent, forked: SystemTime) {
        let series = self.admit(&event.server);
        let stands = match &event.change {
            WorkerChange::Forked { state, .. } => Some(*state),
            WorkerChange::Ready(ready) => {
                self.ready.entry(series.clone()).or_default().take(ready.after);
                Some(WorkerState::Ready)
            }
            WorkerChange::NotReady { .. } => Some(WorkerState::NotReady),
            WorkerChange::Stopping(_) => Some(WorkerState::Stopping),
            WorkerChange::Exited(exited) => {
                self.living.remove(&event.worker);
                *self.exits.entry((series.clone(), how(exited))).or_default() += 1;
                None
            }
            WorkerChange::Replaced { .. } => None,
        };
        let Some(state) = stands else { return };
        if let Some(living) = self.living.get_mut(&event.worker) {
            if living.state != WorkerState::Stopping {
                living.state = state;
            }
        } else if self.living.len() < MOST_WORKERS {
            self.living.insert(event.worker, Living { series, state, forked });
        }
    }

    /// How often a server found no room for series of its own.
    pub(super) fn refused(&self) -> u64 {
        self.series.refused()
    }

    pub(super) fn families(&self) -> Vec<MetricFamily> {
        let mut states: BTreeMap<(&Series, WorkerState), u64> = BTreeMap::new();
        let mut ages: BTreeMap<&Series, (SystemTime, SystemTime)> = BTreeMap::new();
        for living in self.living.values() {
            let Living { series, state, forked } = living;
            for each in WorkerState::ALL {
                *states.entry((series, each)).or_default() += u64::from(each == *state);
            }
            let (oldest, youngest) = ages.entry(series).or_insert((*forked, *forked));
            (*oldest, *youngest) = ((*oldest).min(*forked), (*youngest).max(*forked));
        }
        // Where all have ended, 0 says so.
        for series in self.ready.keys().chain(self.exits.keys().map(|(series, _)| series)) {
            for each in WorkerState::ALL {
                states.entry((series, each)).or_default();
            }
        }
        let names = |(server, unit): &'_ Series| -> (String, String) { (server.clone(), unit.clone()) };
        let states: Vec<_> =
            states.into_iter().map(|((series, state), count)| (names(series), state, count)).collect();
        let age = |at: SystemTime| at.elapsed().unwrap_or_default().as_secs_f64();
        vec![
            WORKERS.gauges(states.iter().map(|((server, unit), state, count)| {
                ([server.as_str(), unit.as_str(), state.name()], float(*count))
            })),
            OLDEST.gauges(
                ages.iter()
                    .map(|((server, unit), (oldest, _))| ([server.as_str(), unit.as_str()], age(*oldest))),
            ),
            YOUNGEST.gauges(
                ages.iter().map(|((server, unit), (_, youngest))| {
                    ([server.as_str(), unit.as_str()], age(*youngest))
                }),
            ),
            EXITS.counters(
                self.exits
                    .iter()
                    .map(|(((server, unit), how), count)| ([server.as_str(), unit.as_str(), *how], *count)),
            ),
            READY.histograms(
                self.ready
                    .iter()
                    .map(|((server, unit), times)| ([server.as_str(), unit.as_str()], times.buckets())),
            ),
        ]
    }

    fn admit(&mut self, server: &WorkersServer) -> Series {
        let unit = server.unit.as_deref().map_or_else(|| UNKNOWN.to_owned(), label);
        let series = (label(&server.name), unit);
        match self.series.admit(series.clone(), server.uid, Instant::now()) {
            Admission::Own => series,
            Admission::InPlaceOf(idle) => {
                self.exits.retain(|(of, _), _| *of != idle);
                self.ready.remove(&idle);
                for living in self.living.values_mut().filter(|living| living.series == idle) {
                    living.series = (OTHER.to_owned(), OTHER.to_owned());
                }
                series
            }
            Admission::Refused => (OTHER.to_owned(), OTHER.to_owned()),
        }
    }
}

impl Times {
    fn take(&mut self, after: u64) {
        let milliseconds = after / 1_000_000;
        let place = BOUNDS.iter().position(|bound| milliseconds < u64::from(*bound)).unwrap_or(BOUNDS.len());
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(after);
    }

    fn buckets(&self) -> Buckets<'_> {
        let bounds = BOUNDS.iter().map(|bound| f64::from(*bound) / 1e3).collect();
        Buckets { bounds, counts: &self.counts, sum: seconds(self.sum) }
    }
}

fn how(exited: &Exited) -> &'static str {
    match &exited.end {
        None => "unknown",
        Some(ChildEnd { exit_code: Some(0), .. }) => "code 0",
        Some(ChildEnd { exit_code: Some(_), .. }) => "code",
        Some(ChildEnd { signal, .. }) => {
            let known = SIGNALS.into_iter().find(|name| signal.as_deref() == Some(*name));
            known.unwrap_or("other signal")
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::proto::LabelPair;

    use super::*;
    use crate::output::samples;

    /// A sample of a family as text, by the name of the family and the values of its labels.
    fn value(workers: &Workers, name: &str, labels: &[&str]) -> Option<f64> {
        let families = workers.families();
        let family = families.iter().find(|family| family.name() == name)?;
        let metric = family.get_metric().iter().find(|metric| {
            let values: Vec<&str> = metric.get_label().iter().map(LabelPair::value).collect();
            values == labels
        })?;
        Some(match name {
            "forkwatch_worker_exits_total" => metric.get_counter().get_value(),
            "forkwatch_worker_ready_seconds" => metric.get_histogram().get_sample_sum(),
            _ => metric.get_gauge().get_value(),
        })
    }

    #[test]
    fn a_life_is_counted_where_it_stands_and_how_it_ends() {
        const OF: [&str; 2] = ["gunicorn", "shop.service"];
        let mut workers = Workers::new(10);
        let count = |workers: &Workers, state| {
            let [server, unit] = OF;
            value(workers, "forkwatch_workers", &[server, unit, state])
        };
        let mut lives = samples::lives_of_workers().into_iter();
        let mut take = |workers: &mut Workers| workers.take(&lives.next().unwrap(), SystemTime::now());
        take(&mut workers);
        assert_eq!((count(&workers, "starting"), count(&workers, "ready")), (Some(1.0), Some(0.0)));
        take(&mut workers);
        assert_eq!((count(&workers, "starting"), count(&workers, "ready")), (Some(0.0), Some(1.0)));
        assert_eq!(value(&workers, "forkwatch_worker_ready_seconds", &OF), Some(0.712));
        take(&mut workers);
        assert_eq!(count(&workers, "stopping"), Some(1.0));
        take(&mut workers);
        assert_eq!((count(&workers, "stopping"), count(&workers, "ready")), (Some(0.0), Some(0.0)));
        assert_eq!(
            value(&workers, "forkwatch_worker_exits_total", &["gunicorn", "shop.service", "SIGKILL"]),
            Some(1.0)
        );
        assert_eq!(value(&workers, "forkwatch_workers_oldest_seconds", &OF), None);
        take(&mut workers);
        assert!(value(&workers, "forkwatch_workers_oldest_seconds", &OF).is_some());
    }

    #[test]
    fn strangers_make_no_more_series_than_may_be() {
        let mut workers = Workers::new(2);
        for number in 0..50 {
            let mut event = samples::lives_of_workers().into_iter().nth(3).unwrap();
            event.server.name = format!("served{number}");
            workers.take(&event, SystemTime::now());
        }
        assert!(workers.exits.len() <= 3 && workers.refused() > 0);
        let other = value(&workers, "forkwatch_worker_exits_total", &["other", "other", "SIGKILL"]);
        assert_eq!(other, Some(48.0));
    }
}
