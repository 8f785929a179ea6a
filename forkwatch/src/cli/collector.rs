//! The thread that answers the core's questions, so that judging never keeps the reader of the ring waiting.

use std::{
    io,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use anyhow::{Result, bail};
use tokio::sync::mpsc;

use super::scope::Scope;
use crate::{
    health::{Part, Pulse},
    host,
    model::{
        evidence::{Evidence, Request},
        time::BootTime,
    },
};

/// Questions that may wait.
const MOST_WAITING: usize = 4096;
/// What is said of a thread that answers, and sees nothing.
const BLIND: &str = "it cannot read what /proc shows of forkwatch itself";

/// Asks the thread.
pub(super) struct Collector {
    questions: SyncSender<Question>,
    answers: mpsc::UnboundedReceiver<Answer>,
    pulse: Pulse,
}

/// What the thread is asked.
enum Question {
    /// By the core.
    Core(Request),
    /// Whether it works: a question about forkwatch itself, which can always be answered.
    Heartbeat,
}

/// What it answers.
enum Answer {
    Core(BootTime, Box<Evidence>),
    /// Whether it saw what there is to be seen.
    Heartbeat(bool),
}

impl Collector {
    /// Starts the thread, which finds no processes outside the scope. It has the capabilities that the caller has now.
    pub(super) fn start(scope: Scope, pulse: Pulse) -> io::Result<Self> {
        Self::start_with(pulse, move |question| answer(&question, &scope))
    }

    fn start_with(
        pulse: Pulse,
        mut answer: impl FnMut(Question) -> Answer + Send + 'static,
    ) -> io::Result<Self> {
        let (questions, open) = sync_channel(MOST_WAITING);
        // Unbounded, and yet no longer than the questions were: one answer each.
        let (send, answers) = mpsc::unbounded_channel();
        thread::Builder::new()
            .name("evidence".to_owned())
            .stack_size(256 << 10)
            .spawn(move || answer_all(&open, &send, &mut answer))?;
        Ok(Self { questions, answers, pulse })
    }

    /// Asks; the answer comes through [`Self::answer`], or never: where there is no room, the core asks again later,
    /// and counts what stays unanswered.
    pub(super) fn ask(&self, request: Request) {
        self.put(Question::Core(request));
    }

    /// Asks whether the thread works, by the same way as the core does. To be called whenever the pulse asks for it.
    pub(super) fn ask_for_heartbeat(&self) {
        // Where there is no room, the answers to all the others will show it.
        self.put(Question::Heartbeat);
    }

    fn put(&self, question: Question) {
        if self.questions.try_send(question).is_ok() {
            self.pulse.question();
        } else {
            tracing::debug!("a question finds no room: too many suspects at once");
        }
    }

    /// The next answer to the core, if it is there already.
    pub(super) fn answered(&mut self) -> Option<(BootTime, Evidence)> {
        loop {
            let answer = self.answers.try_recv().ok()?;
            if let Some(answer) = self.take(answer) {
                return Some(answer);
            }
        }
    }

    /// The next answer to the core. Fails where none can come any more.
    pub(super) async fn answer(&mut self) -> Result<(BootTime, Evidence)> {
        loop {
            let Some(answer) = self.answers.recv().await else {
                bail!("the thread that looks at processes has ended: nothing can be judged any more");
            };
            if let Some(answer) = self.take(answer) {
                return Ok(answer);
            }
        }
    }

    /// Notes that an answer has come, and gives it where it is for the core.
    fn take(&self, answer: Answer) -> Option<(BootTime, Evidence)> {
        self.pulse.answer();
        match answer {
            Answer::Core(at, evidence) => return Some((at, *evidence)),
            Answer::Heartbeat(true) => self.pulse.works(Part::Evidence),
            Answer::Heartbeat(false) => self.pulse.is_unable(Part::Evidence, BLIND),
        }
        None
    }
}

fn answer_all(
    open: &Receiver<Question>,
    send: &mpsc::UnboundedSender<Answer>,
    answer: &mut impl FnMut(Question) -> Answer,
) {
    while let Ok(question) = open.recv() {
        if send.send(answer(question)).is_err() {
            return;
        }
    }
}

fn answer(question: &Question, scope: &Scope) -> Answer {
    match question {
        Question::Core(request) => {
            let mut evidence = host::answer(request);
            if let Evidence::Sweep { seen: Some(sweep) } = &mut evidence {
                scope.narrow(sweep);
            }
            Answer::Core(host::clock::now(), Box::new(evidence))
        }
        Question::Heartbeat => {
            let about_itself = host::answer(&Request::Program { tgid: std::process::id() });
            Answer::Heartbeat(matches!(about_itself, Evidence::Program { seen: Some(_), .. }))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc::channel, time::Duration};

    use super::*;
    use crate::health::{Failing, How};

    const SOON: Duration = Duration::from_millis(50);
    const EVER: Duration = Duration::from_secs(600);

    /// Does for the evidence what the pipeline does. The other parts always work.
    async fn round(collector: &mut Collector, pulse: &Pulse, patience: Duration) -> Vec<Failing> {
        let others = async {
            for part in [Part::Reader, Part::Http] {
                pulse.asked(part).await;
                pulse.works(part);
            }
            std::future::pending::<()>().await;
        };
        let evidence = async {
            pulse.asked(Part::Evidence).await;
            collector.ask_for_heartbeat();
            collector.answer().await.map(drop)
        };
        tokio::select! {
            failing = pulse.round(patience) => failing,
            () = others => unreachable!(),
            ended = evidence => { ended.unwrap(); unreachable!() }
        }
    }

    fn request() -> Request {
        Request::Program { tgid: 1 }
    }

    #[tokio::test]
    async fn the_thread_answers_for_itself_by_looking_at_proc() {
        let pulse = Pulse::default();
        let mut collector = Collector::start(Scope::default(), pulse.clone()).unwrap();
        assert_eq!(round(&mut collector, &pulse, EVER).await, []);
        assert_eq!(round(&mut collector, &pulse, EVER).await, []);
        assert_eq!(pulse.backlog(), (0, Duration::ZERO));
    }

    #[tokio::test]
    async fn a_question_that_hangs_is_seen_with_its_age_and_those_behind_it() {
        let pulse = Pulse::default();
        let (release, hang) = channel::<()>();
        let mut hangs = Some(hang);
        let mut collector = Collector::start_with(pulse.clone(), move |question| {
            if let Some(hang) = hangs.take_if(|_| matches!(question, Question::Core(_))) {
                hang.recv().unwrap();
            }
            answer(&question, &Scope::default())
        })
        .unwrap();
        assert_eq!(round(&mut collector, &pulse, EVER).await, [], "it works before");
        collector.ask(request());
        collector.ask(request());
        let failing = round(&mut collector, &pulse, SOON).await;
        assert!(
            matches!(failing.as_slice(), [Failing { part: Part::Evidence, how: How::Silent(_) }]),
            "{failing:?}"
        );
        // The heartbeat is a question too.
        let (unanswered, lag) = pulse.backlog();
        assert_eq!(unanswered, 3);
        assert!(lag >= SOON, "{lag:?}");
        release.send(()).unwrap();
        for _ in 0..2 {
            collector.answer().await.unwrap();
        }
        assert_eq!(round(&mut collector, &pulse, EVER).await, [], "it works again");
        // What is open now is younger.
        assert!(pulse.backlog().0 <= 1);
    }

    #[tokio::test]
    async fn a_thread_that_sees_nothing_is_not_at_work_though_it_answers() {
        let pulse = Pulse::default();
        let mut collector = Collector::start_with(pulse.clone(), |_| Answer::Heartbeat(false)).unwrap();
        let failing = round(&mut collector, &pulse, EVER).await;
        assert_eq!(failing, [Failing { part: Part::Evidence, how: How::Unable(BLIND) }]);
    }

    #[tokio::test]
    async fn the_end_of_the_thread_is_an_error() {
        let mut collector = Collector::start_with(Pulse::default(), |_| panic!("a defect")).unwrap();
        collector.ask(request());
        let error = collector.answer().await.unwrap_err();
        assert!(error.to_string().contains("has ended"), "{error}");
    }
}
