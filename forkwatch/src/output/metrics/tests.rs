use std::{
    io::Write,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use forkwatch_ebpf::{Counters, fate, kind};

use super::{markdown::EMPTY, *};
use crate::{
    model::{
        event::ExitStatus,
        finding::{Certainty, Facts, Remedy, Severity, State},
        process::{Comm, ProcessKey, Program},
        resolution::Resolution,
        time::BootTime,
    },
    output::samples,
};

/// Sources whose counters a test changes between two scrapes.
#[derive(Default)]
struct Fake {
    copying: AtomicU64,
    broken: AtomicBool,
    statistics: bool,
    answering: Mutex<Answering>,
}

impl Sources for Arc<Fake> {
    fn kernel(&self) -> Result<KernelReading, Box<dyn Error + Send + Sync>> {
        if self.broken.load(Ordering::Relaxed) {
            return Err("map lookup: EPERM".into());
        }
        let mut counters: Counters = EMPTY;
        counters.events[usize::from(kind::COPYING)] = [7, self.copying.load(Ordering::Relaxed), 2, 1];
        counters.parent_threads = [1, 2, 0, 0, 0, 0, 0, 0, 0, 3];
        counters.parent_threads_sum = 1005;
        counters.exec_latency.buckets[1] = 4;
        counters.exec_latency.sum = 1_500_000_000;
        counters.clone_calls.failures = [5, 0, 0, 0, 6];
        Ok(KernelReading {
            counters,
            unexeced_children: 3,
            ring_size: 1 << 20,
            ring_used: 120,
            cgroups: vec![(9, CgroupCounts { copying: 4, sharing: 2 })],
            programs: Specimen.kernel()?.programs,
            statistics: self.statistics,
        })
    }

    fn answering(&self) -> Answering {
        self.answering.lock().unwrap().clone()
    }

    fn tasks_created(&self) -> Option<u64> {
        Some(123)
    }

    fn unit(&self, cgroup: u64) -> Option<String> {
        Some(format!("unit-{cgroup}.service"))
    }
}

use super::markdown::Specimen;

/// Every hazard that these tests name.
const HAZARDS: [HazardId; 3] =
    [HazardId::new("multithreaded-fork"), HazardId::new("orphaned-lock"), HazardId::new("pending-signals")];

fn options() -> Options {
    let hangs = vec![HazardId::new("orphaned-lock")];
    Options {
        max_series: 2,
        by_unit: true,
        clone_calls: true,
        hazards: HAZARDS.map(|hazard| (hazard, &Resolution::ALL[..])).to_vec(),
        hangs,
        given_up: &["child"],
    }
}

fn metrics() -> (Arc<Fake>, Metrics) {
    let fake = Arc::new(Fake { statistics: true, ..Fake::default() });
    (Arc::clone(&fake), Metrics::new(Box::new(fake), options()).unwrap())
}

fn finding(number: u64, program: &str, repeats: u64, state: State) -> Finding {
    let process = ProcessKey { tgid: 1, start: BootTime(1) };
    Finding {
        at: BootTime(2),
        number,
        hazard: HazardId::new("multithreaded-fork"),
        state,
        certainty: Certainty::Strong,
        severity: Severity::Warning,
        summary: String::new(),
        parent: process,
        program: Program { unit: Some("web.service".to_owned()), ..Program::default() },
        program_name: program.to_owned(),
        child: process,
        child_comm: Comm::default(),
        child_uid: None,
        facts: Facts::default(),
        remedy: Remedy { text: String::new(), link: String::new() },
        repeats,
    }
}

/// The value of a series, written as in the text format.
fn value(page: &str, series: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[track_caller]
fn assert_has(page: &str, series: &str, expected: f64) {
    assert_eq!(value(page, series), Some(expected), "{series} in\n{page}");
}

#[test]
fn a_scrape_reads_the_kernel_as_it_is_now() {
    let (fake, metrics) = metrics();
    let page = metrics.render().unwrap();
    assert_has(&page, "forkwatch_forks_total{kind=\"fork\"}", 10.0);
    fake.copying.store(50, Ordering::Relaxed);
    let page = metrics.render().unwrap();
    assert_has(&page, "forkwatch_forks_total{kind=\"fork\"}", 60.0);
    assert_has(&page, "forkwatch_forks_total{kind=\"worker\"}", 0.0);
    assert_has(&page, "forkwatch_kernel_tasks_created_total", 123.0);
    assert_has(&page, "forkwatch_unit_forks_total{unit=\"unit-9.service\",kind=\"sharing\"}", 2.0);
    assert_has(&page, "forkwatch_clone_call_failures_total{errno=\"other\"}", 6.0);
}

#[test]
fn seen_is_submitted_plus_filtered_plus_dropped() {
    let (fake, metrics) = metrics();
    fake.copying.store(100, Ordering::Relaxed);
    let page = metrics.render().unwrap();
    let sum = |family: &str| -> f64 {
        let start = format!("{family}{{");
        page.lines()
            .filter(|line| line.starts_with(&start))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    };
    assert_has(&page, "forkwatch_events_submitted_total{class=\"fork\"}", 100.0);
    assert_has(&page, "forkwatch_events_filtered_total{class=\"fork\"}", 7.0);
    assert_has(&page, "forkwatch_events_dropped_total{reason=\"ring-full\"}", 2.0);
    assert_has(&page, "forkwatch_events_dropped_total{reason=\"plain-shed\"}", 1.0);
    assert_eq!(fate::COUNT, 4);
    let [seen, submitted, filtered, dropped] = ["seen", "submitted", "filtered", "dropped"]
        .map(|name| sum(&format!("forkwatch_events_{name}_total")));
    assert!(
        (seen - 110.0).abs() < f64::EPSILON && (seen - submitted - filtered - dropped).abs() < f64::EPSILON
    );
}

#[test]
fn histograms_are_cumulative_and_in_base_units() {
    let page = metrics().1.render().unwrap();
    assert_has(&page, "forkwatch_parent_threads_bucket{le=\"1\"}", 1.0);
    assert_has(&page, "forkwatch_parent_threads_bucket{le=\"256\"}", 3.0);
    assert_has(&page, "forkwatch_parent_threads_bucket{le=\"+Inf\"}", 6.0);
    assert_has(&page, "forkwatch_parent_threads_count", 6.0);
    assert_has(&page, "forkwatch_parent_threads_sum", 1005.0);
    assert_has(&page, "forkwatch_fork_to_exec_duration_seconds_bucket{le=\"0.0001\"}", 0.0);
    assert_has(&page, "forkwatch_fork_to_exec_duration_seconds_bucket{le=\"0.00025\"}", 4.0);
    assert_has(&page, "forkwatch_fork_to_exec_duration_seconds_sum", 1.5);
}

#[test]
fn findings_are_counted_once_and_repeats_by_their_number() {
    let (_, metrics) = metrics();
    metrics.finding(&finding(1, "gunicorn", 0, State::Suspected));
    metrics.finding(&finding(1, "gunicorn", 0, State::Confirmed));
    metrics.finding(&finding(2, "gunicorn", 8, State::Suspected));
    metrics.finding(&finding(1, "gunicorn", 0, State::Resolved(Resolution::Killed)));
    metrics.finding_suppressed(HazardId::new("pending-signals"));
    let page = metrics.render().unwrap();
    let hazard = "hazard=\"multithreaded-fork\"";
    assert_has(&page, &format!("forkwatch_findings_total{{{hazard},certainty=\"strong\"}}"), 9.0);
    assert_has(&page, &format!("forkwatch_findings_total{{{hazard},certainty=\"certain\"}}"), 0.0);
    assert_has(&page, &format!("forkwatch_findings_resolved_total{{{hazard},how=\"killed\"}}"), 1.0);
    assert_has(&page, "forkwatch_findings_suppressed_total{hazard=\"pending-signals\"}", 1.0);
}

#[test]
fn programs_beyond_the_limit_are_other() {
    let (_, metrics) = metrics();
    for program in ["a", "b", "c", "d", "a"] {
        metrics.unsafe_fork(HazardId::new("multithreaded-fork"), program, Some("web.service"), Some(33));
    }
    let page = metrics.render().unwrap();
    let series = |program: &str, unit: &str| {
        format!(
            "forkwatch_unsafe_forks_total{{hazard=\"multithreaded-fork\",program=\"{program}\",unit=\"{unit}\"}}"
        )
    };
    assert_has(&page, &series("a", "web.service"), 2.0);
    assert_has(&page, &series("b", "web.service"), 1.0);
    assert_has(&page, &series("other", "other"), 2.0);
    assert_eq!(value(&page, &series("c", "web.service")), None);
    assert_has(&page, "forkwatch_metrics_series_limited_total", 2.0);
}

#[test]
fn one_users_names_push_nobody_else_into_other() {
    let (_, metrics) = metrics();
    for number in 0..50 {
        let program = format!("uid 1000's p{number}");
        metrics.unsafe_fork(
            HazardId::new("multithreaded-fork"),
            &program,
            Some("user@1000.service"),
            Some(1000),
        );
    }
    let unsafe_fork =
        || metrics.unsafe_fork(HazardId::new("pending-signals"), "gunicorn", Some("web.service"), Some(33));
    unsafe_fork();
    metrics.unsafe_fork(
        HazardId::new("multithreaded-fork"),
        "uid 1000's new",
        Some("user@1000.service"),
        Some(1000),
    );
    unsafe_fork();
    let page = metrics.render().unwrap();
    let series = |hazard: &str, program: &str, unit: &str| {
        format!("forkwatch_unsafe_forks_total{{hazard=\"{hazard}\",program=\"{program}\",unit=\"{unit}\"}}")
    };
    assert_has(&page, &series("pending-signals", "gunicorn", "web.service"), 2.0);
    assert_has(&page, &series("pending-signals", "other", "other"), 0.0);
    assert_has(&page, &series("multithreaded-fork", "uid 1000's p1", "user@1000.service"), 1.0);
    assert_eq!(value(&page, &series("multithreaded-fork", "uid 1000's p0", "user@1000.service")), None);
    assert_has(&page, &series("multithreaded-fork", "other", "other"), 49.0);
}

#[test]
fn what_cannot_be_known_is_absent_not_zero() {
    let (fake, metrics) = metrics();
    fake.broken.store(true, Ordering::Relaxed);
    let page = metrics.render().unwrap();
    assert!(!page.contains("forkwatch_forks_total") && !page.contains("forkwatch_last_event"), "{page}");
    assert_has(&page, "forkwatch_kernel_read_failures_total", 1.0);

    let quiet = Metrics::new(
        Box::new(Arc::new(Fake::default())),
        Options { max_series: 1, by_unit: false, clone_calls: false, given_up: &[], ..options() },
    )
    .unwrap();
    let page = quiet.render().unwrap();
    assert_has(&page, "forkwatch_bpf_statistics_enabled", 0.0);
    for absent in ["clone_call", "unit_forks_total{"] {
        assert!(!page.contains(absent), "{absent} in\n{page}");
    }
}

#[test]
fn the_user_side_tells_of_itself() {
    let (_, metrics) = metrics();
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1500);
    metrics.events_received(3, at);
    metrics.events_malformed(1);
    metrics.event_file_lost(2);
    metrics.config_reloaded(true, at);
    metrics.config_reloaded(false, SystemTime::now());
    metrics.detector("clone-calls", DetectorState::Off, RestsOn::default());
    metrics.clone_call_failed(11, "pids.max");
    let killed = ExitStatus::Signal { number: 9, core_dumped: false };
    metrics.child_ended(&samples::exit(1, 2, 0, "x", killed));
    metrics.child_ended(&samples::exit(1, 2, 0, "x", ExitStatus::Code(0)));
    let page = metrics.render().unwrap();
    assert_has(&page, "forkwatch_events_received_total", 3.0);
    assert_has(&page, "forkwatch_events_malformed_total", 1.0);
    assert_has(&page, "forkwatch_event_file_dropped_total", 2.0);
    assert_has(&page, "forkwatch_children_failed_total{how=\"SIGKILL\"}", 1.0);
    assert_has(&page, "forkwatch_children_failed_total{how=\"code\"}", 0.0);
    assert_has(&page, "forkwatch_last_event_timestamp_seconds", 1.5);
    assert_has(&page, "forkwatch_config_last_reload_successful", 0.0);
    assert_has(&page, "forkwatch_config_last_reload_success_timestamp_seconds", 1.5);
    assert_has(&page, "forkwatch_detector_enabled{detector=\"clone-calls\"}", 0.0);
    assert_has(&page, "forkwatch_clone_call_failure_causes_total{errno=\"EAGAIN\",cause=\"pids.max\"}", 1.0);
    assert!(
        page.contains("process_resident_memory_bytes ") && page.contains("forkwatch_build_info{version=")
    );
}

#[test]
fn the_table_lists_every_family_once_with_its_meaning() {
    let table = markdown().unwrap();
    let (_, metrics) = metrics();
    let page = metrics.render().unwrap();
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap();
        assert_eq!(table.matches(&format!("| `{name}` |")).count(), 1, "{name} in\n{table}");
        assert!(page.contains(&format!("# HELP {name} ")), "{name} has no help");
    }
    assert!(table.contains("| `hazard`, `program`, `unit` |"));
}

