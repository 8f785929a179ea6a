//! Loads the object into the kernel, and attaches its programs.

use std::{borrow::Cow, collections::HashMap, fs::File, io};

use aya::{
    Btf as AyaBtf, Ebpf, EbpfError, EbpfLoader, include_bytes_aligned,
    maps::MapError,
    programs::{BtfTracePoint, FEntry, FExit, Iter, Program, ProgramError, TracePoint, links::FdLink},
};
use forkwatch_ebpf::map;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{
    clone_calls::find_tracepoints,
    error::KernelError,
    kernel_log,
    layout::Layout,
    memory_lock,
    options::Options,
    probes::{self, Place, SLEEPER, TABLE, When},
};
use crate::release::Release;

/// The eBPF object, built by `cargo xtask build-ebpf` and checked against its sources by the build script.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/forkwatch.o"));
/// The one that logs, compressed (RFC 1951).
static LOGGING: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kernel-log.deflate"));
/// More bytes than the object that logs has.
const MOST_OF_LOGGING: usize = 4 << 20;

/// Loads maps and programs with the settings; attaches nothing.
pub(super) fn load(
    options: &Options,
    layout: &Layout,
    release: Release,
    pid_levels: u32,
) -> Result<Ebpf, KernelError> {
    let nanos = |duration: std::time::Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let cgroup = options.filter.cgroup;
    let narrow: Vec<(&str, u32)> = layout
        .globals()
        .chain([
            ("STREAM", options.stream.bits()),
            ("FILTER", options.filter.bits()),
            ("OWN_TGID", std::process::id()),
            ("FILTER_UID", options.filter.uid.unwrap_or_default()),
            ("FILTER_CGROUP_LEVEL", cgroup.map_or(0, |cgroup| cgroup.level)),
            ("ANCESTORS_ARE_TOLD", u32::from(release.tells_ancestors())),
            ("CURRENT_TASK_IS_TOLD", u32::from(release.tells_current_task())),
            ("WORKER_FLAGS", release.worker_flags()),
            ("PID_LEVELS", pid_levels),
        ])
        .chain(requests(options).map(|(setting, _, is_asked)| (setting, u32::from(is_asked))))
        .collect();
    let wide: [(&str, u64); 3] = [
        ("FILTER_CGROUP", cgroup.map_or(0, |cgroup| cgroup.id)),
        ("GRACE", nanos(options.grace)),
        ("RING_SIZE", u64::from(options.ring_bytes)),
    ];
    let logs = !options.kernel_log.are_none();
    let heard = options.kernel_log.bits();
    let mut loader = loader();
    for (name, value) in &narrow {
        loader.override_global(name, value, true);
    }
    for (name, value) in &wide {
        loader.override_global(name, value, true);
    }
    loader
        .map_max_entries(map::RECORDS, options.ring_bytes)
        .map_max_entries(map::FAMILY, options.max_children);
    if logs {
        loader.override_global("KERNEL_LOG", &heard, true).map_max_entries(map::LOG, kernel_log::RING_BYTES);
    }
    for (_, maps, _) in requests(options).filter(|(.., is_asked)| !is_asked) {
        for map in maps {
            loader.map_max_entries(map, 1);
        }
    }
    if !options.filter.tasks {
        loader.map_max_entries(map::WANTED, 1);
    }
    let object = if logs { Cow::Owned(logging()) } else { Cow::Borrowed(OBJECT) };
    loader.load(&object).map_err(|error| object_error(error, options))
}

/// The object that logs. It was compressed when this was built: what cannot be had of it, the loader calls no object.
fn logging() -> Vec<u8> {
    miniz_oxide::inflate::decompress_to_vec_with_limit(LOGGING, MOST_OF_LOGGING).unwrap_or_default()
}

