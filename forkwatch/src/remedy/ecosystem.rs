//! Which server or library forks here, and what its users have to change.

use super::remedy;
use crate::model::{
    finding::Remedy,
    process::Program,
    program_name::{bare_name, stem},
    thread::{Occupation, SeenThread, occupation},
};

/// What gunicorn says of its control socket.
pub(crate) const CONTROL_SOCKET: &str =
    "https://docs.gunicorn.org/en/stable/settings.html#control-socket-disable";

/// A family of programs that is told the same.
pub(crate) struct Ecosystem {
    /// Whom the advice is for.
    pub(crate) name: &'static str,
    advice: &'static str,
    link: &'static str,
    recognise: fn(&Signs<'_>) -> bool,
}

/// What an ecosystem is recognised by.
struct Signs<'a> {
    program: &'a Program,
    /// The bare name, which knows scripts, modules and titles.
    name: &'a str,
    threads: &'a [SeenThread],
}

impl Signs<'_> {
    fn named(&self, names: &[&str]) -> bool {
        names.contains(&self.name)
    }

    fn thread(&self, starts: &[&str]) -> bool {
        self.threads
            .iter()
            .any(|thread| starts.iter().any(|start| thread.comm.bytes().starts_with(start.as_bytes())))
    }

    fn argument(&self, part: &str) -> bool {
        self.program.cmdline.iter().any(|argument| argument.contains(part))
    }

    fn interpreter(&self, stems: &[&str]) -> bool {
        let exe = self.program.exe.as_deref().and_then(|exe| exe.file_name()).and_then(|name| name.to_str());
        let shown = self.program.cmdline.first().map(|first| first.rsplit('/').next().unwrap_or(first));
        exe.into_iter().chain(shown).any(|name| stems.contains(&stem(name)))
    }
}

/// What to change where these threads of a program, and what is known of them, have made its fork unsafe.
pub(crate) fn advice(program: &Program, threads: &[SeenThread], occupations: &[Occupation]) -> Remedy {
    let is_own =
        |thread: &SeenThread| occupation(thread.tid, occupations).is_some_and(is_control_of_gunicorn);
    if !threads.is_empty() && threads.iter().all(is_own) {
        return remedy(
            "The thread is gunicorn's own, which serves its control socket. Upgrade gunicorn (releases after 25.1 stop that \
             thread around each fork), or add --no-control-socket.",
            CONTROL_SOCKET,
        );
    }
    recognise(program, threads).remedy()
}

/// Whether a thread serves gunicorn's control socket (`gunicorn/ctl/server.py`).
fn is_control_of_gunicorn(thread: &Occupation) -> bool {
    let module = thread.at.as_ref().and_then(|at| at.module.as_deref());
    module.is_some_and(|module| module.ends_with("/gunicorn/ctl/server.py"))
}

impl Ecosystem {
    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn remedy(&self) -> Remedy {
        remedy(self.advice, self.link)
    }
}

