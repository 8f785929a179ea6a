//! Dashboards for Grafana, made from the names that the metrics have. One that uses a metric that is gone is not made.

mod server;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{MetricsError, markdown};

/// A dashboard.
struct Dashboard {
    /// The name of its file, without extension, and its id in Grafana.
    name: &'static str,
    title: &'static str,
    what: &'static str,
    /// What can be chosen, besides the host.
    variables: &'static [Variable],
    panels: &'static [Panel],
}

/// Something that can be chosen.
struct Variable {
    name: &'static str,
    label: &'static str,
    /// Where its values come from.
    query: &'static str,
}

/// A graph or a number.
struct Panel {
    title: &'static str,
    what: &'static str,
    kind: Kind,
    unit: &'static str,
    /// Expressions, and what their lines are called.
    targets: &'static [(&'static str, &'static str)],
}

/// How it is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Lines over time.
    Graph,
    /// One number, which is bad from this on.
    Number(u32),
    /// One number, of which 0 is bad.
    Answer,
}

/// A dashboard whose metric is gone.
#[derive(Debug, thiserror::Error)]
#[error("the dashboard {dashboard} uses {metric}, which is no metric of forkwatch")]
pub struct UnknownMetric {
    dashboard: &'static str,
    metric: String,
}

/// Why a dashboard cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum DashboardError {
    /// It uses what is not there.
    #[error(transparent)]
    Unknown(#[from] UnknownMetric),
    /// The metrics cannot be listed.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

const OVERVIEW: Dashboard = Dashboard {
    name: "grafana-overview",
    title: "forkwatch: forks and findings",
    what: "What forks on these hosts, what was found unsafe, and what hangs now.",
    variables: &[],
    panels: &[
        Panel {
            title: "Hanging now",
            what: "Forked children that are proven to hang for ever, those included that cannot be looked at any more.",
            kind: Kind::Number(1),
            unit: "short",
            targets: &[("sum(forkwatch_stuck_children{instance=~\"$instance\"})", "children")],
        },
        Panel {
            title: "Findings, last 24 h",
            what: "Findings that are strong or certain.",
            kind: Kind::Number(1),
            unit: "short",
            targets: &[(
                "sum(increase(forkwatch_findings_total{instance=~\"$instance\", certainty!=\"heuristic\"}[24h]))",
                "findings",
            )],
        },
        Panel {
            title: "Shared connections now",
            what: "Connections from before a fork that several processes hold.",
            kind: Kind::Number(1_000_000),
            unit: "short",
            targets: &[("sum(forkwatch_shared_connections{instance=~\"$instance\"})", "connections")],
        },
        Panel {
            title: "Forked children now",
            what: "Forked and never exec'd processes that live and are followed.",
            kind: Kind::Number(1_000_000),
            unit: "short",
            targets: &[("sum(forkwatch_unexeced_children{instance=~\"$instance\"})", "children")],
        },
        Panel {
            title: "Findings by hazard",
            what: "How many each hour.",
            kind: Kind::Graph,
            unit: "short",
            targets: &[(
                "sum by (hazard) (increase(forkwatch_findings_total{instance=~\"$instance\"}[1h])) > 0",
                "{{hazard}}",
            )],
        },
        Panel {
            title: "Unsafe forks by program",
            what: "The ten programs with most of them.",
            kind: Kind::Graph,
            unit: "short",
            targets: &[(
                "topk(10, sum by (program, unit) (increase(forkwatch_unsafe_forks_total{instance=~\"$instance\"}[1h])))",
                "{{program}} ({{unit}})",
            )],
        },
        Panel {
            title: "Hanging children",
            what: "By hazard, and whether they can be looked at.",
            kind: Kind::Graph,
            unit: "short",
            targets: &[(
                "sum by (hazard, state) (forkwatch_stuck_children{instance=~\"$instance\"}) > 0",
                "{{hazard}} ({{state}})",
            )],
        },
        Panel {
            title: "The longest hang",
            what: "For how long the longest of them has been seen to hang.",
            kind: Kind::Graph,
            unit: "s",
            targets: &[(
                "max by (hazard) (forkwatch_stuck_children_oldest_seconds{instance=~\"$instance\"}) > 0",
                "{{hazard}}",
            )],
        },
        Panel {
            title: "Created tasks",
            what: "Exact, as the kernel counts them: copying forks, vforks, other clones, threads.",
            kind: Kind::Graph,
            unit: "ops",
            targets: &[(
                "sum by (kind) (rate(forkwatch_forks_total{instance=~\"$instance\"}[$__rate_interval]))",
                "{{kind}}",
            )],
        },
        Panel {
            title: "Forks by unit",
            what: "The ten units that create most processes.",
            kind: Kind::Graph,
            unit: "ops",
            targets: &[(
                "topk(10, sum by (unit) (rate(forkwatch_unit_forks_total{instance=~\"$instance\"}[$__rate_interval])))",
                "{{unit}}",
            )],
        },
        Panel {
            title: "How forked children end",
            what: "Exec in time, late, or an exit or a signal.",
            kind: Kind::Graph,
            unit: "ops",
            targets: &[(
                "sum by (outcome) (rate(forkwatch_fork_outcomes_total{instance=~\"$instance\"}[$__rate_interval]))",
                "{{outcome}}",
            )],
        },
        Panel {
            title: "From fork to exec",
            what: "The time that children take for it: half of them, and all but one in a hundred.",
            kind: Kind::Graph,
            unit: "s",
            targets: &[
                (
                    "histogram_quantile(0.5, sum by (le) (rate(forkwatch_fork_to_exec_duration_seconds_bucket{instance=~\"$instance\"}[$__rate_interval])))",
                    "half",
                ),
                (
                    "histogram_quantile(0.99, sum by (le) (rate(forkwatch_fork_to_exec_duration_seconds_bucket{instance=~\"$instance\"}[$__rate_interval])))",
                    "99 %",
                ),
            ],
        },
        Panel {
            title: "Failed children",
            what: "Forked children that ended by a signal or with another code than 0.",
            kind: Kind::Graph,
            unit: "ops",
            targets: &[(
                "sum by (how) (rate(forkwatch_children_failed_total{instance=~\"$instance\"}[$__rate_interval])) > 0",
                "{{how}}",
            )],
        },
        Panel {
            title: "Findings that are over",
            what: "How they ended, each hour.",
            kind: Kind::Graph,
            unit: "short",
            targets: &[(
                "sum by (how) (increase(forkwatch_findings_resolved_total{instance=~\"$instance\"}[1h])) > 0",
                "{{how}}",
            )],
        },
    ],
};

const HEALTH: Dashboard = Dashboard {
    name: "grafana-health",
    title: "forkwatch: its own health",
    what: "Whether the silence of forkwatch means safe, and what watching costs.",
    variables: &[],
    panels: &[
        Panel {
            title: "Every part answers",
            what: "0 where a part of forkwatch hangs.",
            kind: Kind::Answer,
            unit: "short",
            targets: &[("min(forkwatch_part_answers{instance=~\"$instance\"})", "answers")],
        },
        Panel {
            title: "Detectors that work",
            what: "0 where some detector concludes nothing: its silence says nothing.",
            kind: Kind::Answer,
            unit: "short",
            targets: &[(
                "min(forkwatch_detector_enabled{instance=~\"$instance\", detector!=\"clone-calls\"})",
                "work",
            )],
        },
        Panel {
            title: "Records lost, last 24 h",
            what: "Forks may have gone unreported.",
            kind: Kind::Number(1),
            unit: "short",
            targets: &[(
                "sum(increase(forkwatch_events_dropped_total{instance=~\"$instance\"}[24h]))",
                "records",
            )],
        },
        Panel {
            title: "Findings are kept",
            what: "0 where the disk is full or read-only.",
            kind: Kind::Answer,
            unit: "short",
            targets: &[("min(forkwatch_findings_store_writable{instance=~\"$instance\"})", "kept")],
        },
        Panel {
            title: "Detectors by state",
            what: "On, limited, undecided, off or stalled.",
            kind: Kind::Graph,
            unit: "short",
            targets: &[("sum by (state) (forkwatch_detector_state{instance=~\"$instance\"})", "{{state}}")],
        },
        Panel {
            title: "Questions about processes",
            what: "How many wait for an answer, and the oldest for how long.",
            kind: Kind::Graph,
            unit: "short",
            targets: &[
                ("sum(forkwatch_evidence_unanswered_questions{instance=~\"$instance\"})", "waiting"),
                ("max(forkwatch_evidence_lag_seconds{instance=~\"$instance\"})", "seconds"),
            ],
        },
        Panel {
            title: "What could not be judged or followed",
            what: "Each hour: forks whose process was gone or unreadable, and what was given up.",
            kind: Kind::Graph,
            unit: "short",
            targets: &[
                ("sum(increase(forkwatch_forks_undecided_total{instance=~\"$instance\"}[1h]))", "undecided"),
                ("sum(increase(forkwatch_given_up_total{instance=~\"$instance\"}[1h]))", "given up"),
                (
                    "sum(increase(forkwatch_tracking_dropped_total{instance=~\"$instance\"}[1h]))",
                    "not followed",
                ),
                ("sum(forkwatch_unreadable_processes{instance=~\"$instance\"})", "unreadable now"),
            ],
        },
        Panel {
            title: "The ring",
            what: "How full it is, of 1.",
            kind: Kind::Graph,
            unit: "percentunit",
            targets: &[(
                "max(forkwatch_ring_used_bytes{instance=~\"$instance\"} / forkwatch_ring_size_bytes{instance=~\"$instance\"})",
                "used",
            )],
        },
        Panel {
            title: "Processor time",
            what: "Of one processor.",
            kind: Kind::Graph,
            unit: "percentunit",
            targets: &[(
                "rate(process_cpu_seconds_total{job=\"forkwatch\", instance=~\"$instance\"}[$__rate_interval])",
                "{{instance}}",
            )],
        },
        Panel {
            title: "Memory",
            what: "Of the watch, without its readers.",
            kind: Kind::Graph,
            unit: "bytes",
            targets: &[(
                "process_resident_memory_bytes{job=\"forkwatch\", instance=~\"$instance\"}",
                "{{instance}}",
            )],
        },
        Panel {
            title: "Records and wake-ups",
            what: "A wake-up costs twenty times what a record costs.",
            kind: Kind::Graph,
            unit: "ops",
            targets: &[
                (
                    "sum(rate(forkwatch_events_received_total{instance=~\"$instance\"}[$__rate_interval]))",
                    "records",
                ),
                ("sum(rate(forkwatch_wakeups_total{instance=~\"$instance\"}[$__rate_interval]))", "wake-ups"),
            ],
        },
        Panel {
            title: "What was lost on the way out",
            what: "Each hour: events that no file took, and findings that were not kept.",
            kind: Kind::Graph,
            unit: "short",
            targets: &[
                ("sum(increase(forkwatch_event_file_dropped_total{instance=~\"$instance\"}[1h]))", "events"),
                (
                    "sum(increase(forkwatch_findings_store_dropped_total{instance=~\"$instance\"}[1h]))",
                    "findings",
                ),
            ],
        },
    ],
};

/// Every dashboard, by the name of its file.
pub fn dashboards() -> Result<Vec<(&'static str, Value)>, DashboardError> {
    let table = markdown()?;
    let known: BTreeSet<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let mut all = Vec::new();
    for dashboard in [&OVERVIEW, &server::SERVER, &HEALTH] {
        let shown =
            dashboard.panels.iter().flat_map(|panel| panel.targets).map(|(expression, _)| *expression);
        for expression in shown.chain(dashboard.variables.iter().map(|variable| variable.query)) {
            if let Some(metric) = used(expression).find(|metric| !is_known(metric, &known)) {
                return Err(UnknownMetric { dashboard: dashboard.name, metric: metric.to_owned() }.into());
            }
        }
        all.push((dashboard.name, document(dashboard)));
    }
    Ok(all)
}

/// The metrics of ours that an expression names.
fn used(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    words.filter(|word| word.starts_with("forkwatch_") || word.starts_with("process_"))
}

fn is_known(metric: &str, known: &BTreeSet<&str>) -> bool {
    let histogram = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| metric.strip_suffix(end));
    known.contains(metric) || histogram.is_some_and(|metric| known.contains(metric))
}

