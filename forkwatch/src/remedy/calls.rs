//! What to change, by the calls that a stuck thread is in: they know the library better than the program's name does.

use super::{ecosystem::Ecosystem, remedy};
use crate::model::{
    finding::Remedy,
    stack::{Frame, Stack},
};

/// Something that is recognised by a call.
struct Known {
    recognise: fn(&Calls<'_>) -> bool,
    advice: &'static str,
    link: &'static str,
}

/// The calls of a thread.
struct Calls<'a> {
    native: &'a [Frame],
    script: &'a [Frame],
    /// Whose advice would be given otherwise.
    ecosystem: &'static str,
}

impl Calls<'_> {
    fn in_library(&self, starts: &[&str]) -> bool {
        self.native
            .iter()
            .filter_map(|frame| frame.module.as_deref()?.rsplit('/').next())
            .any(|name| starts.iter().any(|start| name.starts_with(start)))
    }

    fn of_function(&self, starts: &[&str]) -> bool {
        self.native
            .iter()
            .filter_map(|frame| frame.function.as_deref())
            // In Rust: `<tokio::..::Inner>::park`.
            .map(|name| name.trim_start_matches(['<', '&']))
            .any(|name| starts.iter().any(|start| name.starts_with(start)))
    }

    fn in_script(&self, ends: &[&str]) -> bool {
        self.script
            .iter()
            .filter_map(|frame| frame.module.as_deref())
            .any(|file| ends.iter().any(|end| file.ends_with(end)))
    }

    /// Whether it is in a function of this name, of whatever class, in a file whose path ends so.
    fn in_script_function(&self, function: &str, end: &str) -> bool {
        self.script.iter().any(|frame| {
            let is_it = |name: &str| name.rsplit('.').next() == Some(function);
            frame.module.as_deref().is_some_and(|module| module.ends_with(end))
                && frame.function.as_deref().is_some_and(is_it)
        })
    }
}

/// The first that fits is taken: what is nearest to the wait stands before what led to it.
static KNOWN: [Known; 9] = [
    Known {
        recognise: |calls| calls.in_library(&["libgomp", "libomp", "libiomp5"]),
        advice: "Run no parallel region of OpenMP before the fork, or start workers by forkserver or spawn: GCC's \
                 libgomp does not survive a fork, LLVM's libomp does. OMP_NUM_THREADS=1 in the parent helps as well.",
        link: "https://gcc.gnu.org/bugzilla/show_bug.cgi?id=58378",
    },
    Known {
        recognise: |calls| calls.of_function(&["rayon_core::"]) || calls.in_library(&["polars", "_polars"]),
        advice: "rayon's pool does not survive a fork: use the library in the child alone, or start workers by \
                 forkserver or spawn (multiprocessing.get_context(\"forkserver\")).",
        link: "https://docs.pola.rs/user-guide/misc/multiprocessing/",
    },
    Known {
        recognise: |calls| calls.of_function(&["tokio::"]),
        advice: "Build the Tokio runtime after the fork. In Python modules written in Rust: use the module in the child \
                 alone, or start workers by forkserver or spawn.",
        link: "https://docs.rs/tokio/latest/tokio/runtime/index.html",
    },
    Known {
        recognise: |calls| calls.of_function(&["rd_kafka_"]),
        advice: "Make producers and consumers after the fork, in each worker.",
        link: "https://github.com/confluentinc/librdkafka/wiki/FAQ",
    },
    Known {
        recognise: |calls| {
            calls.of_function(&[
                "getaddrinfo",
                "__check_pf",
                "gethostby",
                "__gethostby",
                "getnameinfo",
                "__res_",
            ])
        },
        advice: "Look names up in the child only after an exec, or let no thread of the parent look names up while it \
                 forks: the C library does not take its resolver's locks at a fork. Resolve addresses before the threads \
                 start, or fork before they do.",
        link: "https://man7.org/linux/man-pages/man2/fork.2.html",
    },
    Known {
        recognise: |calls| calls.of_function(&["__run_exit_handlers", "exit", "__cxa_finalize"]),
        advice: "Leave the child by _exit(2) (os._exit in Python): exit(3) runs the destructors and exit handlers that \
                 it has from the parent, which wait for threads and locks of the parent.",
        link: "https://man7.org/linux/man-pages/man2/_exit.2.html",
    },
    Known {
        // The child runs `preexec_fn` within the call that has forked it.
        recognise: |calls| calls.in_script_function("_execute_child", "/subprocess.py"),
        advice: "Do without preexec_fn, which runs in a copy of a process whose other threads are gone: Popen has \
                 start_new_session, process_group, user, group, extra_groups, umask and cwd for what most want of it. \
                 Set limits by prlimit(1) in front of the command, or in the parent by resource.prlimit.",
        link: "https://docs.python.org/3/library/subprocess.html#popen-constructor",
    },
    Known {
        recognise: |calls| {
            calls.ecosystem == "Python"
                && calls.in_script(&["/multiprocessing/popen_fork.py", "/concurrent/futures/process.py"])
        },
        advice: "Use the start method forkserver or spawn: multiprocessing.get_context(\"forkserver\"), or \
                 ProcessPoolExecutor(mp_context=...). It is the default on Linux from Python 3.14 on.",
        link: "https://docs.python.org/3/library/multiprocessing.html#contexts-and-start-methods",
    },
    Known {
        recognise: |calls| calls.ecosystem == "Python" && calls.in_script(&["/concurrent/futures/_base.py"]),
        advice: "Make the executor in the child, after the fork: its threads do not come along. A module that keeps one \
                 can make it anew with os.register_at_fork(after_in_child=...).",
        link: "https://docs.python.org/3/library/os.html#os.register_at_fork",
    },
];

