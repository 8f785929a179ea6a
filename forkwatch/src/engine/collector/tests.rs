use std::{
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use super::*;
use crate::{
    health::{Failing, How},
    host::clock,
};

const SOON: Duration = Duration::from_millis(50);
const EVER: Duration = Duration::from_secs(600);

/// Does for the evidence what the pipeline does. The other parts always work.
async fn round(collector: &mut Collector, pulse: &Pulse, patience: Duration) -> Vec<Failing> {
    let others = async {
        for part in [Part::Ring, Part::Http] {
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

/// A thread that answers each question by what `answer` says.
fn collector(pulse: &Pulse, mut answer: impl FnMut(&What) -> Answered + Send + 'static) -> Collector {
    let work = move |open: &Receiver<Asked>, send: mpsc::UnboundedSender<Told>| {
        while let Ok(Asked { number, what }) = open.recv() {
            if send.send(Told { number, what: answer(&what) }).is_err() {
                return;
            }
        }
    };
    Collector::start_with(pulse.clone(), work).unwrap()
}

fn well(what: &What) -> Answered {
    match what {
        What::Heartbeat => Answered::Heartbeat(Ok(())),
        _ => Answered::Core(clock::now(), Box::new(Evidence::Program { tgid: 1, seen: None })),
    }
}

#[tokio::test]
async fn a_question_that_hangs_is_seen_with_its_age_and_those_behind_it() {
    let pulse = Pulse::default();
    let (release, hang) = channel::<()>();
    let mut hangs = Some(hang);
    let mut collector = collector(&pulse, move |what| {
        if let Some(hang) = hangs.take_if(|_| matches!(what, What::Core(_))) {
            hang.recv().unwrap();
        }
        well(what)
    });
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
    const BLIND: &str = "it sees nothing";
    let pulse = Pulse::default();
    let mut collector = collector(&pulse, |_| Answered::Heartbeat(Err(BLIND)));
    let failing = round(&mut collector, &pulse, EVER).await;
    assert_eq!(failing, [Failing { part: Part::Evidence, how: How::Unable(BLIND) }]);
}

#[tokio::test]
async fn the_end_of_the_thread_is_an_error() {
    let mut collector = collector(&Pulse::default(), |_| panic!("a defect"));
    collector.ask(request());
    let error = collector.answer().await.unwrap_err();
    assert!(error.to_string().contains("has ended"), "{error}");
}

#[test]
fn who_waits_for_an_answer_is_not_kept_longer_than_its_patience() {
    let collector = collector(&Pulse::default(), well);
    let living = Question::Core(request());
    assert!(collector.asker().ask_now(living, SOON).is_none(), "nobody answered it");
}
