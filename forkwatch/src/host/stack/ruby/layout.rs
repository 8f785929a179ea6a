//! Where CRuby keeps what, in each minor version; micro versions agree. The offsets are those of the bindings that rbspy
//! makes from the headers (rbspy-ruby-structs 0.55.0, compared for 2.6.10 to 4.0.9), on 64 bits.

use crate::host::{
    bytes::Bytes,
    maps::{Mapping, Maps},
};

/// Offsets into CRuby's structures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// `rb_vm_t.ractor.main_thread`, before 3.0 `.main_thread`
    pub(super) main_thread: u64,
    /// `rb_vm_t.ractor.main_ractor`: it has the head of the list of threads. Before 3.0 the VM has it.
    pub(super) main_ractor: Option<u64>,
    /// `rb_thread_t.ec`
    pub(super) context: u64,
    /// What `pthread_self` returned: `rb_thread_t.thread_id`, or since 3.2 `.nt` and in that `thread_id`.
    pub(super) thread_id: (u64, Option<u64>),
    /// The size of `rb_control_frame_t`.
    pub(super) control_frame: u64,
    /// `rb_iseq_constant_body.insns_info`
    pub(super) instructions: u64,
    /// The size of `struct iseq_insn_info_entry`, which begins with the line.
    pub(super) entry: u64,
    /// Whether every string has its length at one place: before 3.2 a short one has it in its flags.
    pub(super) has_length: bool,
}

const SINCE_3_3: Layout = Layout {
    main_thread: 40,
    main_ractor: Some(32),
    context: 48,
    thread_id: (40, Some(16)),
    control_frame: 56,
    instructions: 112,
    entry: 12,
    has_length: true,
};
const OF_3_2: Layout = Layout { thread_id: (40, Some(8)), control_frame: 64, ..SINCE_3_3 };
const OF_3_1: Layout =
    Layout { context: 40, thread_id: (80, None), instructions: 120, has_length: false, ..OF_3_2 };
const OF_3_0: Layout = Layout { control_frame: 56, entry: 8, ..OF_3_1 };
/// On arm64 a mutex before it is longer.
#[cfg(target_arch = "x86_64")]
const BEFORE_3_0: Layout =
    Layout { main_thread: 192, main_ractor: None, context: 32, thread_id: (72, None), ..OF_3_0 };

/// `rb_thread_t.ractor` and `.vm`, since 3.0.
const THREADS_RACTOR: u64 = 24;
const THREADS_VM: u64 = 32;
/// Variables are gone through in pieces of this size. CRuby's are a tenth of so many.
const PAGE: usize = 4096;
const MAX_PAGES: usize = 256;

impl Layout {
    /// The VM, found by what refers to what: from 3.3 on its variable has no symbol that the loader needs. Among the
    /// variables of the object with this head there is one that leads to a structure with a main ractor and a main
    /// thread, which refers to both.
    pub(super) fn vm_within(&self, memory: &Bytes, maps: &Maps, head: &Mapping) -> Option<u64> {
        let main_ractor = self.main_ractor?;
        let is_variables = |mapping: &&Mapping| {
            mapping.writable
                && mapping.start >= head.start
                && (mapping.path == head.path || maps.follows_file(mapping))
        };
        let is_vm = |vm: &u64| {
            let at = |offset: u64| memory.word(vm.wrapping_add(offset));
            let refers = |thread: u64| {
                memory.word(thread.wrapping_add(THREADS_VM)) == Some(*vm)
                    && memory.word(thread.wrapping_add(THREADS_RACTOR)) == at(main_ractor)
            };
            *vm != 0 && vm.is_multiple_of(8) && at(self.main_thread).is_some_and(refers)
        };
        // The library's own come first.
        let variables = maps.iter().filter(is_variables);
        let mut pages =
            variables.flat_map(|mapping| (mapping.start..mapping.end).step_by(PAGE)).take(MAX_PAGES);
        pages.find_map(|page| {
            let words = memory.take_up_to(page, PAGE);
            words.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).find(is_vm)
        })
    }

    /// That of a version, such as `3.1.2`; absent where it is not known.
    pub(super) fn of(version: &str) -> Option<Self> {
        let mut numbers = version.split('.').map(str::parse::<u32>);
        match (numbers.next()?.ok()?, numbers.next()?.ok()?) {
            #[cfg(target_arch = "x86_64")]
            (2, 6 | 7) => Some(BEFORE_3_0),
            (3, 0) => Some(OF_3_0),
            (3, 1) => Some(OF_3_1),
            (3, 2) => Some(OF_3_2),
            (3, 3 | 4) | (4, 0) => Some(SINCE_3_3),
            _ => None,
        }
    }
}