#[test]
fn a_detector_works_only_while_the_parts_that_it_rests_on_answer() {
    let (fake, metrics) = metrics();
    let asks = RestsOn { answers: true, ..RestsOn::default() };
    let told = RestsOn { late_sleepers: Some(DetectorState::Limited), ..asks };
    metrics.detector("orphaned-lock", DetectorState::On, told);
    metrics.detector("pinned-listener", DetectorState::Undecided, told);
    metrics.detector("clone-calls", DetectorState::Limited, RestsOn::default());
    let enabled = |page: &str, detector: &str| {
        value(page, &format!("forkwatch_detector_enabled{{detector=\"{detector}\"}}")).unwrap()
    };
    let state = |page: &str, detector: &str| {
        let is_in = |state: &&str| {
            value(page, &format!("forkwatch_detector_state{{detector=\"{detector}\",state=\"{state}\"}}"))
                .unwrap()
                > 0.5
        };
        ["on", "limited", "undecided", "off", "stalled"]
            .into_iter()
            .filter(is_in)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let all = |page: &str| {
        ["orphaned-lock", "pinned-listener", "clone-calls"]
            .map(|detector| (enabled(page, detector) > 0.5, state(page, detector)))
    };
    let is = |works, state: &str| (works, state.to_owned());
    assert_eq!(
        all(&metrics.render().unwrap()),
        [is(true, "on"), is(false, "undecided"), is(true, "limited")]
    );

    let hang = |failing: &[Part]| {
        let failing = failing.to_vec();
        *fake.answering.lock().unwrap() = Answering {
            failing,
            unanswered: 7,
            lag: Duration::from_millis(2500),
            unreadable: 3,
            lost_readers: 2,
            replaced_readers: 5,
            sleepers_are_late: false,
        };
        metrics.render().unwrap()
    };
    let page = hang(&[Part::Evidence]);
    assert_eq!(all(&page), [is(false, "stalled"), is(false, "undecided"), is(true, "limited")]);
    assert_has(&page, "forkwatch_part_answers{part=\"evidence\"}", 0.0);
    assert_has(&page, "forkwatch_part_answers{part=\"ring\"}", 1.0);
    assert_has(&page, "forkwatch_evidence_unanswered_questions", 7.0);
    assert_has(&page, "forkwatch_unreadable_processes", 3.0);
    assert_has(&page, "forkwatch_lost_readers", 2.0);
    assert_has(&page, "forkwatch_readers_replaced_total", 5.0);
    assert_has(&page, "forkwatch_evidence_lag_seconds", 2.5);
    let page = hang(&[Part::Ring]);
    assert_eq!(all(&page), [is(false, "stalled"), is(false, "undecided"), is(false, "stalled")]);
    fake.answering.lock().unwrap().sleepers_are_late = true;
    fake.answering.lock().unwrap().failing.clear();
    let late = metrics.render().unwrap();
    assert_eq!(all(&late), [is(true, "limited"), is(false, "undecided"), is(true, "limited")]);
    // Who reads this page is answered, whatever else is not.
    assert_eq!(all(&hang(&[Part::Http])), [is(true, "on"), is(false, "undecided"), is(true, "limited")]);
}

#[test]
fn stuck_children_that_nobody_looks_at_are_unknown_and_not_gone() {
    let (fake, metrics) = metrics();
    let stuck = |page: &str, state: &str| {
        value(page, &format!("forkwatch_stuck_children{{hazard=\"orphaned-lock\",state=\"{state}\"}}"))
    };
    metrics.stuck(HazardId::new("orphaned-lock"), 2, 1, None);
    let page = metrics.render().unwrap();
    assert_eq!((stuck(&page, "confirmed"), stuck(&page, "unknown")), (Some(2.0), Some(1.0)));
    fake.answering.lock().unwrap().failing = vec![Part::Evidence];
    let page = metrics.render().unwrap();
    assert_eq!((stuck(&page, "confirmed"), stuck(&page, "unknown")), (Some(0.0), Some(3.0)));
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let (_, metrics) = metrics();
    metrics.events_received(1, SystemTime::now());
    metrics.config_reloaded(true, SystemTime::now());
    metrics.unsafe_fork(HazardId::new("multithreaded-fork"), "a\"b\\c\nd\u{1b}", None, None);
    metrics.detector(
        "multithreaded-fork",
        DetectorState::On,
        RestsOn { answers: true, ..RestsOn::default() },
    );
    // `cargo xtask test` says where it is.
    let program = std::env::var_os("FORKWATCH_PROMTOOL").unwrap_or_else(|| "promtool".into());
    let spawned = Command::new(program)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = spawned else {
        return crate::skip::skip("promtool is not installed (Debian package prometheus)");
    };
    promtool.stdin.take().unwrap().write_all(metrics.render().unwrap().as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let complaints = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert!(output.status.success() && complaints.is_empty(), "{complaints}");
}
