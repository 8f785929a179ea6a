use std::collections::HashMap;
use std::path::Path;

use proptest::prelude::*;

use super::super::btf::synthetic::{Builder, VOID};
use super::super::btf::{KERNEL_BTF, read};
use super::*;

/// Layouts of recorded kernels: a column each.
const RECORDED: &str = include_str!("recorded.txt");

/// The members of the synthetic kernels and their types, in the notation of [`type_named`].
const MEMBERS: [(&str, &str); 52] = [
    ("task_struct.flags", "u32"),
    ("task_struct.mm", "*mm_struct"),
    ("task_struct.exit_code", "u32"),
    ("task_struct.pid", "pid_t"),
    ("task_struct.tgid", "pid_t"),
    ("task_struct.real_parent", "*task_struct"),
    ("task_struct.group_leader", "*task_struct"),
    ("task_struct.thread_pid", "*pid"),
    ("task_struct.start_boottime", "u64"),
    ("task_struct.comm", "char[16]"),
    ("task_struct.self_exec_id", "u64"),
    ("task_struct.parent_exec_id", "u64"),
    ("task_struct.__state", "u32"),
    ("task_struct.nvcsw", "u64"),
    ("task_struct.nivcsw", "u64"),
    ("bpf_iter_meta.seq", "*seq_file"),
    ("task_struct.signal", "*signal_struct"),
    ("task_struct.blocked", "sigset_t"),
    ("task_struct.pending", "sigpending"),
    ("task_struct.cgroups", "*css_set"),
    ("signal_struct.live", "atomic_t"),
    ("signal_struct.nr_threads", "u32"),
    ("signal_struct.shared_pending", "sigpending"),
    ("signal_struct.group_exit_code", "u32"),
    ("signal_struct.flags", "u32"),
    ("css_set.dfl_cgrp", "*cgroup"),
    ("cgroup.kn", "*kernfs_node"),
    ("kernfs_node.id", "u64"),
    ("kernfs_node.parent", "*kernfs_node"),
    ("pid.level", "u32"),
    ("kernel_siginfo.si_code", "u32"),
    ("sock.sk_socket", "*socket"),
    ("socket.file", "*file"),
    ("file.f_inode", "*inode"),
    ("file.f_count", "atomic_long_t"),
    ("inode.i_ino", "u64"),
    ("task_struct.files", "*files_struct"),
    ("files_struct.fdt", "*fdtable"),
    ("fdtable.max_fds", "u32"),
    ("fdtable.fd", "**file"),
    ("sock.__sk_common", "sock_common"),
    ("sock.sk_protocol", "u16"),
    ("tcp_sock.write_seq", "u32"),
    ("tcp_sock.copied_seq", "u32"),
    ("unix_sock.peer", "*sock"),
    ("unix_sock.addr", "*unix_address"),
    ("unix_address.name", "sockaddr_un[]"),
    ("socket.type", "u16"),
    ("socket.sk", "*sock"),
    ("file.f_op", "*file_operations"),
    ("file.private_data", "*"),
    ("inode.i_mode", "u16"),
];

/// Those that not every start needs, which are not recorded: structs of 512 bytes, and a place that
/// disturbs nothing.
const ON_DEMAND: [(&str, u32); 23] = [
    ("bpf_iter_meta.seq", 8),
    ("kernfs_node.parent", 8),
    ("kernel_siginfo.si_code", 8),
    ("sock.sk_socket", 400),
    ("socket.file", 16),
    ("file.f_inode", 32),
    ("file.f_count", 56),
    ("inode.i_ino", 64),
    ("files_struct.fdt", 32),
    ("fdtable.max_fds", 0),
    ("fdtable.fd", 8),
    ("sock.__sk_common", 0),
    ("sock.sk_protocol", 410),
    ("tcp_sock.write_seq", 300),
    ("tcp_sock.copied_seq", 304),
    ("unix_sock.peer", 200),
    ("unix_sock.addr", 208),
    ("unix_address.name", 8),
    ("socket.type", 4),
    ("socket.sk", 24),
    ("file.f_op", 40),
    ("file.private_data", 48),
    ("inode.i_mode", 0),
];

/// Their structs.
const STRUCTURES: [&str; 17] = [
    "task_struct",
    "bpf_iter_meta",
    "signal_struct",
    "css_set",
    "cgroup",
    "kernfs_node",
    "pid",
    "kernel_siginfo",
    "files_struct",
    "fdtable",
    "tcp_sock",
    "unix_sock",
    "unix_address",
    "sock",
    "socket",
    "file",
    "inode",
];

