//! Dashboards for Grafana, made from the names that the metrics have. One that uses a metric that is gone is not made.

mod health;
mod overview;
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

/// Every dashboard, by the name of its file.
pub fn dashboards() -> Result<Vec<(&'static str, Value)>, DashboardError> {
    let table = markdown()?;
    let known: BTreeSet<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let mut all = Vec::new();
    for dashboard in [&overview::OVERVIEW, &server::SERVER, &health::HEALTH] {
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
