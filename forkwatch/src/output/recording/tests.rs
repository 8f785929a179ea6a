use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    model::{
        event::Event,
        leak::{Access, Descriptors, End, Held, Holder, Holders, Listener, Object, PipeWait, Rest, Service},
        process::{Comm, ProcessKey, Program},
        provenance::{Executable, Namespace, Owner, Provenance},
        seen::{ChildSeen, ExecedSeen, ParentSeen, ProgramSeen, ThreadsSeen},
        signals::SignalSet,
        thread::SeenThread,
    },
    output::{Context, samples},
};

fn header() -> Header {
    Header::new(&samples::context(), json!({"grace": 1_000_000_000_u64, "recheck": 100_000_000}))
}

fn record(inputs: &[Input]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, &header()).unwrap();
    for input in inputs {
        match input {
            Input::Reported { reported, question } => writer.reported(reported, *question).unwrap(),
            Input::Particulars { question, particulars } => {
                writer.particulars(*question, particulars).unwrap();
            }
            Input::Standing(standing) => writer.standing(standing).unwrap(),
            Input::Rescued(rescued) => writer.rescued(rescued).unwrap(),
            Input::Evidence { at, evidence } => writer.evidence(*at, evidence).unwrap(),
            Input::Advance(to) => writer.advance(*to).unwrap(),
            Input::Settings(settings) => writer.settings(settings.clone()).unwrap(),
            Input::End(at) => writer.end(*at).unwrap(),
        }
    }
    drop(writer);
    bytes
}

/// An event of which nobody wants to know more.
fn happened(event: Event) -> Input {
    Input::Reported { reported: event.into(), question: None }
}

fn particulars() -> impl Strategy<Value = Particulars> {
    prop_oneof![
        Just(Particulars::None),
        proptest::collection::vec(comms(), 0..4).prop_map(Particulars::ThreadNames),
        Just(Particulars::Limit(samples::limit())),
    ]
}

fn replay(bytes: &[u8]) -> Result<Vec<Input>, RecordingError> {
    Reader::new(bytes)?.collect()
}

fn comms() -> impl Strategy<Value = Comm> {
    proptest::collection::vec(any::<u8>(), 0..16).prop_map(|bytes| Comm::new(&bytes))
}

fn keys() -> impl Strategy<Value = ProcessKey> {
    any::<(u32, u64)>().prop_map(|(tgid, start)| ProcessKey { tgid, start: BootTime(start) })
}

fn programs() -> impl Strategy<Value = Program> {
    let texts = (any::<Option<String>>(), any::<Option<String>>(), any::<Option<String>>());
    (comms(), texts, proptest::collection::vec(any::<String>(), 0..4), any::<Option<u32>>()).prop_map(
        |(comm, (exe, unit, container), cmdline, uid)| Program {
            comm,
            exe: exe.map(Into::into),
            cmdline,
            unit,
            cgroup: container.clone(),
            container,
            uid,
            provenance: uid.map(|uid| Provenance {
                namespaces: (uid % 2 == 0).then(|| vec![Namespace::User, Namespace::Pid]),
                executable: Executable::Other,
                login: Some(uid),
            }),
        },
    )
}

fn rests() -> impl Strategy<Value = Rest> + Clone {
    (any::<(u32, u64, bool, u64)>(), any::<String>(), any::<Option<u64>>()).prop_map(
        |((threads, switches, stopped, caught), doing, inode)| Rest {
            threads,
            switches,
            stopped,
            caught: SignalSet(caught),
            doing,
            pipe: inode.map(|inode| PipeWait { inode, end: End::Write }),
        },
    )
}

fn descriptors() -> impl Strategy<Value = Descriptors> {
    (rests(), keys(), any::<Vec<u64>>()).prop_map(|(rest, parent, listeners)| {
        let at = BootTime(rest.switches);
        let (reparented, holds_other_end) = (rest.stopped, !rest.stopped);
        Descriptors {
            at,
            parent: Some(parent),
            reparented,
            rest,
            holds_other_end,
            forker_holds: reparented,
            kept: listeners.clone(),
            fed: listeners.clone(),
            forker_awaits: Some(parent.tgid),
            listeners,
        }
    })
}