/// The globals and the recorded offsets that add up to each.
const GLOBALS: [(&str, &[&str]); 53] = [
    ("OFFSET_TASK_FLAGS", &["task_struct.flags"]),
    ("OFFSET_TASK_MM", &["task_struct.mm"]),
    ("OFFSET_TASK_EXIT_CODE", &["task_struct.exit_code"]),
    ("OFFSET_TASK_PID", &["task_struct.pid"]),
    ("OFFSET_TASK_TGID", &["task_struct.tgid"]),
    ("OFFSET_TASK_LEADER", &["task_struct.group_leader"]),
    ("OFFSET_TASK_REAL_PARENT", &["task_struct.real_parent"]),
    ("OFFSET_TASK_THREAD_PID", &["task_struct.thread_pid"]),
    ("OFFSET_TASK_START", &["task_struct.start_boottime"]),
    ("OFFSET_TASK_COMM", &["task_struct.comm"]),
    ("OFFSET_TASK_SELF_EXEC_ID", &["task_struct.self_exec_id"]),
    ("OFFSET_TASK_PARENT_EXEC_ID", &["task_struct.parent_exec_id"]),
    ("OFFSET_TASK_SIGNAL", &["task_struct.signal"]),
    ("OFFSET_TASK_BLOCKED", &["task_struct.blocked"]),
    ("OFFSET_TASK_PENDING", &["task_struct.pending", "sigpending.signal"]),
    ("OFFSET_TASK_CGROUPS", &["task_struct.cgroups"]),
    ("OFFSET_TASK_STATE", &["task_struct.__state"]),
    ("OFFSET_TASK_SWITCHES", &["task_struct.nvcsw"]),
    ("OFFSET_TASK_FORCED_SWITCHES", &["task_struct.nivcsw"]),
    ("OFFSET_ITERATION_OUTPUT", &["bpf_iter_meta.seq"]),
    ("OFFSET_SIGNAL_LIVE", &["signal_struct.live"]),
    ("OFFSET_SIGNAL_NR_THREADS", &["signal_struct.nr_threads"]),
    ("OFFSET_SIGNAL_SHARED_PENDING", &["signal_struct.shared_pending", "sigpending.signal"]),
    ("OFFSET_SIGNAL_FLAGS", &["signal_struct.flags"]),
    ("OFFSET_SIGNAL_GROUP_EXIT_CODE", &["signal_struct.group_exit_code"]),
    ("OFFSET_CSS_SET_DFL_CGRP", &["css_set.dfl_cgrp"]),
    ("OFFSET_CGROUP_KN", &["cgroup.kn"]),
    ("OFFSET_KERNFS_ID", &["kernfs_node.id"]),
    ("OFFSET_KERNFS_PARENT", &["kernfs_node.parent"]),
    ("OFFSET_PID_LEVEL", &["pid.level"]),
    ("OFFSET_PID_NUMBERS", &["pid.numbers"]),
    ("OFFSET_UPID_NR", &["upid.nr"]),
    ("OFFSET_SIGINFO_CODE", &["kernel_siginfo.si_code"]),
    ("OFFSET_SOCK_SOCKET", &["sock.sk_socket"]),
    ("OFFSET_SOCKET_FILE", &["socket.file"]),
    ("OFFSET_FILE_INODE", &["file.f_inode"]),
    ("OFFSET_FILE_COUNT", &["file.f_count"]),
    ("OFFSET_INODE_NUMBER", &["inode.i_ino"]),
    ("OFFSET_TASK_FILES", &["task_struct.files"]),
    ("OFFSET_FILES_TABLE", &["files_struct.fdt"]),
    ("OFFSET_TABLE_SIZE", &["fdtable.max_fds"]),
    ("OFFSET_TABLE_FILES", &["fdtable.fd"]),
    ("OFFSET_SOCK_PROTOCOL", &["sock.sk_protocol"]),
    ("OFFSET_TCP_WRITTEN", &["tcp_sock.write_seq"]),
    ("OFFSET_TCP_TAKEN", &["tcp_sock.copied_seq"]),
    ("OFFSET_UNIX_PEER", &["unix_sock.peer"]),
    ("OFFSET_UNIX_ADDRESS", &["unix_sock.addr"]),
    ("OFFSET_ADDRESS_NAME", &["unix_address.name"]),
    ("OFFSET_SOCKET_TYPE", &["socket.type"]),
    ("OFFSET_SOCKET_SOCK", &["socket.sk"]),
    ("OFFSET_FILE_OPERATIONS", &["file.f_op"]),
    ("OFFSET_FILE_PRIVATE", &["file.private_data"]),
    ("OFFSET_INODE_MODE", &["inode.i_mode"]),
];