fn document(dashboard: &Dashboard) -> Value {
    let (mut x, mut y) = (0, 0);
    let mut panels = Vec::new();
    for (id, panel) in (1_u32..).zip(dashboard.panels) {
        let (width, height) = if panel.kind == Kind::Graph { (12, 8) } else { (6, 4) };
        if x + width > 24 {
            x = 0;
        }
        panels.push(shown(panel, id, &json!({ "x": x, "y": y, "w": width, "h": height })));
        x += width;
        if x >= 24 {
            (x, y) = (0, y + height);
        }
    }
    let mut variables = vec![
        json!({ "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus" }),
    ];
    let host =
        Variable { name: "instance", label: "Host", query: "label_values(forkwatch_build_info, instance)" };
    variables.extend(std::iter::once(&host).chain(dashboard.variables).map(chosen));
    json!({
        "uid": dashboard.name,
        "title": dashboard.title,
        "description": dashboard.what,
        "tags": ["forkwatch"],
        "schemaVersion": 39,
        "version": 1,
        "editable": true,
        "refresh": "1m",
        "time": { "from": "now-24h", "to": "now" },
        "templating": { "list": variables },
        "panels": panels,
    })
}

fn chosen(Variable { name, label, query }: &Variable) -> Value {
    json!({
        "name": name,
        "label": label,
        "type": "query",
        "datasource": source(),
        "query": { "query": query, "refId": name },
        "refresh": 2,
        "includeAll": true,
        "allValue": ".*",
        "multi": true,
        "current": { "text": "All", "value": "$__all" },
    })
}

fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

fn shown(panel: &Panel, id: u32, place: &Value) -> Value {
    let letters = 'A'..='Z';
    let targets = letters.zip(panel.targets).map(|(letter, (expression, legend))| {
        let instant = panel.kind != Kind::Graph;
        json!({ "refId": letter, "datasource": source(), "expr": expression, "legendFormat": legend, "instant": instant, "range": !instant })
    });
    let steps = match panel.kind {
        Kind::Graph => json!([{ "color": "green", "value": null }]),
        Kind::Number(bad) => json!([{ "color": "green", "value": null }, { "color": "red", "value": bad }]),
        Kind::Answer => json!([{ "color": "red", "value": null }, { "color": "green", "value": 1 }]),
    };
    json!({
        "id": id,
        "type": if panel.kind == Kind::Graph { "timeseries" } else { "stat" },
        "title": panel.title,
        "description": panel.what,
        "gridPos": place,
        "datasource": source(),
        "targets": targets.collect::<Vec<_>>(),
        "fieldConfig": { "defaults": { "unit": panel.unit, "min": 0, "thresholds": { "mode": "absolute", "steps": steps } }, "overrides": [] },
        "options": if panel.kind == Kind::Graph {
            json!({ "legend": { "displayMode": "list", "placement": "bottom" }, "tooltip": { "mode": "multi" } })
        } else {
            json!({ "reduceOptions": { "calcs": ["lastNotNull"] }, "colorMode": "value" })
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_that_they_use_is_there() {
        let all = dashboards().unwrap();
        assert_eq!(all.len(), 3);
    }

    #[test]
    fn a_metric_that_is_gone_is_noticed() {
        let names: Vec<&str> =
            used("sum(rate(forkwatch_gone_bucket{le=\"1\"}[5m])) / process_open_fds").collect();
        assert_eq!(names, ["forkwatch_gone_bucket", "process_open_fds"]);
        let known = BTreeSet::from(["process_open_fds", "forkwatch_there"]);
        assert!(!is_known("forkwatch_gone_bucket", &known));
        assert!(is_known("forkwatch_there_bucket", &known));
    }
}
