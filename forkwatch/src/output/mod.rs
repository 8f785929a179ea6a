//! What leaves the program. An [`Output`] is told of everything that a watch sees and says, and several may be at once;
//! a recording holds what it takes to tell them the same again.

use std::io;

use crate::{
    core,
    model::{
        event::{Event, Lost},
        finding::Finding,
        particulars::Particulars,
        rescued::Rescued,
        standing::Standing,
        time::BootTime,
        written::{Unshown, WrittenLine},
    },
};

pub mod columns;
mod context;
pub mod destination;
pub mod event_file;
pub mod identity;
pub mod journal;
pub mod json;
pub mod log;
pub mod metrics;
pub mod overheard;
pub mod published;
pub mod recording;
pub mod report;
#[cfg(test)]
pub(crate) mod samples;
pub mod selection;
pub mod standard_output;
pub mod summary;
pub mod workers;

pub use context::Context;

/// Somebody who is told what a watch sees and says.
///
/// # Order
///
/// [`begin`](Self::begin) is called once and first, [`end`](Self::end) once and last. Between them everything is told in
/// the order in which it happened: an event before what the core concludes from it, a finding before its resolution.
/// [`batch`](Self::batch) comes after each handful of calls, whether there were any or not. All outputs of a watch are
/// told the same, one after the other, in the order in which they were given to it. A replay of a recording calls
/// them as the live watch did, but for the batches.
///
/// # No waiting
///
/// All calls come from the thread that empties the kernel's ring: while one of them lasts, the ring fills up, and
/// when it is full, records are lost (and told as [`lost`](Self::lost)). So an output must not wait for a network, a
/// lock or a slow disk; what can wait goes to a thread of the output's own. It must not look at other processes either,
/// which may hang and which a replay could not repeat: it says with [`wants_particulars`](Self::wants_particulars) what
/// it wants to know, and is told with the event.
///
/// # Errors
///
/// An error says that this output can never do its work again, such as a closed pipe, and ends the watch. What passes,
/// such as a full disk, is no error: the output counts what it loses, says so, and goes on.
pub trait Output {
    /// The watch has begun, and nothing has been told yet.
    fn begin(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Whether it has a use for the [`Particulars`] of this event, so that they are asked for. They are waited for a
    /// moment at most, and everything that happens meanwhile waits behind the event. Asked before the event is told.
    fn wants_particulars(&self, _event: &Event) -> bool {
        false
    }

    /// An event. Never a loss, nor what is evidence alone (signals, uses of sockets). The particulars are there where some
    /// output, or a recording, wanted them and they could be had; else they are [`Particulars::None`].
    fn event(&mut self, event: &Event, particulars: &Particulars) -> io::Result<()>;

    /// Events were lost, and will not be told.
    fn lost(&mut self, lost: &Lost) -> io::Result<()>;

    /// Something was found, for the first time or again, or is now in another state that is no end.
    fn finding(&mut self, finding: &Finding) -> io::Result<()>;

    /// Something that was found is over: the finding with the same number, in a state that says how it ended.
    fn resolution(&mut self, finding: &Finding) -> io::Result<()>;

    /// Anything else that the core says: a child that lives on, a shared connection, something to be counted. Never a
    /// finding, a question or an order.
    fn said(&mut self, _said: &core::Output) -> io::Result<()> {
        Ok(())
    }

    /// How a process that was named to be watched stood when the watch began. Told once for each, soon after the begin.
    fn standing(&mut self, _standing: &Standing) -> io::Result<()> {
        Ok(())
    }

    /// `forkwatch rescue` has released a lock in a child, or tried to.
    fn rescued(&mut self, _rescued: &Rescued) -> io::Result<()> {
        Ok(())
    }

    /// A worker has written a line to its standard output or error, where somebody has asked for that. No recording has it.
    fn written(&mut self, _line: &WrittenLine) -> io::Result<()> {
        Ok(())
    }

    /// Workers have written what is not told, noticed between these two times. Told now and then, and before the end.
    fn unshown(&mut self, _unshown: &Unshown, _since: BootTime, _at: BootTime) -> io::Result<()> {
        Ok(())
    }

    /// All that was there to be told has been told: what is still in a buffer should be written.
    fn batch(&mut self, _batch: Batch) -> io::Result<()> {
        Ok(())
    }

    /// Whether it has all that was wanted of it. The watch ends as soon as one output says so.
    fn is_done(&self) -> bool {
        false
    }

    /// The watch is over, and nothing more will be told.
    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Records that came since the last batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// How many records came.
    pub received: u64,
    /// How many of them had a layout that is not known.
    pub malformed: u64,
}