/// Size of `struct upid` on 64-bit kernels: an int, padding, a pointer. Not recorded.
const UPID_SIZE: u32 = 16;

/// One kernel: offset and size by `struct.member`, or by `struct` for its size alone.
type Column = HashMap<String, (u32, u32)>;

/// The recorded kernels, with what the record lacks: the exec ids, the state and the switches stand where they disturb
/// nothing else, not where those kernels have them, and structs of unknown size are given one that is large enough.
fn columns() -> Vec<(String, Column)> {
    let mut lines = RECORDED.lines().filter(|line| !line.starts_with('#')).map(str::split_whitespace);
    let names = lines.next().unwrap().skip(1);
    let mut columns: Vec<_> = names.map(|name| (name.to_owned(), Column::new())).collect();
    for mut line in lines {
        let field = line.next().unwrap();
        for ((_, column), place) in columns.iter_mut().zip(line) {
            let (offset, size) = place.split_once('/').unwrap();
            column.insert(field.to_owned(), (offset.parse().unwrap(), size.parse().unwrap()));
        }
    }
    for (_, column) in &mut columns {
        let end = column["task_struct"].1;
        column.insert("task_struct.self_exec_id".to_owned(), (end - 16, 8));
        column.insert("task_struct.parent_exec_id".to_owned(), (end - 8, 8));
        column.insert("task_struct.nvcsw".to_owned(), (end - 24, 8));
        column.insert("task_struct.nivcsw".to_owned(), (end - 32, 8));
        column.insert("task_struct.__state".to_owned(), (end - 40, 4));
        column.insert("task_struct.files".to_owned(), (end - 48, 8));
        for structure in ["css_set", "cgroup", "kernfs_node", "pid"] {
            column.insert(structure.to_owned(), (0, 512));
        }
        for (member, offset) in ON_DEMAND {
            column.insert(member.to_owned(), (offset, 8));
            column.insert(member.split('.').next().unwrap().to_owned(), (0, 512));
        }
    }
    columns
}

/// The newest recorded kernel.
fn recent() -> Column {
    columns().into_iter().find(|(name, _)| name == "7.2.13").unwrap().1
}

/// A member of a synthetic kernel: `struct.member`, its type and its offset.
type Row = (String, &'static str, u32);

fn rows(column: &Column) -> Vec<Row> {
    MEMBERS.iter().map(|&(member, kind)| (member.to_owned(), kind, column[member].0)).collect()
}

/// Type information of a kernel with these members.
fn kernel(column: &Column, rows: &[Row]) -> Vec<u8> {
    let mut builder = Builder::new();
    let upid_nr = builder.int("int", 4);
    let upid = builder.structure("upid", UPID_SIZE, &[("nr", upid_nr, column["upid.nr"].0)]);
    let (offset, size) = column["pid.numbers"];
    let numbers = (builder.array(upid, size / UPID_SIZE), offset);
    for structure in STRUCTURES {
        let mut members = Vec::new();
        for (member, kind, offset) in rows {
            if let Some(name) = member.strip_prefix(structure).and_then(|rest| rest.strip_prefix('.')) {
                members.push((name, type_named(&mut builder, kind, column), *offset));
            }
        }
        if structure == "pid" {
            members.push(("numbers", numbers.0, numbers.1));
        }
        builder.structure(structure, column[structure].1, &members);
    }
    builder.blob()
}

/// Adds a type: `*x` is a pointer to `const struct x`.
fn type_named(builder: &mut Builder, name: &str, column: &Column) -> TypeId {
    if name == "*" {
        return builder.pointer(VOID);
    }
    if let Some(target) = name.strip_prefix("**") {
        let target = builder.wrap(Kind::Forward, target, VOID);
        let target = builder.pointer(target);
        return builder.pointer(target);
    }
    if let Some(target) = name.strip_prefix('*') {
        let target = builder.wrap(Kind::Forward, target, VOID);
        let target = builder.wrap(Kind::Const, "", target);
        return builder.pointer(target);
    }
    match name {
        "u32" => builder.int(name, 4),
        "u64" => builder.int(name, 8),
        "u16" => builder.int(name, 2),
        "sock_common" => {
            let (family, state) = (builder.int("u16", 2), builder.int("u8", 1));
            builder.structure(name, 32, &[("skc_family", family, 16), ("skc_state", state, 18)])
        }
        "sockaddr_un[]" => {
            let short = builder.int("u16", 2);
            let address = builder.structure("sockaddr_un", 110, &[("sun_family", short, 0)]);
            builder.array(address, 0)
        }
        "u32:3" => builder.partial_int("u32", 4, 3),
        "pid_t" => {
            let int = builder.int("int", 4);
            builder.typedef(name, int)
        }
        "char[16]" => {
            let char = builder.int("char", 1);
            builder.array(char, 16)
        }
        "atomic_long_t" | "file_ref_t" => {
            let long = builder.int("long", 8);
            let mut inner = builder.structure("", 8, &[("counter", long, 0)]);
            if name == "file_ref_t" {
                inner = builder.structure("", 8, &[("refcnt", inner, 0)]);
            }
            builder.typedef(name, inner)
        }
        "atomic_t" => {
            let int = builder.int("int", 4);
            let member = if name == "atomic_t" { "counter" } else { "val" };
            let anonymous = builder.structure("", 4, &[(member, int, 0)]);
            builder.typedef(name, anonymous)
        }
        "sigset_t" => {
            let long = builder.int("unsigned long", 8);
            let words = builder.array(long, 1);
            let anonymous = builder.structure("", 8, &[("sig", words, 0)]);
            builder.typedef(name, anonymous)
        }
        "sigpending" => {
            let set = type_named(builder, "sigset_t", column);
            builder.structure(name, 24, &[("signal", set, column["sigpending.signal"].0)])
        }
        _ => panic!("no type {name}"),
    }
}

fn resolve(blob: &[u8]) -> Result<HashMap<&'static str, u32>, LayoutError> {
    Ok(Layout::resolve(&Btf::parse(blob).unwrap())?.globals().collect())
}

