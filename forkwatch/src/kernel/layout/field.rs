//! The table of fields that the eBPF side reads.

use std::fmt;

use super::{Kind, Type};

/// One field, and the eBPF global that takes its offset.
pub(super) struct Field {
    pub(super) global: &'static str,
    pub(super) structure: &'static str,
    /// Its path, then the names that it has had on other kernels.
    pub(super) members: &'static [&'static str],
    pub(super) expected: Expected,
    pub(super) need: Need,
}

/// What a kernel without the field means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// It cannot be watched.
    Required,
    /// What it tells is not told. A kernel that has it must have it as expected.
    Optional,
    /// What is on demand alone is not done; likewise where it is not as expected.
    OnDemand,
}

/// What a field must be for the eBPF side to read it rightly. Signs do not matter, sizes do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// A pointer to the struct of that name.
    Pointer(&'static str),
    /// An integer or enum of that many bytes.
    Integer(u32),
    /// An array that takes that many bytes.
    Bytes(u32),
    /// An array of structs of that name, of any length.
    Structs(&'static str),
    /// A pointer to anything.
    Address,
    /// A struct, of which the size is wanted.
    Sized,
}

use Expected::{Address, Bytes, Integer, Pointer, Sized, Structs};

/// Fields of one struct stand together, for it is looked up once.
pub(super) const FIELDS: [Field; 58] = [
    required("OFFSET_TASK_FLAGS", "task_struct", &["flags"], Integer(4)),
    required("OFFSET_TASK_MM", "task_struct", &["mm"], Pointer("mm_struct")),
    required("OFFSET_TASK_EXIT_CODE", "task_struct", &["exit_code"], Integer(4)),
    required("OFFSET_TASK_PID", "task_struct", &["pid"], Integer(4)),
    required("OFFSET_TASK_TGID", "task_struct", &["tgid"], Integer(4)),
    required("OFFSET_TASK_LEADER", "task_struct", &["group_leader"], Pointer("task_struct")),
    required("OFFSET_TASK_REAL_PARENT", "task_struct", &["real_parent"], Pointer("task_struct")),
    required("OFFSET_TASK_THREAD_PID", "task_struct", &["thread_pid"], Pointer("pid")),
    // Renamed in Linux 5.5.
    required("OFFSET_TASK_START", "task_struct", &["start_boottime", "real_start_time"], Integer(8)),
    required("OFFSET_TASK_COMM", "task_struct", &["comm"], Bytes(16)),
    required("OFFSET_TASK_SELF_EXEC_ID", "task_struct", &["self_exec_id"], Integer(8)),
    required("OFFSET_TASK_PARENT_EXEC_ID", "task_struct", &["parent_exec_id"], Integer(8)),
    required("OFFSET_TASK_SIGNAL", "task_struct", &["signal"], Pointer("signal_struct")),
    required("OFFSET_TASK_BLOCKED", "task_struct", &["blocked.sig"], Bytes(8)),
    required("OFFSET_TASK_PENDING", "task_struct", &["pending.signal.sig"], Bytes(8)),
    // CONFIG_CGROUPS may be off.
    optional("OFFSET_TASK_CGROUPS", "task_struct", &["cgroups"], Pointer("css_set")),
    on_demand("OFFSET_TASK_FILES", "task_struct", &["files"], Pointer("files_struct")),
    // The one became the other in Linux 5.14, and half as long.
    on_demand("OFFSET_TASK_STATE", "task_struct", &["__state"], Integer(4)),
    on_demand("OFFSET_TASK_LONG_STATE", "task_struct", &["state"], Integer(8)),
    on_demand("OFFSET_TASK_SWITCHES", "task_struct", &["nvcsw"], Integer(8)),
    on_demand("OFFSET_TASK_FORCED_SWITCHES", "task_struct", &["nivcsw"], Integer(8)),
    on_demand("OFFSET_ITERATION_OUTPUT", "bpf_iter_meta", &["seq"], Pointer("seq_file")),
    required("OFFSET_SIGNAL_LIVE", "signal_struct", &["live.counter"], Integer(4)),
    required("OFFSET_SIGNAL_NR_THREADS", "signal_struct", &["nr_threads"], Integer(4)),
    required("OFFSET_SIGNAL_SHARED_PENDING", "signal_struct", &["shared_pending.signal.sig"], Bytes(8)),
    required("OFFSET_SIGNAL_FLAGS", "signal_struct", &["flags"], Integer(4)),
    required("OFFSET_SIGNAL_GROUP_EXIT_CODE", "signal_struct", &["group_exit_code"], Integer(4)),
    optional("OFFSET_CSS_SET_DFL_CGRP", "css_set", &["dfl_cgrp"], Pointer("cgroup")),
    optional("OFFSET_CGROUP_KN", "cgroup", &["kn"], Pointer("kernfs_node")),
    optional("OFFSET_KERNFS_ID", "kernfs_node", &["id"], Integer(8)),
    // Read before Linux 5.15 alone; renamed in 6.15.
    on_demand("OFFSET_KERNFS_PARENT", "kernfs_node", &["parent"], Pointer("kernfs_node")),
    required("OFFSET_PID_LEVEL", "pid", &["level"], Integer(4)),
    required("OFFSET_PID_NUMBERS", "pid", &["numbers"], Structs("upid")),
    required("OFFSET_UPID_NR", "upid", &["nr"], Integer(4)),
    required("SIZE_UPID", "upid", &[], Sized),
    on_demand("OFFSET_SIGINFO_CODE", "kernel_siginfo", &["si_code"], Integer(4)),
    on_demand("OFFSET_FILES_TABLE", "files_struct", &["fdt"], Pointer("fdtable")),
    on_demand("OFFSET_TABLE_SIZE", "fdtable", &["max_fds"], Integer(4)),
    on_demand("OFFSET_TABLE_FILES", "fdtable", &["fd"], Address),
    on_demand("OFFSET_SOCK_SOCKET", "sock", &["sk_socket"], Pointer("socket")),
    on_demand("OFFSET_SOCK_FAMILY", "sock", &["__sk_common.skc_family"], Integer(2)),
    on_demand("OFFSET_SOCK_STATE", "sock", &["__sk_common.skc_state"], Integer(1)),
    // A bitfield before Linux 5.6.
    on_demand("OFFSET_SOCK_PROTOCOL", "sock", &["sk_protocol"], Integer(2)),
    on_demand("OFFSET_TCP_WRITTEN", "tcp_sock", &["write_seq"], Integer(4)),
    on_demand("OFFSET_TCP_TAKEN", "tcp_sock", &["copied_seq"], Integer(4)),
    on_demand("OFFSET_UNIX_PEER", "unix_sock", &["peer"], Pointer("sock")),
    on_demand("OFFSET_UNIX_ADDRESS", "unix_sock", &["addr"], Pointer("unix_address")),
    on_demand("OFFSET_ADDRESS_NAME", "unix_address", &["name"], Structs("sockaddr_un")),
    on_demand("OFFSET_SOCKET_FILE", "socket", &["file"], Pointer("file")),
    on_demand("OFFSET_SOCKET_TYPE", "socket", &["type"], Integer(2)),
    on_demand("OFFSET_SOCKET_SOCK", "socket", &["sk"], Pointer("sock")),
    on_demand("OFFSET_FILE_INODE", "file", &["f_inode"], Pointer("inode")),
    on_demand("OFFSET_FILE_OPERATIONS", "file", &["f_op"], Pointer("file_operations")),
    on_demand("OFFSET_FILE_PRIVATE", "file", &["private_data"], Address),
    // The one became the other in Linux 6.13, and counts otherwise.
    on_demand("OFFSET_FILE_COUNT", "file", &["f_count.counter"], Integer(8)),
    on_demand("OFFSET_FILE_REF", "file", &["f_ref.refcnt.counter"], Integer(8)),
    on_demand("OFFSET_INODE_NUMBER", "inode", &["i_ino"], Integer(8)),
    on_demand("OFFSET_INODE_MODE", "inode", &["i_mode"], Integer(2)),
];

const fn required(
    global: &'static str,
    structure: &'static str,
    members: &'static [&'static str],
    expected: Expected,
) -> Field {
    Field { global, structure, members, expected, need: Need::Required }
}