/// The probes that are on where they are asked for: the setting of each, its tables, and whether it is.
fn requests(options: &Options) -> impl Iterator<Item = (&'static str, &'static [&'static str], bool)> {
    TABLE.iter().filter_map(|row| match row.when {
        When::OnRequest { setting } => Some((setting, row.maps, options.asked.contains(&row.probe))),
        When::Always | When::Optional | When::OnDemand { .. } | When::OnRead => None,
    })
}

/// A loader that has not read the kernel's BTF.
///
/// aya 0.14 offers none: `EbpfLoader::new` parses all of it, some 15 ms and 20 MB for nothing, because our object
/// has no relocations against it and the attach points come from a stub. The constructor takes a failed open for
/// a kernel without BTF, so for its duration no file can be opened. (aya 0.16 parses late, and needs none of this.)
fn loader() -> EbpfLoader<'static> {
    let limits = getrlimit(Resource::RLIMIT_NOFILE);
    if let Ok((_, hard)) = limits {
        // Where a limit cannot be set, the start is merely slower.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, 0, hard);
    }
    let loader = EbpfLoader::new();
    if let Ok((soft, hard)) = limits {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, soft, hard);
    }
    loader
}

/// Loads a program for its place.
pub(super) fn load_program(
    programs: &mut Programs<'_>,
    program: probes::Program,
    ids: &AyaBtf,
) -> Result<(), KernelError> {
    let probes::Program { name, place } = program;
    let loaded = match place {
        Place::Tracepoint(tracepoint) => programs.get::<&mut BtfTracePoint>(name)?.load(tracepoint, ids),
        Place::Entry(function) => programs.get::<&mut FEntry>(name)?.load(function, ids),
        Place::Exit(function) => programs.get::<&mut FExit>(name)?.load(function, ids),
        Place::SystemCalls(_) => programs.get::<&mut TracePoint>(name)?.load(),
        // aya puts that before the name.
        Place::Pass(pass) => programs.get::<&mut Iter>(name)?.load(pass.trim_start_matches("bpf_iter_"), ids),
    };
    loaded.map_err(program_error(name))
}

/// Attaches it for as long as the object lives.
pub(super) fn attach(ebpf: &mut Ebpf, program: probes::Program) -> Result<(), KernelError> {
    let probes::Program { name, place } = program;
    let attached = match place {
        Place::Tracepoint(_) => self::program::<&mut BtfTracePoint>(ebpf, name)?.attach().map(drop),
        Place::Entry(_) => self::program::<&mut FEntry>(ebpf, name)?.attach().map(drop),
        Place::Exit(_) => self::program::<&mut FExit>(ebpf, name)?.attach().map(drop),
        // It runs when it is read, see below.
        Place::Pass(_) => Err(ProgramError::UnexpectedProgramType),
        Place::SystemCalls(kind) => {
            let calls = find_tracepoints()?;
            let program: &mut TracePoint = self::program(ebpf, name)?;
            calls.iter().try_for_each(|call| program.attach("syscalls", &format!("{kind}_{call}")).map(drop))
        }
    };
    attached.map_err(program_error(name))
}

/// Attaches it for as long as the result lives. Needs no privilege: that was asked for by the load.
pub(super) fn attach_on_demand(ebpf: &mut Ebpf, program: probes::Program) -> Result<FdLink, KernelError> {
    let probes::Program { name, place } = program;
    let attached = match place {
        Place::Tracepoint(_) => {
            let program: &mut BtfTracePoint = self::program(ebpf, name)?;
            program.attach().and_then(|id| program.take_link(id)).map(FdLink::from)
        }
        Place::Entry(_) => {
            let program: &mut FEntry = self::program(ebpf, name)?;
            program.attach().and_then(|id| program.take_link(id)).map(FdLink::from)
        }
        Place::Exit(_) => {
            let program: &mut FExit = self::program(ebpf, name)?;
            program.attach().and_then(|id| program.take_link(id)).map(FdLink::from)
        }
        // The first slow down the whole host, and wait for no question; the other runs when it is read, see below.
        Place::SystemCalls(_) | Place::Pass(_) => Err(ProgramError::UnexpectedProgramType),
    };
    attached.map_err(program_error(name))
}

