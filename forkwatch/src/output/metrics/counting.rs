//! Counts what a watch sees and says.

use std::{io, time::SystemTime};

use super::Metrics;
use crate::{
    core,
    model::{
        event::{Event, Lost},
        finding::Finding,
        particulars::Particulars,
        rescued::Rescued,
    },
    output::{Batch, Context, Output},
};

/// Counts in metrics that others read.
pub struct Counting {
    context: Context,
    metrics: Metrics,
}

impl Counting {
    /// Counts in these.
    pub fn new(context: &Context, metrics: &Metrics) -> Self {
        Self { context: context.clone(), metrics: metrics.clone() }
    }
}

impl Output for Counting {
    fn wants_particulars(&self, event: &Event) -> bool {
        matches!(event, Event::CloneFailure(_))
    }

    fn event(&mut self, event: &Event, particulars: &Particulars) -> io::Result<()> {
        match event {
            Event::Exit(exit) => self.metrics.child_ended(exit),
            Event::CloneFailure(failure) => {
                let cause = particulars.limit().map_or("unknown", |limit| limit.cause.name());
                self.metrics.clone_call_failed(failure.errno, cause);
            }
            _ => {}
        }
        Ok(())
    }

    /// The kernel side counts them too, and is asked at a scrape.
    fn lost(&mut self, _: &Lost) -> io::Result<()> {
        Ok(())
    }

    fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        self.metrics.finding(finding);
        Ok(())
    }

    fn resolution(&mut self, finding: &Finding) -> io::Result<()> {
        self.metrics.finding(finding);
        Ok(())
    }

    fn said(&mut self, said: &core::Output) -> io::Result<()> {
        use core::Output::{Dropped, SharedConnections, Stuck, Suppressed, Undecided, Unsafe, Worker};
        let metrics = &self.metrics;
        match said {
            Unsafe { hazard, program_name, unit, uid } => {
                metrics.unsafe_fork(*hazard, program_name, unit.as_deref(), *uid);
            }
            Suppressed { hazard, .. } => metrics.finding_suppressed(*hazard),
            Undecided { hazard, .. } => metrics.undecided(*hazard),
            Dropped(what) => metrics.given_up(what.name()),
            Stuck { hazard, confirmed, unknown, oldest } => {
                let since = oldest.map(|at| SystemTime::from(self.context.timestamp(at)));
                metrics.stuck(*hazard, *confirmed, *unknown, since);
            }
            Worker(event) => {
                let forked = SystemTime::from(self.context.timestamp(event.worker.start));
                metrics.worker(event, forked);
            }
            SharedConnections(count) => metrics.shared_connections(*count),
            _ => {}
        }
        Ok(())
    }

    fn rescued(&mut self, rescued: &Rescued) -> io::Result<()> {
        self.metrics.rescued(rescued.outcome());
        Ok(())
    }

    fn batch(&mut self, Batch { received, malformed }: Batch) -> io::Result<()> {
        if received > 0 {
            self.metrics.events_received(received, SystemTime::now());
            self.metrics.events_malformed(malformed);
        }
        Ok(())
    }
}
