//! The dashboard of all hosts: forks, what was found, and where.

use super::{Dashboard, Kind, Panel};

pub(super) const OVERVIEW: Dashboard = Dashboard {
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
