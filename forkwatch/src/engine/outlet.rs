//! Tells all outputs the same, in order: what follows an event whose particulars are not known yet waits behind it.

use std::{collections::VecDeque, io};

use crate::{
    core,
    model::{event::Event, finding::State, particulars::Particulars, rescued::Rescued, standing::Standing},
    output::{Batch, Output},
};

/// Most that waits. Where there is more, the first is told without what it waits for.
const MOST_HELD: usize = 4096;

/// The outputs, and what waits to be told.
#[derive(Default)]
pub(super) struct Outlet {
    outputs: Vec<Box<dyn Output>>,
    held: VecDeque<Held>,
    has_begun: bool,
}

/// Something that waits to be told.
struct Held {
    word: Word,
    /// The number of the question that it waits for.
    question: Option<u64>,
    particulars: Particulars,
}

/// Something to be told.
pub(super) enum Word {
    Event(Event),
    Said(core::Output),
    Standing(Box<Standing>),
    Rescued(Box<Rescued>),
}

impl Outlet {
    pub(super) fn add(&mut self, outputs: Vec<Box<dyn Output>>) {
        self.outputs.extend(outputs);
    }

    /// Tells that the watch has begun, once.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.has_begun, true) {
            self.outputs.iter_mut().try_for_each(|output| output.begin())?;
        }
        Ok(())
    }

    pub(super) fn wants_particulars(&self, event: &Event) -> bool {
        self.outputs.iter().any(|output| output.wants_particulars(event))
    }

    /// Tells an event, at once or once a question of this number is answered.
    pub(super) fn event(&mut self, event: &Event, question: Option<u64>) -> io::Result<()> {
        if question.is_none() && self.held.is_empty() {
            return tell_event(&mut self.outputs, event, &Particulars::None);
        }
        self.hold(Word::Event(event.clone()), question)
    }

    /// Tells something that waits for no answer of its own.
    pub(super) fn tell(&mut self, word: Word) -> io::Result<()> {
        if self.held.is_empty() {
            return tell(&mut self.outputs, &word, &Particulars::None);
        }
        self.hold(word, None)
    }

    fn hold(&mut self, word: Word, question: Option<u64>) -> io::Result<()> {
        self.held.push_back(Held { word, question, particulars: Particulars::None });
        if self.held.len() <= MOST_HELD {
            return Ok(());
        }
        if let Some(first) = self.held.front_mut() {
            first.question = None;
        }
        self.tell_held(|held| held.question.is_none())
    }

    /// Takes in an answer, and tells what has waited for it. One that nobody waits for any more is ignored.
    pub(super) fn particulars(&mut self, question: u64, particulars: &Particulars) -> io::Result<()> {
        if let Some(held) = self.held.iter_mut().find(|held| held.question == Some(question)) {
            held.question = None;
            held.particulars = particulars.clone();
        }
        self.tell_held(|held| held.question.is_none())
    }

    /// Tells all that waits, as it is.
    pub(super) fn tell_all(&mut self) -> io::Result<()> {
        self.tell_held(|_| true)
    }

    fn tell_held(&mut self, is_ready: impl Fn(&Held) -> bool) -> io::Result<()> {
        while self.held.front().is_some_and(&is_ready)
            && let Some(held) = self.held.pop_front()
        {
            tell(&mut self.outputs, &held.word, &held.particulars)?;
        }
        Ok(())
    }

    pub(super) fn batch(&mut self, batch: Batch) -> io::Result<()> {
        self.outputs.iter_mut().try_for_each(|output| output.batch(batch))
    }

    pub(super) fn is_done(&self) -> bool {
        self.outputs.iter().any(|output| output.is_done())
    }

    pub(super) fn end(&mut self) -> io::Result<()> {
        self.outputs.iter_mut().try_for_each(|output| output.end())
    }
}

fn tell(outputs: &mut [Box<dyn Output>], word: &Word, particulars: &Particulars) -> io::Result<()> {
    match word {
        Word::Event(event) => tell_event(outputs, event, particulars),
        Word::Standing(standing) => outputs.iter_mut().try_for_each(|output| output.standing(standing)),
        Word::Rescued(rescued) => outputs.iter_mut().try_for_each(|output| output.rescued(rescued)),
        Word::Said(core::Output::Finding(finding)) => outputs.iter_mut().try_for_each(|output| {
            if matches!(finding.state, State::Resolved(_)) {
                output.resolution(finding)
            } else {
                output.finding(finding)
            }
        }),
        Word::Said(said) => outputs.iter_mut().try_for_each(|output| output.said(said)),
    }
}

fn tell_event(outputs: &mut [Box<dyn Output>], event: &Event, particulars: &Particulars) -> io::Result<()> {
    outputs.iter_mut().try_for_each(|output| match event {
        Event::Lost(lost) => output.lost(lost),
        event => output.event(event, particulars),
    })
}