/// The first that fits is taken: the particular stand before the general.
static ECOSYSTEMS: [Ecosystem; 13] = [
    Ecosystem {
        name: "gunicorn",
        advice: "Start threads and clients in the server hook post_fork or post_worker_init instead of at import, \
                 or run without --preload.",
        link: "https://docs.gunicorn.org/en/stable/settings.html#post-fork",
        recognise: |signs| signs.name.starts_with("gunicorn"),
    },
    Ecosystem {
        name: "uWSGI",
        advice: "Set lazy-apps = true, so that each worker loads the application after the fork, or start threads \
                 in functions marked @postfork. Where the master needs threads, also set enable-threads = true and \
                 py-call-uwsgi-fork-hooks = true.",
        link: "https://uwsgi-docs.readthedocs.io/en/latest/articles/TheArtOfGracefulReloading.html#preforking-vs-lazy-apps-vs-lazy",
        recognise: |signs| signs.name.starts_with("uwsgi"),
    },
    Ecosystem {
        name: "Celery",
        advice: "Start threads and clients in a function connected to worker_process_init instead of at import, or \
                 run the worker with --pool=threads.",
        link: "https://docs.celeryq.dev/en/stable/userguide/signals.html#worker-process-init",
        recognise: |signs| signs.named(&["celery"]),
    },
    Ecosystem {
        name: "Puma",
        advice: "Stop threads and disconnect in before_fork, start them again in before_worker_boot (on_worker_boot \
                 before Puma 7). Mark threads that may be lost safely with \
                 thread_variable_set(:fork_safe, true), and allow them here by name.",
        link: "https://rubydoc.info/github/puma/puma/master/Puma/DSL:before_fork",
        recognise: |signs| signs.named(&["puma"]),
    },
    Ecosystem {
        name: "Resque",
        advice: "Stop threads and disconnect in Resque.before_fork, start them again in Resque.after_fork.",
        link: "https://github.com/resque/resque/blob/master/docs/HOOKS.md",
        recognise: |signs| signs.named(&["resque"]),
    },
    Ecosystem {
        name: "Unicorn and Pitchfork",
        advice: "Stop threads and disconnect in before_fork, start them again in after_fork, or run without \
                 preloading the application.",
        link: "https://yhbt.net/unicorn/Unicorn/Configurator.html",
        recognise: |signs| signs.named(&["unicorn", "unicorn_rails", "pitchfork"]),
    },
    Ecosystem {
        name: "Passenger",
        advice: "Start threads in PhusionPassenger.on_event(:starting_worker_process) where it says forked, or set \
                 PassengerSpawnMethod direct.",
        link: "https://www.phusionpassenger.com/library/indepth/ruby/spawn_methods/",
        recognise: |signs| signs.named(&["Passenger"]),
    },
    Ecosystem {
        name: "Redis, Valkey and KeyDB",
        advice: "Nothing, as long as no module holds locks of its own over a fork. Watch the memory that is \
                 copied while the child saves.",
        link: "https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/",
        recognise: |signs| signs.named(&["redis-server", "valkey-server", "keydb-server"]),
    },
    Ecosystem {
        name: "PyTorch (DataLoader)",
        advice: "Give the DataLoader multiprocessing_context=\"forkserver\" or \"spawn\". With fork, open files and \
                 clients in worker_init_fn, and make no CUDA call before the workers start.",
        link: "https://pytorch.org/docs/stable/notes/multiprocessing.html",
        // PyTorch names its main, worker and pinning threads so; CUDA names its event threads.
        recognise: |signs| {
            signs.program.comm.bytes().starts_with(b"pt_")
                || signs.named(&["torchrun"])
                || signs.argument("torch.distributed")
                || signs.thread(&["pt_", "cuda-EvtHandlr"])
        },
    },
    Ecosystem {
        name: "Python multiprocessing and ProcessPoolExecutor",
        advice: "Use the start method forkserver or spawn: multiprocessing.get_context(\"forkserver\"), or \
                 ProcessPoolExecutor(mp_context=...). It is the default on Linux from Python 3.14 on.",
        link: "https://docs.python.org/3/library/multiprocessing.html#contexts-and-start-methods",
        // Python 3.14 and later name their threads to the kernel: the executor's, and a pool's handlers.
        recognise: |signs| {
            signs.argument("multiprocessing")
                || signs.thread(&["ExecutorManager", "QueueFeeder", "QueueManager"])
                || signs.interpreter(&["python", "pypy"])
                    && signs.thread(&["Thread-1 (_hand", "Thread-2 (_hand"])
        },
    },
    Ecosystem {
        name: "Python",
        advice: "Fork before the threads start, or start workers by forkserver or spawn instead of fork \
                 (multiprocessing, ProcessPoolExecutor). A library that owns the thread can stop and renew its \
                 state with os.register_at_fork.",
        link: "https://docs.python.org/3/library/os.html#os.register_at_fork",
        recognise: |signs| signs.interpreter(&["python", "pypy"]),
    },
    Ecosystem {
        name: "Ruby",
        advice: "Stop threads and disconnect before fork, and start them again in the child: most servers have \
                 hooks for both (before_fork, after_fork).",
        link: "https://docs.ruby-lang.org/en/master/Process.html#method-c-fork",
        recognise: |signs| signs.interpreter(&["ruby"]),
    },
    Ecosystem {
        name: "any program",
        advice: "Fork before any thread starts; or exec right after the fork (posix_spawn does both at once); or \
                 register handlers with pthread_atfork that take every lock before the fork and release it on \
                 both sides. A daemon forks before it starts threads, or not at all under systemd.",
        link: "https://man7.org/linux/man-pages/man3/pthread_atfork.3.html",
        recognise: |_| true,
    },
];

/// Whose advice this program's users need.
pub(crate) fn recognise(program: &Program, threads: &[SeenThread]) -> &'static Ecosystem {
    let name = bare_name(program);
    let signs = Signs { program, name: &name, threads };
    let [.., general] = &ECOSYSTEMS;
    ECOSYSTEMS.iter().find(|ecosystem| (ecosystem.recognise)(&signs)).unwrap_or(general)
}