fn holders() -> impl Strategy<Value = Holders> {
    (proptest::collection::vec((keys(), comms(), rests()), 0..3), any::<(bool, u32)>()).prop_map(
        |(holders, (complete, queue))| Holders {
            at: BootTime(u64::from(queue)),
            complete,
            hidden: vec![queue],
            holders: holders
                .into_iter()
                .map(|(process, comm, rest)| Holder {
                    process,
                    comm,
                    uid: Some(queue),
                    executable: Some(rest.doing.clone()),
                    parent: None,
                    reparented: complete,
                    unexeced: !complete,
                    held: vec![Held { fd: queue, access: Access::Both }],
                    rest,
                    service: complete.then_some(Service::Watched),
                    awaits: complete,
                    awaited_by: complete.then_some(queue),
                    wrote: Some(u64::from(queue)),
                })
                .collect(),
            elsewhere: false,
            listener: Some(Listener { address: "[::]:80".to_owned(), queue: Some(queue) }),
            program: Program::default(),
        },
    )
}

fn evidence() -> impl Strategy<Value = Evidence> {
    let parents =
        (any::<u64>(), programs(), proptest::collection::vec((any::<u32>(), comms()), 0..4), any::<u64>())
            .prop_map(|(at, program, threads, pending)| ParentSeen {
                at: BootTime(at),
                program,
                thread_count: u32::MAX,
                threads: threads.into_iter().map(|(tid, comm)| SeenThread { tid, comm }).collect(),
                pending: SignalSet(pending),
            });
    let execed = (any::<u64>(), programs(), proptest::option::of((keys(), programs())), any::<(u64, u64)>())
        .prop_map(|(at, program, parent, (blocked, awaited))| ExecedSeen {
            at: BootTime(at),
            program,
            parent,
            blocked: SignalSet(blocked),
            awaited: Some(SignalSet(awaited)),
        });
    let alive = (any::<(u64, Option<u64>, Option<u64>, bool)>(), comms()).prop_map(
        |((at, ran, waited, stopped), comm)| ChildSeen::Alive {
            at: BootTime(at),
            comm,
            ran,
            waited,
            stopped,
        },
    );
    let children = prop_oneof![
        Just(ChildSeen::Gone),
        Just(ChildSeen::Execed),
        any::<String>().prop_map(ChildSeen::Unreadable),
        alive
    ];
    prop_oneof![
        (keys(), proptest::option::of(parents)).prop_map(|(child, seen)| Evidence::Parent {
            child,
            ended: seen.is_none(),
            seen
        }),
        (keys(), children).prop_map(|(child, seen)| Evidence::Child { child, seen }),
        (keys(), proptest::option::of(descriptors())).prop_map(|(process, seen)| Evidence::Descriptors {
            process,
            lives: seen.is_some(),
            seen: seen.map(Box::new)
        }),
        (keys(), any::<u64>(), proptest::option::of(holders())).prop_map(|(process, inode, seen)| {
            Evidence::Holders { process, object: Object::Pipe(inode), seen: seen.map(Box::new) }
        }),
        (keys(), proptest::option::of(execed)).prop_map(|(process, seen)| Evidence::Execed { process, seen }),
        (keys(), programs(), any::<bool>()).prop_map(|(process, program, stopped)| Evidence::Program {
            tgid: process.tgid,
            seen: Some(Box::new(ProgramSeen { process, program, stopped })),
        }),
        (keys(), proptest::collection::vec(comms(), 0..4), any::<(u64, u64, Option<u64>)>()).prop_map(
            |(child, comms, (at, ran, moved))| Evidence::Threads {
                child,
                seen: Some(ThreadsSeen { at: BootTime(at), comms, ran, moved, places: Vec::new() }),
            }
        ),
    ]
}

fn inputs() -> impl Strategy<Value = Input> {
    let forks =
        (keys(), keys(), comms(), any::<(u64, u64)>()).prop_map(|(parent, child, comm, (at, blocked))| {
            let blocked = SignalSet(blocked);
            Event::Fork(crate::model::event::Fork {
                at: BootTime(at),
                parent,
                child,
                comm,
                blocked,
                ..samples::unsafe_fork()
            })
        });
    prop_oneof![
        (forks, any::<Option<u64>>())
            .prop_map(|(event, question)| Input::Reported { reported: event.into(), question }),
        proptest::sample::select(samples::events()).prop_map(happened),
        (any::<u64>(), particulars())
            .prop_map(|(question, particulars)| Input::Particulars { question, particulars }),
        any::<u32>().prop_map(|tgid| Input::Standing(samples::standing(tgid))),
        any::<u32>().prop_map(|tgid| Input::Rescued(samples::rescued(tgid))),
        any::<u64>().prop_map(|at| Input::End(BootTime(at))),
        (any::<u64>(), evidence()).prop_map(|(at, evidence)| Input::Evidence { at: BootTime(at), evidence }),
        any::<u64>().prop_map(|to| Input::Advance(BootTime(to))),
        any::<u32>().prop_map(|grace| Input::Settings(serde_json::json!({ "grace": grace }))),
    ]
}

