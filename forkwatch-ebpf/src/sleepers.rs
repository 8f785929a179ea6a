//! Which threads of un-exec'd children sleep: told at a pass over all tasks, which runs when its file is read.

use core::{ffi::c_void, ptr};

use aya_ebpf::{bindings::seq_file, helpers::generated::bpf_seq_write};
use forkwatch_ebpf::Sleeper;

use crate::{kernel::Kernel, settings::OFFSET_ITERATION_OUTPUT, task::Task};

/// What the kernel hands over for each task (`struct bpf_iter__task`, kernel/bpf/task_iter.c): of the pass, and the task,
/// which is null at the end.
#[repr(C)]
struct Iteration {
    pass: *const u8,
    task: *const u8,
}

/// On `bpf_iter_task`. aya-ebpf 0.2 has no macro for such programs.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
extern "C" fn sleeper(iteration: *const Iteration) -> i32 {
    // SAFETY: the verifier knows what the context of this program is, and checks the loads.
    let pass = Kernel::new(unsafe { ptr::read_volatile(&raw const (*iteration).pass) });
    // SAFETY: as above.
    let task = Task::new(unsafe { ptr::read_volatile(&raw const (*iteration).task) });
    if task.is_null() || !task.is_asleep() || task.is_kernel() {
        return 0;
    }
    let leader = task.leader();
    if !leader.is_unexeced() {
        return 0;
    }
    let sleeper =
        Sleeper { start: leader.start(), switches: task.switches(), tgid: task.tgid(), tid: task.tid() };
    let output: *mut seq_file = pass.field(&OFFSET_ITERATION_OUTPUT);
    // SAFETY: the kernel copies the bytes of a structure without holes. Where they find no room it reads this task again
    // with more (`bpf_seq_read`, kernel/bpf/bpf_iter.c).
    unsafe {
        bpf_seq_write(output, (&raw const sleeper).cast::<c_void>().cast_mut(), size_of::<Sleeper>() as u32)
    };
    0
}
