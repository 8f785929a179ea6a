//! The dashboard of forkwatch itself: whether its silence means safe, and what watching costs.

use super::{Dashboard, Kind, Panel};

pub(super) const HEALTH: Dashboard = Dashboard {
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