/// The problems of a recent kernel after a change to its members.
fn problems(change: impl FnOnce(&mut Vec<Row>)) -> Vec<String> {
    let column = recent();
    let mut rows = rows(&column);
    change(&mut rows);
    let problems = resolve(&kernel(&column, &rows)).unwrap_err().problems;
    problems.iter().map(Problem::to_string).collect()
}

/// The problem if that member is of that type.
fn problem_with(member: &str, kind: &'static str) -> String {
    let problems = problems(|rows| rows.iter_mut().find(|row| row.0 == member).unwrap().1 = kind);
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.concat()
}

#[test]
fn every_recorded_kernel_resolves_to_its_offsets() {
    let columns = columns();
    assert_eq!(columns.len(), 14);
    for (name, column) in columns {
        let layout = resolve(&kernel(&column, &rows(&column))).unwrap();
        for (global, parts) in GLOBALS {
            let expected: u32 = parts.iter().map(|part| column[*part].0).sum();
            assert_eq!(layout[global], expected, "{global} on {name}");
        }
        assert_eq!(layout["SIZE_UPID"], UPID_SIZE);
        assert_eq!(layout["OFFSET_FILE_REF"], ABSENT);
        assert_eq!(layout["OFFSET_TASK_LONG_STATE"], ABSENT);
        assert_eq!((layout["OFFSET_SOCK_FAMILY"], layout["OFFSET_SOCK_STATE"]), (16, 18));
        assert_eq!(layout.len(), GLOBALS.len() + 5, "no global is without a test");
    }
}

#[test]
fn the_table_names_each_global_once_and_keeps_structs_together() {
    let structures: Vec<_> = FIELDS.chunk_by(|one, next| one.structure == next.structure).collect();
    let mut names: Vec<_> = structures.iter().map(|fields| fields[0].structure).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), structures.len());
    let mut globals: Vec<_> = FIELDS.iter().map(|field| field.global).collect();
    globals.sort_unstable();
    globals.dedup();
    assert_eq!(globals.len(), FIELDS.len());
}

#[test]
fn a_field_is_found_under_an_older_name() {
    let column = recent();
    let mut rows = rows(&column);
    rows.iter_mut().find(|row| row.0.ends_with("start_boottime")).unwrap().0 =
        "task_struct.real_start_time".into();
    let layout = resolve(&kernel(&column, &rows)).unwrap();
    assert_eq!(layout["OFFSET_TASK_START"], column["task_struct.start_boottime"].0);
}

#[test]
fn a_count_of_references_is_found_in_either_shape() {
    let column = recent();
    let mut rows = rows(&column);
    let row = rows.iter_mut().find(|row| row.0 == "file.f_count").unwrap();
    (row.0, row.1) = ("file.f_ref".into(), "file_ref_t");
    let layout = resolve(&kernel(&column, &rows)).unwrap();
    assert_eq!((layout["OFFSET_FILE_COUNT"], layout["OFFSET_FILE_REF"]), (ABSENT, 56));
}

