//! What the configuration means for each part of the watch.

use std::os::fd::OwnedFd;

use crate::{
    config::{self, Config, EventOutput},
    core::{Dropped, Settings},
    detect,
    engine::memory_bound::{self, Bound},
    kernel::{self, Probe, Speakers, Stream},
    output::metrics,
};

/// The settings that this configuration means, with as many children as the memory allows.
pub(super) fn settings(config: &Config) -> Settings {
    let config::Judge { grace, recheck, summary_interval, stuck_after, sweep_interval, workers, stacks } =
        config.judge;
    Settings {
        grace,
        recheck,
        summary_interval,
        stuck_after,
        sweep_interval: Some(sweep_interval),
        workers,
        stacks,
        suppress: config.suppress.clone(),
        max_children: usize::try_from(memory_bound::fit(sizes(config)).children).unwrap_or(usize::MAX),
        ..Settings::default()
    }
}

/// What the configuration asks for of what takes memory.
pub(super) const fn sizes(config: &Config) -> Bound {
    Bound { children: config.kernel.max_children, ring: config.kernel.ring_bytes }
}

/// What is loaded into the kernel.
pub(super) fn kernel_options(config: &Config, kernel_log: Speakers) -> kernel::Options {
    let Bound { children, ring } = memory_bound::fit(sizes(config));
    // Plain forks are counted in the kernel; only an event stream has a use for them one by one.
    let all = config.events.output != EventOutput::None;
    kernel::Options {
        stream: Stream { plain: all, sharing: all, threads: false },
        grace: config.judge.grace,
        ring_bytes: ring,
        max_children: children,
        asked: if config.kernel.clone_calls { &[Probe::CloneCalls] } else { &[] },
        kernel_log,
        ..kernel::Options::default()
    }
}

/// Has the kernel time BPF programs for as long as the result lives, where that is asked for.
pub(super) fn keep_statistics(config: &Config) -> Option<OwnedFd> {
    if !config.kernel.program_statistics {
        return None;
    }
    kernel::keep_statistics()
        .inspect_err(|error| {
            tracing::warn!(%error, "the kernel does not time BPF programs: that needs CAP_SYS_ADMIN at start");
        })
        .ok()
}

/// What is exported.
pub(super) fn metrics_options(config: &Config, clone_calls: bool) -> metrics::Options {
    metrics::Options {
        max_series: config.metrics.max_series,
        by_unit: config.metrics.by_unit,
        clone_calls,
        hazards: detect::ends().collect(),
        hangs: detect::hangs().collect(),
        given_up: &Dropped::NAMES,
    }
}
