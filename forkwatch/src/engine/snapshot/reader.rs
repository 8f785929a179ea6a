//! The reader, as a scan asks it: what is not answered is as good as not seen.

use std::time::Duration;

use anyhow::Result;

use crate::{
    model::{
        evidence::{Evidence, Request},
        process::{ProcessKey, Program},
    },
    reader::{self, Answer, Answered, Client, Starter, Unanswered, Unreadable},
};

/// A person waits, and a look takes a millisecond.
const PATIENCE: Duration = Duration::from_secs(2);

/// Answers a scan.
pub(super) struct Reader {
    client: Client,
    /// CPU time that looks have taken.
    pub(super) cpu: Duration,
    /// Why none answers any more, where that is so.
    pub(super) broken: Option<anyhow::Error>,
}

impl Reader {
    /// Must be called while this process has one thread.
    pub(super) fn start() -> Result<Self> {
        Ok(Self {
            client: Client::new(Starter::start()?).with_patience(PATIENCE),
            cpu: Duration::ZERO,
            broken: None,
        })
    }

    /// What is seen.
    pub(super) fn answer(&mut self, request: &Request) -> Evidence {
        let answered = self.client.ask(&reader::Question::Core(request.clone()));
        if let Ok(Answered { cpu, .. }) = &answered {
            self.cpu += Duration::from_nanos(*cpu);
        }
        match answered {
            Ok(Answered { answer: Answer::Core(evidence), .. }) => *evidence,
            Ok(Answered { answer, .. }) => reader::unanswered(request, &defect(&answer)),
            Err(Unanswered::Aside(why)) => reader::unanswered(request, &why),
            Err(error) => {
                let why = error.to_string();
                self.broken.get_or_insert(error.into());
                reader::unanswered(request, &why)
            }
        }
    }

    /// What runs in a process; absent where it has ended.
    pub(super) fn program(&mut self, process: ProcessKey) -> Option<Program> {
        match self.answer(&Request::Program { tgid: process.tgid }) {
            Evidence::Program { seen: Some(seen), .. } if seen.process == process => Some(seen.program),
            _ => None,
        }
    }

    /// The processes at which a look hung or broke.
    pub(super) fn unreadable(&self) -> Vec<Unreadable> {
        self.client.unreadable()
    }
}

fn defect(answer: &Answer) -> String {
    match answer {
        Answer::Failed(defect) => format!("the look failed, which is a defect of forkwatch: {defect}"),
        _ => "the reader answered another question".to_owned(),
    }
}