/// Begins a pass over all tasks. Needs no privilege either.
pub(super) fn pass(ebpf: &mut Ebpf) -> Result<File, KernelError> {
    let name = SLEEPER.name;
    let program: &mut Iter = program(ebpf, name)?;
    let link = program.attach().and_then(|id| program.take_link(id)).map_err(program_error(name))?;
    link.into_file().map_err(KernelError::NoPass)
}

/// The program of that name, in the type that it has.
fn program<'a, T>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<T, KernelError>
where
    T: TryFrom<&'a mut Program, Error = ProgramError>,
{
    typed(ebpf.program_mut(name), name)
}

fn typed<'a, T>(program: Option<&'a mut Program>, name: &'static str) -> Result<T, KernelError>
where
    T: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let missing = ProgramError::UnexpectedProgramType;
    program.ok_or(missing).and_then(T::try_from).map_err(program_error(name))
}

/// Programs of an object, so that several threads can load each their own.
#[derive(Default)]
pub(super) struct Programs<'a>(HashMap<&'a str, &'a mut Program>);

impl<'a> Programs<'a> {
    /// All of an object.
    pub(super) fn all(ebpf: &'a mut Ebpf) -> Self {
        Self(ebpf.programs_mut().collect())
    }

    /// Those that are wanted, and all others.
    pub(super) fn split(self, is_wanted: impl Fn(&str) -> bool) -> (Self, Self) {
        let (wanted, others) = self.0.into_iter().partition(|(name, _)| is_wanted(name));
        (Self(wanted), Self(others))
    }

    fn get<'b, T>(&'b mut self, name: &'static str) -> Result<T, KernelError>
    where
        T: TryFrom<&'b mut Program, Error = ProgramError>,
    {
        typed(self.0.get_mut(name).map(|program| &mut **program), name)
    }
}

fn object_error(error: EbpfError, options: &Options) -> KernelError {
    match error {
        EbpfError::MapError(MapError::CreateError { name, io_error }) if is_permission(&io_error) => {
            refused(format!("make the table {name}"), io_error)
        }
        EbpfError::MapError(MapError::CreateError { name, io_error }) if name == map::RECORDS => {
            KernelError::Ring { bytes: options.ring_bytes, error: io_error }
        }
        error => KernelError::Object(Box::new(error)),
    }
}

fn program_error(program: &'static str) -> impl Fn(ProgramError) -> KernelError {
    move |error| match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            // EPERM comes from the checks of capabilities and limits; the verifier's refusals are EACCES or EINVAL, with a log.
            if is_permission(&io_error) {
                return refused(format!("load the program {program}"), io_error);
            }
            // Nor is it the verifier's word where a limit of ours was met on the way.
            if matches!(
                io_error.raw_os_error(),
                Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN)
            ) {
                return KernelError::Program { program, error: Box::new(ProgramError::IOError(io_error)) };
            }
            let log = verifier_log.to_string();
            let lines: Vec<&str> = log.lines().collect();
            let reason = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n");
            KernelError::Verifier { program, error: io_error, reason }
        }
        ProgramError::SyscallError(error) if is_permission(&error.io_error) => {
            KernelError::Privilege { what: format!("attach the program {program}"), error: error.io_error }
        }
        error => KernelError::Program { program, error: Box::new(error) },
    }
}

/// What EPERM means for a map or a program.
fn refused(what: String, error: io::Error) -> KernelError {
    if memory_lock::refuses(&error) {
        KernelError::LockedMemory { what, error }
    } else {
        KernelError::Privilege { what, error }
    }
}

fn is_permission(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EPERM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_that_is_loaded_by_default_has_nothing_of_the_log() {
        let has = |object: &[u8], name: &str| object.windows(name.len()).any(|part| part == name.as_bytes());
        for name in [map::LOG, map::LOGGED, "AYA_LOG_LEVEL", "KERNEL_LOG"] {
            assert!(!has(OBJECT, name) && has(&logging(), name), "{name}");
        }
    }
}
