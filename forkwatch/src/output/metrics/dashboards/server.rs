//! The dashboard of one server: its workers, how they end, how soon they are ready, and what its forks were like.

use super::{Dashboard, Kind, Panel, Variable};

/// Whose series a panel shows: by server and unit, and by unit alone where a metric knows no more.
macro_rules! of_server {
    ($metric:literal, $more:literal) => {
        concat!($metric, "{instance=~\"$instance\", unit=~\"$unit\", server=~\"$server\"", $more, "}")
    };
}
macro_rules! of_unit {
    ($metric:literal) => {
        concat!($metric, "{instance=~\"$instance\", unit=~\"$unit\"}")
    };
}

pub(super) const SERVER: Dashboard = Dashboard {
    name: "grafana-server",
    title: "forkwatch: one server",
    what: "The workers of one server: who lives, how they ended, how soon they are ready, and whether its forks are safe.",
    variables: &[
        Variable {
            name: "unit",
            label: "Unit",
            query: "label_values(forkwatch_workers{instance=~\"$instance\"}, unit)",
        },
        Variable {
            name: "server",
            label: "Server",
            query: "label_values(forkwatch_workers{instance=~\"$instance\", unit=~\"$unit\"}, server)",
        },
    ],
    panels: &[
        Panel {
            title: "Workers",
            what: "Living workers, wherever they stand.",
            kind: Kind::Number(1_000_000),
            unit: "short",
            targets: &[(concat!("sum(", of_server!("forkwatch_workers", ""), ")"), "workers")],
        },
        Panel {
            title: "Not ready",
            what: "Workers that have not waited for work since their fork, long after it.",
            kind: Kind::Number(1),
            unit: "short",
            targets: &[(
                concat!("sum(", of_server!("forkwatch_workers", ", state=\"not-ready\""), ")"),
                "workers",
            )],
        },
        Panel {
            title: "Bad ends, last 24 h",
            what: "Workers that ended by another code than 0, or by a signal that does not ask.",
            kind: Kind::Number(1),
            unit: "short",
            targets: &[(
                concat!(
                    "sum(increase(",
                    of_server!(
                        "forkwatch_worker_exits_total",
                        ", how!~\"code 0|SIGTERM|SIGINT|SIGQUIT|SIGHUP|unknown\""
                    ),
                    "[24h]))"
                ),
                "workers",
            )],
        },
        Panel {
            title: "Unsafe forks, last 24 h",
            what: "In this unit, whatever the program.",
            kind: Kind::Number(1),
            unit: "short",
            targets: &[(
                concat!("sum(increase(", of_unit!("forkwatch_unsafe_forks_total"), "[24h]))"),
                "forks",
            )],
        },
        Panel {
            title: "Workers by where they stand",
            what: "Starting, ready, not ready, asked to end, or unknown: forked before the watch began.",
            kind: Kind::Graph,
            unit: "short",
            targets: &[(concat!("sum by (state) (", of_server!("forkwatch_workers", ""), ")"), "{{state}}")],
        },
        Panel {
            title: "How workers end",
            what: "Each hour, by exit code or signal.",
            kind: Kind::Graph,
            unit: "short",
            targets: &[(
                concat!(
                    "sum by (how) (increase(",
                    of_server!("forkwatch_worker_exits_total", ""),
                    "[1h])) > 0"
                ),
                "{{how}}",
            )],
        },
        Panel {
            title: "From fork to ready",
            what: "The time until a worker waits for work: half of them, and all but one in a hundred.",
            kind: Kind::Graph,
            unit: "s",
            targets: &[
                (
                    concat!(
                        "histogram_quantile(0.5, sum by (le) (increase(",
                        of_server!("forkwatch_worker_ready_seconds_bucket", ""),
                        "[1h])))"
                    ),
                    "half",
                ),
                (
                    concat!(
                        "histogram_quantile(0.99, sum by (le) (increase(",
                        of_server!("forkwatch_worker_ready_seconds_bucket", ""),
                        "[1h])))"
                    ),
                    "99 %",
                ),
            ],
        },
        Panel {
            title: "Age of workers",
            what: "Of the oldest and the youngest. Workers that are replaced all the time stay young.",
            kind: Kind::Graph,
            unit: "s",
            targets: &[
                (concat!("max(", of_server!("forkwatch_workers_oldest_seconds", ""), ")"), "oldest"),
                (concat!("min(", of_server!("forkwatch_workers_youngest_seconds", ""), ")"), "youngest"),
            ],
        },
        Panel {
            title: "Unsafe forks by hazard",
            what: "In this unit, each hour.",
            kind: Kind::Graph,
            unit: "short",
            targets: &[(
                concat!(
                    "sum by (hazard, program) (increase(",
                    of_unit!("forkwatch_unsafe_forks_total"),
                    "[1h])) > 0"
                ),
                "{{hazard}} ({{program}})",
            )],
        },
        Panel {
            title: "Created processes",
            what: "By this unit: copying forks, and clones that share memory.",
            kind: Kind::Graph,
            unit: "ops",
            targets: &[(
                concat!(
                    "sum by (kind) (rate(",
                    of_unit!("forkwatch_unit_forks_total"),
                    "[$__rate_interval]))"
                ),
                "{{kind}}",
            )],
        },
    ],
};