const fn optional(
    global: &'static str,
    structure: &'static str,
    members: &'static [&'static str],
    expected: Expected,
) -> Field {
    Field { need: Need::Optional, ..required(global, structure, members, expected) }
}

const fn on_demand(
    global: &'static str,
    structure: &'static str,
    members: &'static [&'static str],
    expected: Expected,
) -> Field {
    Field { need: Need::OnDemand, ..required(global, structure, members, expected) }
}

impl Expected {
    /// Whether a member is as expected. `target` is what it points to or consists of.
    pub(super) fn matches(self, definition: &Type<'_>, target: Option<&Type<'_>>) -> bool {
        let is_struct = |name: &str| {
            target.is_some_and(|target| {
                matches!(target.kind, Kind::Struct | Kind::Forward) && target.name == name.as_bytes()
            })
        };
        match self {
            Pointer(name) => definition.kind == Kind::Pointer && is_struct(name),
            Integer(size) => {
                matches!(definition.kind, Kind::Int | Kind::Enum | Kind::Enum64)
                    && definition.size == Some(size)
            }
            Bytes(size) => definition.kind == Kind::Array && definition.size == Some(size),
            Structs(name) => definition.kind == Kind::Array && is_struct(name),
            Address => definition.kind == Kind::Pointer,
            Sized => definition.kind == Kind::Struct,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pointer(name) => write!(formatter, "a pointer to struct {name}"),
            Integer(size) => write!(formatter, "an integer of {size} bytes"),
            Bytes(size) => write!(formatter, "an array of {size} bytes"),
            Structs(name) => write!(formatter, "an array of struct {name}"),
            Address => formatter.write_str("a pointer"),
            Sized => formatter.write_str("a struct"),
        }
    }
}