/// All the advice, with whom it is for.
pub(crate) fn remedies() -> Vec<(&'static str, Remedy)> {
    ECOSYSTEMS.iter().map(|ecosystem| (ecosystem.name, ecosystem.remedy())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stack::Frame;

    fn recognised(comm: &str, exe: &str, cmdline: &[&str], threads: &[&str]) -> &'static str {
        let program = Program {
            comm: comm.into(),
            exe: Some(exe.into()),
            cmdline: cmdline.iter().map(|argument| (*argument).to_owned()).collect(),
            ..Program::default()
        };
        let threads: Vec<SeenThread> =
            threads.iter().map(|comm| SeenThread { tid: 2, comm: (*comm).into() }).collect();
        recognise(&program, &threads).name
    }

    #[test]
    fn gunicorns_own_thread_is_told_from_those_of_the_application() {
        let program = Program { comm: "gunicorn".into(), ..Program::default() };
        let thread = |tid| SeenThread { tid, comm: "gunicorn".into() };
        let at = |tid, module: &str| Occupation {
            tid,
            name: Some("Thread-1 (_run_loop)".to_owned()),
            at: Some(Frame { module: Some(module.to_owned()), ..Frame::default() }),
            ..Occupation::default()
        };
        let own = at(7, "/venv/lib/python3.11/site-packages/gunicorn/ctl/server.py");
        let others = at(8, "/srv/app/ctl/server.py");
        let text = |threads: &[SeenThread]| advice(&program, threads, &[own.clone(), others.clone()]).text;
        assert!(text(&[thread(7)]).contains("--no-control-socket"));
        for threads in [&[thread(8)][..], &[thread(7), thread(8)], &[thread(9)], &[]] {
            assert!(text(threads).contains("post_fork"), "{threads:?}");
        }
    }

    #[test]
    fn each_ecosystem_is_recognised() {
        let python = "/usr/bin/python3.11";
        for (comm, exe, cmdline, threads, name) in [
            (
                "gunicorn",
                python,
                &["python3", "/venv/bin/gunicorn", "--preload", "app"][..],
                &[][..],
                "gunicorn",
            ),
            ("gunicorn: maste", python, &["gunicorn: master [app]"], &[], "gunicorn"),
            ("uwsgi", "/usr/bin/uwsgi-core", &["uwsgi", "--ini", "a.ini"], &[], "uWSGI"),
            ("uwsgi", "/venv/bin/uwsgi", &["uWSGI master"], &[], "uWSGI"),
            ("celery", python, &["[celeryd: celery@host:MainProcess]", "-A", "app"], &[], "Celery"),
            ("python3", python, &["python3", "-m", "celery", "-A", "app", "worker"], &[], "Celery"),
            ("ruby", "/usr/bin/ruby3.1", &["puma 6.4.2 (tcp://0.0.0.0:80) [app]"], &[], "Puma"),
            ("ruby", "/usr/bin/ruby3.1", &["resque-2.6.0: Waiting for *"], &[], "Resque"),
            ("ruby", "/usr/bin/ruby3.1", &["unicorn master -c u.rb"], &[], "Unicorn and Pitchfork"),
            ("ruby", "/usr/bin/ruby3.1", &["Passenger AppPreloader: /srv/app"], &[], "Passenger"),
            ("ruby", "/usr/bin/ruby3.1", &["ruby", "job.rb"], &[], "Ruby"),
            (
                "redis-check-rd",
                "/usr/bin/redis-check-rdb",
                &["redis-check-rdb", "dump.rdb"],
                &[],
                "any program",
            ),
            (
                "redis-server",
                "/usr/bin/redis-check-rdb",
                &["redis-server *:6379"],
                &[],
                "Redis, Valkey and KeyDB",
            ),
            ("pt_main_thread", python, &["python", "train.py"], &[], "PyTorch (DataLoader)"),
            ("python", python, &["python", "train.py"], &["cuda-EvtHandlr"], "PyTorch (DataLoader)"),
            (
                "python",
                python,
                &["python", "work.py"],
                &["ExecutorManager"],
                "Python multiprocessing and ProcessPoolExecutor",
            ),
            ("python", python, &["python", "work.py"], &["python"], "Python"),
            ("a.out", "/tmp/a.out", &["./a.out"], &["a.out"], "any program"),
        ] {
            assert_eq!(recognised(comm, exe, cmdline, threads), name, "{cmdline:?}");
        }
    }
}