#[test]
fn what_only_programs_on_demand_read_may_be_unlike_what_is_known() {
    let column = recent();
    let mut rows = rows(&column);
    rows.iter_mut().find(|row| row.0 == "inode.i_ino").unwrap().1 = "u32";
    let blob = kernel(&column, &rows);
    let layout = Layout::resolve(&Btf::parse(&blob).unwrap()).unwrap();
    assert!(!layout.has(&["OFFSET_FILE_INODE", "OFFSET_INODE_NUMBER"]) && layout.has(&["OFFSET_FILE_INODE"]));
    assert_eq!(layout.absent(), [""; 0]);
}

#[test]
fn what_a_kernel_without_cgroups_lacks_is_absent() {
    let column = recent();
    let mut rows = rows(&column);
    rows.retain(|row| !row.0.contains("cgrp") && !row.0.contains("cgroup"));
    let layout = resolve(&kernel(&column, &rows)).unwrap();
    for global in ["OFFSET_TASK_CGROUPS", "OFFSET_CSS_SET_DFL_CGRP", "OFFSET_CGROUP_KN"] {
        assert_eq!(layout[global], ABSENT, "{global}");
    }
    assert_eq!(layout["OFFSET_KERNFS_ID"], column["kernfs_node.id"].0);
}

#[test]
fn all_missing_fields_are_named_at_once() {
    let found =
        problems(|rows| rows.retain(|row| row.0 != "task_struct.tgid" && row.0 != "signal_struct.live"));
    assert_eq!(
        found,
        [
            "struct task_struct.tgid: expected an integer of 4 bytes, found nothing of that name",
            "struct signal_struct.live.counter: expected an integer of 4 bytes, found nothing of that name",
        ]
    );
}

#[test]
fn a_kernel_without_the_structs_is_refused_field_by_field() {
    let error = resolve(&Builder::new().blob()).unwrap_err();
    assert_eq!(error.problems.len(), FIELDS.iter().filter(|field| field.need == Need::Required).count());
    assert!(
        error
            .problems
            .iter()
            .any(|problem| problem.to_string().starts_with("struct upid: expected a struct"))
    );
    let text = error.to_string();
    assert!(text.contains("\n  struct task_struct.flags: ") && text.contains("forkwatch doctor"), "{text}");
}

#[test]
fn a_field_of_another_kind_or_size_is_refused() {
    for (member, kind, problem) in [
        (
            "task_struct.pid",
            "u64",
            "struct task_struct.pid: expected an integer of 4 bytes, found an integer of 8 bytes",
        ),
        (
            "task_struct.mm",
            "*file",
            "struct task_struct.mm: expected a pointer to struct mm_struct, found a pointer to declared struct file",
        ),
        (
            "task_struct.flags",
            "u32:3",
            "struct task_struct.flags: expected an integer of 4 bytes, found a bitfield",
        ),
        (
            "task_struct.comm",
            "sigset_t",
            "struct task_struct.comm: expected an array of 16 bytes, found a nameless struct of 8 bytes",
        ),
        (
            "task_struct.exit_code",
            "char[16]",
            "struct task_struct.exit_code: expected an integer of 4 bytes, found an array of 16 bytes, of integer char",
        ),
        (
            "task_struct.cgroups",
            "u64",
            "struct task_struct.cgroups: expected a pointer to struct css_set, found an integer of 8 bytes",
        ),
    ] {
        assert_eq!(problem_with(member, kind), problem);
    }
}

#[test]
fn the_running_kernel_resolves() {
    let path = Path::new(KERNEL_BTF);
    if !path.exists() {
        crate::skip::skip(&format!("this kernel has no {KERNEL_BTF}"));
        return;
    }
    let layout = resolve(&read(path).unwrap()).unwrap();
    assert_eq!(layout["SIZE_UPID"], UPID_SIZE);
    assert_eq!(layout["OFFSET_TASK_TGID"], layout["OFFSET_TASK_PID"] + 4);
}

proptest! {
    #[test]
    fn a_damaged_kernel_is_refused_or_resolved_without_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let column = recent();
        let mut blob = kernel(&column, &rows(&column));
        for (at, value) in damage {
            let at = at.index(blob.len());
            blob[at] = value;
        }
        if let Ok(btf) = Btf::parse(&blob) {
            let _ = Layout::resolve(&btf);
        }
    }
}