/// What to change, if the calls show it.
pub(crate) fn remedy_of(script: Option<&Stack>, native: &Stack, ecosystem: &Ecosystem) -> Option<Remedy> {
    let script = script.map_or(&[][..], |script| &script.frames);
    let calls = Calls { native: &native.frames, script, ecosystem: ecosystem.name() };
    let known = KNOWN.iter().find(|known| (known.recognise)(&calls))?;
    Some(remedy(known.advice, known.link))
}

#[cfg(test)]
mod tests {
    use super::{super::ecosystem::recognise, *};
    use crate::model::process::Program;

    fn frames(calls: &[(&str, &str)]) -> Stack {
        let frame = |(function, module): &(&str, &str)| Frame {
            function: Some((*function).to_owned()),
            module: Some((*module).to_owned()),
            ..Frame::default()
        };
        Stack { frames: calls.iter().map(frame).collect(), missing: None }
    }

    fn advice(exe: &str, script: &[(&str, &str)], native: &[(&str, &str)]) -> Option<String> {
        let program = Program { exe: Some(exe.into()), comm: "x".into(), ..Program::default() };
        let ecosystem = recognise(&program, &[]);
        remedy_of(Some(&frames(script)), &frames(native), ecosystem).map(|remedy| remedy.text)
    }

    #[test]
    fn the_calls_choose() {
        let (c, python) = ("/srv/a.out", "/usr/bin/python3.11");
        let popen =
            [("get", "/srv/app.py"), ("_launch", "/usr/lib/python3.11/multiprocessing/popen_fork.py")];
        for (exe, script, native, begins) in [
            (
                c,
                &[][..],
                &[("gomp_barrier_wait", "/usr/lib/libgomp.so.1.0.0")][..],
                Some("Run no parallel region"),
            ),
            (c, &[], &[("rayon_core::latch::LockLatch::wait", "/x.so")], Some("rayon's pool")),
            (c, &[], &[("getaddrinfo", "/usr/lib/libc.so.6")], Some("Look names up")),
            (
                c,
                &[],
                &[("pthread_cond_destroy", "/usr/lib/libc.so.6"), ("exit", "/usr/lib/libc.so.6")],
                Some("Leave"),
            ),
            (python, &popen, &[], Some("Use the start method")),
            (
                python,
                &[("limit", "/srv/app.py"), ("Popen._execute_child", "/usr/lib/python3.11/subprocess.py")],
                &[],
                Some("Do without preexec_fn"),
            ),
            (python, &[("run", "/usr/lib/python3.11/subprocess.py")], &[], None),
            // Of another program's own fork nothing is known.
            (c, &popen, &[], None),
            (c, &[], &[("main", "/srv/a.out")], None),
        ] {
            let found = advice(exe, script, native);
            match begins {
                Some(begins) => {
                    assert!(found.as_ref().is_some_and(|text| text.starts_with(begins)), "{found:?}");
                }
                None => assert_eq!(found, None),
            }
        }
    }
}