proptest! {
    #[test]
    fn what_is_recorded_is_replayed(inputs in proptest::collection::vec(inputs(), 0..12)) {
        prop_assert_eq!(replay(&record(&inputs)).unwrap(), inputs);
    }

    #[test]
    fn a_recording_that_was_cut_anywhere_gives_its_whole_lines_and_says_where_it_ends(cut in 0_usize..2000) {
        let inputs: Vec<Input> = samples::events().into_iter().map(happened).collect();
        let bytes = record(&inputs);
        let cut = cut % bytes.len();
        let part = &bytes[..cut];
        let whole = part.split(|byte| *byte == b'\n').count() - 1;
        // Without its newline a line can still be whole.
        let lacks_newline_only = bytes[cut] == b'\n';
        match Reader::new(part) {
            Err(RecordingError::Empty) => prop_assert_eq!(cut, 0),
            Err(RecordingError::Truncated { line: 1 }) => prop_assert_eq!(whole, 0),
            Err(RecordingError::Foreign) => prop_assert!(cut < FAMILY.len() + 11),
            Err(error) => prop_assert!(false, "{error}"),
            Ok(mut reader) => {
                let good = reader.by_ref().take(whole.saturating_sub(1)).collect::<Result<Vec<_>, _>>().unwrap();
                prop_assert_eq!(&good[..], &inputs[..whole.saturating_sub(1)]);
                match reader.next() {
                    None => prop_assert!(part.ends_with(b"\n") || whole == 0),
                    Some(Ok(_)) => prop_assert!(lacks_newline_only),
                    Some(Err(RecordingError::Truncated { line })) => prop_assert_eq!(line, whole as u64 + 1),
                    Some(Err(error)) => prop_assert!(false, "{error}"),
                }
                prop_assert!(reader.next().is_none());
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut after_header = record(&[]);
        after_header.extend(&bytes);
        let _ = replay(&bytes);
        let _ = replay(&after_header);
    }
}

#[test]
fn the_header_tells_of_the_host_and_the_settings() {
    let bytes = record(&[]);
    let reader = Reader::new(&bytes[..]).unwrap();
    assert_eq!(*reader.header(), header());
    assert_eq!(reader.header().context(), samples::context());
    let unknown = Header::new(&Context::default(), json!({}));
    assert_eq!(unknown.context(), Context::default());
}

#[test]
fn what_is_no_recording_is_refused_with_a_hint() {
    let refusal = |text: &str| replay(text.as_bytes()).unwrap_err().to_string();
    assert!(refusal("").contains("empty"));
    for foreign in
        ["\x7fELF...", "{}\n", "[1]\n", "{\"format\":\"pcap\"}\n", "{\"schema\":\"forkwatch.event/1\"}\n"]
    {
        assert!(refusal(foreign).contains("not a recording of forkwatch"), "{foreign:?}");
    }
    let newer = refusal("{\"format\":\"forkwatch.recording/2\",\"x\":1}\n");
    assert!(newer.contains("forkwatch.recording/2") && newer.contains("a newer one"), "{newer}");
    let bare = refusal("{\"format\":\"forkwatch.recording/1\"}\n");
    assert!(bare.contains("line 1") && bare.contains("missing field"), "{bare}");
}

#[test]
fn a_broken_line_in_the_middle_is_told_from_a_cut_one() {
    let mut bytes = record(&[Input::Advance(BootTime(1))]);
    for (broken, reason) in [
        ("{\"advance\":2,\"at\":3}\n", "neither an event"),
        ("{\"advance\":2,\"end\":3}\n", "neither an event"),
        ("{\"advance\":2,\"question\":3}\n", "neither an event"),
        ("{\"particulars\":\"none\"}\n", "neither an event"),
        ("{\"advance\":\n", "EOF while parsing a value at column 11"),
        ("{\"retreat\":2}\n", "unknown field `retreat`"),
        ("\n", "EOF"),
    ] {
        let whole = bytes.len();
        bytes.extend(broken.as_bytes());
        bytes.extend(b"{\"advance\":4}\n");
        let message = replay(&bytes).unwrap_err().to_string();
        assert!(
            message.starts_with("line 3 of the recording is broken") && message.contains(reason),
            "{message}"
        );
        bytes.truncate(whole);
    }
}

#[test]
fn a_recording_of_a_version_that_noted_less_is_read_still() {
    let header = r#"{"format":"forkwatch.recording/1","version":"0.1.0","abi":1,"host_name":"h1","wall_offset":5,"settings":{}}"#;
    let event = serde_json::to_string(&samples::events()[0]).unwrap();
    let text = format!("{header}\n{{\"event\":{event}}}\n");
    let reader = Reader::new(text.as_bytes()).unwrap();
    let context = reader.header().context();
    assert_eq!((context.pid_max, context.began), (None, BootTime(0)));
    let inputs: Vec<Input> = reader.collect::<Result<_, _>>().unwrap();
    assert_eq!(inputs, [happened(samples::events().remove(0))]);
}

#[test]
fn an_observation_is_written_and_read_as_it_always_was() {
    let origin = r#""origin":{"cpu":1,"sequence":2},"at":3"#;
    let key = r#"{"tgid":7,"start":8}"#;
    let heir = format!(r#"{{{origin},"parent":{key},"child":{key},"comm":"sh","sockets":[],"more":false}}"#);
    let lines = [
        format!(
            r#"{{"event":{{"signal":{{{origin},"number":9,"target":{key},"sender_tgid":5,"comm":"sh"}}}}}}"#
        ),
        format!(
            r#"{{"event":{{"socket-use":{{{origin},"inode":18446744073709551615,"user":{{"process":{key},"parent_tgid":6,"unexeced":true}},"tid":7,"comm":"sh","act":"sent","bytes":10}}}}}}"#
        ),
        format!(r#"{{"event":{{"heir":{heir}}}}}"#),
        format!(r#"{{"event":{{"moved":{heir}}}}}"#),
        format!(r#"{{"event":{{"sharer-end":{{{origin},"process":{key},"execed":true}}}}}}"#),
    ];
    let header = String::from_utf8(record(&[])).unwrap();
    let text = format!("{header}{}\n", lines.join("\n"));
    let inputs = replay(text.as_bytes()).unwrap();
    assert_eq!(inputs.len(), lines.len());
    let is_observation = |input: &Input| {
        matches!(input, Input::Reported { reported: Reported::Observation(_), question: None })
    };
    assert!(inputs.iter().all(is_observation), "{inputs:?}");
    assert_eq!(String::from_utf8(record(&inputs)).unwrap(), text);
}

#[test]
fn what_earlier_versions_recorded_of_a_program_is_read_still() {
    let program = r#"{"comm":"nginx","exe":"/usr/sbin/nginx","cmdline":["nginx"],"unit":"nginx.service","cgroup":"/system.slice/nginx.service","uid":33}"#;
    let key = r#"{"tgid":7,"start":8}"#;
    let place = r#""symbol":"lock","stack":{"frames":[]},"blocks":[{"what":"waiter","pid":7,"name":"nginx","call":"wait4"}]"#;
    let locks = r#"{"at":1,"comm":"nginx","threads":1,"stopped":false,"waits":[],"caught":0,"python":false,"comparable":true}"#;
    let lines = [
        format!(
            r#"{{"evidence":{{"program":{{"tgid":7,"seen":{{"process":{key},"program":{program},"stopped":false}}}}}},"at":9}}"#
        ),
        format!(
            r#"{{"evidence":{{"place":{{"child":{key},"seen":{{"at":1,"program":{program},{place}}}}}}},"at":9}}"#
        ),
        format!(r#"{{"evidence":{{"locks":{{"child":{key},"seen":{{"alive":{locks}}}}}}},"at":9}}"#),
    ];
    for line in lines {
        let mut bytes = record(&[]);
        bytes.extend(line.as_bytes());
        bytes.push(b'\n');
        let inputs = replay(&bytes).unwrap_or_else(|error| panic!("{error}: {line}"));
        let programs = inputs.iter().filter_map(|input| match input {
            Input::Evidence { evidence: Evidence::Program { seen: Some(seen), .. }, .. } => {
                Some(&seen.program)
            }
            Input::Evidence { evidence: Evidence::Place { seen: Some(seen), .. }, .. } => Some(&seen.program),
            _ => None,
        });
        for program in programs {
            assert_eq!((program.provenance.as_ref(), program.owner()), (None, Owner::Host));
        }
        assert_eq!(inputs.len(), 1);
    }
}

#[test]
fn a_line_without_end_does_not_fill_the_memory() {
    let mut bytes = record(&[]);
    bytes.resize(bytes.len() + 3 * usize::try_from(MAX_LINE).unwrap(), b'[');
    assert!(matches!(replay(&bytes), Err(RecordingError::Corrupt { line: 2, .. })));
}
