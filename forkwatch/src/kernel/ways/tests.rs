use super::{
    super::btf::synthetic::{Builder, VOID},
    *,
};

const TRACEPOINTS: [&str; 5] = [
    "sched_process_fork",
    "sched_process_exec",
    "sched_process_exit",
    "signal_generate",
    "inet_sock_set_state",
];
const SOCK_TRACEPOINTS: [&str; 2] = ["sock_send_length", "sock_recv_length"];
const FUNCTIONS: [&str; 4] = ["tcp_sendmsg", "unix_stream_sendmsg", "unix_stream_recvmsg", "unix_shutdown"];

/// A kernel whose `tcp_recvmsg` has so many arguments.
fn kernel(tracepoints: &[&str], functions: &[&str], arguments: usize) -> Vec<u8> {
    let mut builder = Builder::new();
    for name in tracepoints {
        builder.typedef(&format!("btf_trace_{name}"), VOID);
    }
    for name in functions {
        builder.wrap(Kind::Function, name, VOID);
    }
    let count = u32::try_from(arguments).unwrap();
    let prototype = builder.add(Kind::Prototype, "", count, 0, &vec![0; arguments * 2]);
    builder.wrap(Kind::Function, "tcp_recvmsg", prototype);
    builder.blob()
}

fn new_kernel() -> Vec<u8> {
    let functions = [&FUNCTIONS[..], &["kernel_clone"]].concat();
    kernel(&[&TRACEPOINTS[..], &SOCK_TRACEPOINTS[..]].concat(), &functions, 5)
}

fn find(blob: &[u8], has: impl Fn(&[&str]) -> bool, asked: &[Probe]) -> Probes {
    Probes::find(&Btf::parse(blob).unwrap(), has, asked)
}

/// The programs of the way that was found.
fn programs(probes: &Probes, probe: Probe) -> Vec<&'static str> {
    probes.way(probe).unwrap().programs.iter().map(|program| program.name).collect()
}

fn lacking(probes: &Probes, probe: Probe) -> NoProbe {
    probes.way(probe).unwrap_err().clone()
}

#[test]
fn a_new_kernel_is_watched_by_its_tracepoints() {
    let blob = new_kernel();
    let probes = find(&blob, |_| true, &[]);
    assert_eq!(lacking(&probes, Probe::UnixShutdown), NoProbe::Dear);
    assert_eq!(lacking(&probes, Probe::CloneCalls), NoProbe::NotAsked);
    assert_eq!(probes.names().1, [""; 0]);
    let probes = find(&blob, |_| true, &[Probe::CloneCalls]);
    assert!(programs(&probes, Probe::Sockets).contains(&"sock_send_length"));
    assert_eq!(programs(&probes, Probe::Signals), ["signal_generate"]);
    assert_eq!(programs(&probes, Probe::TcpShutdown), ["inet_sock_set_state"]);
    assert_eq!(programs(&probes, Probe::UnixShutdown), ["unix_shutdown"]);
    assert_eq!(programs(&probes, Probe::CloneCalls), ["clone_exit", "clone_entry"]);
    let (tracepoints, functions) = probes.names();
    assert!(tracepoints.contains(&"sock_recv_length"), "{tracepoints:?}");
    assert_eq!(functions, ["unix_shutdown", "kernel_clone"]);
}

#[test]
fn an_old_kernel_is_watched_by_its_functions() {
    for (arguments, program) in [(5, "tcp_receives"), (6, "tcp_receives_5_18")] {
        let probes = find(&kernel(&TRACEPOINTS, &FUNCTIONS, arguments), |_| true, &[]);
        assert!(programs(&probes, Probe::Sockets).contains(&program));
        let (_, functions) = probes.names();
        assert!(functions.contains(&"tcp_recvmsg") && functions.len() == 5, "{functions:?}");
    }
    let probes = find(&kernel(&TRACEPOINTS, &FUNCTIONS, 7), |_| true, &[]);
    let expected = NoProbe::Absent("function tcp_recvmsg of a known form".to_owned());
    assert_eq!(lacking(&probes, Probe::Sockets), expected);
}

#[test]
fn without_the_function_of_clone_calls_the_tracepoints_are_left() {
    let blob = kernel(&[&TRACEPOINTS[..], &SOCK_TRACEPOINTS[..]].concat(), &FUNCTIONS, 5);
    let probes = find(&blob, |_| true, &[Probe::CloneCalls]);
    assert_eq!(programs(&probes, Probe::CloneCalls), ["clone_sys_exit", "clone_sys_enter"]);
    assert_eq!(lacking(&probes, Probe::UnixShutdown), NoProbe::Dear);
}

#[test]
fn a_spare_way_is_for_a_kernel_that_refuses_the_first() {
    let ways = |probe| {
        let row = TABLE.iter().find(|row| row.probe == probe).unwrap();
        with_spares(row, row.ways.first().unwrap()).map(|way| way.programs.len()).collect::<Vec<_>>()
    };
    assert_eq!(ways(Probe::Signals), [1, 1]);
    assert_eq!(ways(Probe::CloneCalls), [2, 2]);
    assert_eq!(ways(Probe::Sockets), [5]);
}

#[test]
fn of_a_verifier_s_log_the_complaint_is_told() {
    let log = "12: (61) r1 = *(u32 *)(r6 +8)\nR6 invalid mem access 'scalar'\nverification time 9 usec\nprocessed 5 insns";
    assert_eq!(complaint(log), "R6 invalid mem access 'scalar'");
    assert_eq!(complaint(""), "");
}

#[test]
fn what_a_kernel_lacks_is_named() {
    let probes = find(&kernel(&[], &FUNCTIONS, 5), |_| true, &[]);
    let signals = lacking(&probes, Probe::Signals);
    assert_eq!(signals.to_string(), "this kernel has no tracepoint signal_generate");
    for probe in [Probe::Sockets, Probe::TcpShutdown, Probe::UnixShutdown] {
        assert!(matches!(lacking(&probes, probe), NoProbe::Absent(_)), "{probe:?}");
    }
}

#[test]
fn nothing_is_read_whose_place_is_unknown() {
    let blob = new_kernel();
    let without = |missing: &'static str| move |globals: &[&str]| !globals.contains(&missing);
    let probes = find(&blob, without("OFFSET_SOCKET_FILE"), &[]);
    assert_eq!(lacking(&probes, Probe::Sockets), NoProbe::Fields);
    let probes = find(&blob, without("OFFSET_SIGINFO_CODE"), &[]);
    assert_eq!(lacking(&probes, Probe::Signals), NoProbe::Fields);
    let uncounted = |globals: &[&str]| {
        !globals.iter().any(|global| global.starts_with("OFFSET_FILE_") && *global != "OFFSET_FILE_INODE")
    };
    let probes = find(&blob, uncounted, &[]);
    assert!(probes.way(Probe::Sockets).is_ok());
    assert_eq!(lacking(&probes, Probe::TcpShutdown), NoProbe::Fields);
    // Either way of counting will do.
    let probes = find(&blob, without("OFFSET_FILE_COUNT"), &[]);
    assert!(probes.way(Probe::TcpShutdown).is_ok());
}
