//! `forkwatch demo`: an unsafe fork made on purpose, and what forkwatch says of it.

use std::{
    cell::RefCell,
    env,
    io::{self, BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    rc::Rc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use tokio::time::sleep;

use super::{
    demo_program::{self, Fork, OWNER, READY, SIGNAL},
    exit::Exit,
    neighbours,
    shown::{Form, TimeStyle, shown},
    tail::asked_to_end,
    terminal::ColorChoice,
};
use crate::{
    config::{LogFormat, LogLevel},
    core::Settings,
    engine::{
        pipeline::Pipeline,
        session::{self, Session},
    },
    host::{self, Scope},
    kernel::{self, Filter, Stream},
    log::Log,
    model::{
        event::{Event, Lost},
        finding::{Finding, HazardId},
        particulars::Particulars,
        process::escape,
    },
    output::{Output, selection::Selection},
    paragraph, privilege, resources,
};

/// The findings that must come.
const EXPECTED: [HazardId; 3] =
    [HazardId::new("held-locks"), HazardId::new("pending-signals"), HazardId::new("orphaned-lock")];
/// Nobody wants to wait ten seconds for a demonstration.
const STUCK_AFTER: Duration = Duration::from_secs(1);
/// They come within some seconds of the fork; on a busy host somewhat later.
const PATIENCE: Duration = Duration::from_secs(15);

/// How it is shown.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// How events are shown; with json the explanations go to stderr
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
    /// When to use colour; `NO_COLOR` and `CLICOLOR_FORCE` are honoured
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    color: ColorChoice,
}

impl Options {
    fn tell(&self, text: &str) -> Result<()> {
        let written = match self.output {
            Form::Columns => io::stdout().write_all(text.as_bytes()),
            Form::Json => io::stderr().write_all(text.as_bytes()),
        };
        written.context("cannot write the output")
    }
}

/// Starts the program, watches it until the findings have come, explains them, and ends the program.
pub(super) fn run(options: &Options) -> Result<Exit> {
    Log::start(LogFormat::Auto, LogLevel::Warn, false).context("cannot start the log")?;
    privilege::require_for_load()?;
    let mut program = Program::start()?;
    let process = host::find(program.process.id())?;
    let kernel_options = kernel::Options {
        stream: Stream { plain: true, sharing: true, threads: false },
        filter: Filter { tasks: true, ..Filter::default() },
        ..kernel::Options::default()
    };
    resources::raise_open_files();
    let mut session = Session::start(&kernel_options, &[process], None)?;
    let settings = Settings { stuck_after: STUCK_AFTER, ..Settings::default() };
    options.tell(&introduction(process.key.tgid))?;
    let explanation = session::runtime()?.block_on(async {
        let collector = session.collector(Scope::default())?;
        let questions = collector.asker();
        let shown = shown(
            options.output,
            TimeStyle::default(),
            options.color,
            Selection::default(),
            &session.context,
        );
        let missing = Rc::new(RefCell::new(EXPECTED.to_vec()));
        let (mut pipeline, _kernel) = Pipeline::new(session, settings, collector, None)?;
        pipeline.add(vec![shown, Box::new(Expected(Rc::clone(&missing)))]);
        let asked = asked_to_end()?;
        let fork = program.fork()?;
        let end = pipeline
            .run(async {
                tokio::select! {
                    () = asked => End::Asked,
                    () = sleep(PATIENCE) => End::TooLate,
                }
            })
            .await?;
        pipeline.end()?;
        match end {
            // While the child still hangs.
            None => {
                let program = invocation();
                let around = neighbours::words(&neighbours::neighbours(&questions), &program);
                Ok(Some(explanation(&fork, &program, around.as_deref())))
            }
            Some(End::Asked) => Ok(None),
            Some(End::TooLate) => bail!("{}", too_late(&missing.borrow())),
        }
    })?;
    drop(program);
    explanation.map_or(Ok(()), |text| options.tell(&text))?;
    Ok(Exit::Fine)
}

/// Why the watch ended without the findings.
enum End {
    Asked,
    TooLate,
}

/// Is done once all expected findings have come.
struct Expected(Rc<RefCell<Vec<HazardId>>>);

impl Output for Expected {
    fn event(&mut self, _: &Event, _: &Particulars) -> io::Result<()> {
        Ok(())
    }

    fn lost(&mut self, _: &Lost) -> io::Result<()> {
        Ok(())
    }

    fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        self.0.borrow_mut().retain(|hazard| *hazard != finding.hazard);
        Ok(())
    }

    fn resolution(&mut self, _: &Finding) -> io::Result<()> {
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

/// The unsafe forker. It ends, with its child, when this is dropped; also when this process is killed, because then
/// its stdin is closed too.
struct Program {
    process: Child,
    answers: BufReader<ChildStdout>,
}

impl Program {
    /// Starts it, and returns when it is ready to fork.
    fn start() -> Result<Self> {
        let mut process = Command::new("/proc/self/exe")
            .arg0("forkwatch")
            .arg(demo_program::NAME)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C is for the demo, which then ends it in order.
            .process_group(0)
            .spawn()
            .context("cannot start the demo's program")?;
        let answers = process.stdout.take().context("the demo's program has no stdout")?;
        let mut program = Self { process, answers: BufReader::new(answers) };
        match program.answer()?.as_str() {
            READY => Ok(program),
            other => bail!("the demo's program said {other:?} instead of {READY:?}"),
        }
    }

    /// Lets it fork.
    fn fork(&mut self) -> Result<Fork> {
        let commands = self.process.stdin.as_mut().context("the demo's program has no stdin")?;
        commands.write_all(b"fork\n").context("the demo's program has ended")?;
        let answer = self.answer()?;
        Fork::from_line(&answer)
            .with_context(|| format!("the demo's program could not fork, and said {answer:?}"))
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line).context("cannot hear the demo's program")?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // There is nothing to be done about a failure, and nothing left either: it is our child or it is gone.
        let _ = self.process.wait();
    }
}

fn introduction(pid: u32) -> String {
    let mut text = "forkwatch demo: an unsafe fork, made on purpose\n\n".to_owned();
    let paragraph = format!(
        "A small program (pid {pid}) forks while its thread {OWNER} holds a lock and while a signal, {SIGNAL}, is \
         pending but blocked. Its child then wants that lock. forkwatch watches this program alone; it gives the \
         child one second to exec, which would make the fork safe, and judges it after that. Then it looks, from \
         outside, at what the child does."
    );
    paragraph::add(&mut text, "", "", &paragraph);
    text.push('\n');
    text
}

/// What the findings mean for this child, then what to do next.
fn explanation(fork: &Fork, program: &str, around: Option<&str>) -> String {
    let mut text = "\nWhat this means (told by the demo, which knows its program)\n".to_owned();
    let add = |text: &mut String, line: &str| paragraph::add(text, "  ", "  ", line);
    add(&mut text, &stuck(fork));
    add(
        &mut text,
        &format!(
            "The {SIGNAL} that waited for the parent is not inherited: the child will never get it. In a real \
             program that may be the SIGTERM of whoever wanted to stop it."
        ),
    );
    text.push_str("  Both processes have been ended.\n\nWhat to do next\n");
    for (command, what) in [
        ("", "every fork on this host, and findings"),
        ("--pid PID", "one service, with its descendants"),
        ("top", "its servers and their workers, on a screen"),
        ("scan", "what hangs on this host already"),
        ("explain orphaned-lock", "the hazard and its remedies"),
        ("daemon", "metrics for Prometheus, events as JSON"),
        ("doctor", "what this host supports"),
    ] {
        let command = format!("  {program} {command}");
        let command = command.trim_end();
        // A long path leaves no room beside it.
        if command.len() > 38 {
            text.push_str(command);
            text.push('\n');
            paragraph::add(&mut text, "      ", "      ", what);
        } else {
            paragraph::add(&mut text, &format!("{command:<40}"), &" ".repeat(40), what);
        }
    }
    text.push_str(concat!("  ", env!("CARGO_PKG_REPOSITORY"), "\n"));
    if let Some(around) = around {
        text.push_str("\nHere\n");
        add(&mut text, around);
    }
    text
}

/// How this program can be called again from here: by its name where the shell finds it, else by the path that it was
/// started by, as `cargo run` does.
fn invocation() -> String {
    const NAME: &str = "forkwatch";
    let own = env::current_exe().ok();
    let on_path = |own: &Path| {
        let folders = env::var_os("PATH").unwrap_or_default();
        let first = env::split_paths(&folders).map(|folder| folder.join(NAME)).find(|path| path.is_file());
        first.and_then(|path| path.canonicalize().ok()).as_deref() == Some(own)
    };
    match (own, env::args().next()) {
        (Some(own), _) if on_path(&own) => NAME.to_owned(),
        (_, Some(called)) if called.contains('/') => escape(called.as_bytes()),
        _ => NAME.to_owned(),
    }
}

/// Why the child hangs.
fn stuck(fork: &Fork) -> String {
    let Fork { child, owner } = fork;
    format!(
        "The child (pid {child}) hangs for good, as orphaned-lock has proven: the lock names its owner, thread {OWNER} \
         (tid {owner}). A child gets a copy of the lock, but only the thread that forked: the owner exists only in \
         the parent, where it released the lock long ago. Nobody will ever release the child's copy."
    )
}

fn too_late(missing: &[HazardId]) -> String {
    let names: Vec<&str> = missing.iter().map(|hazard| hazard.name()).collect();
    format!(
        "the demo's fork was not judged as {} within {} s. The host may be very busy: try again; otherwise \
         `forkwatch doctor` says what is missing here",
        names.join(" and "),
        PATIENCE.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORK: Fork = Fork { child: 4_194_303, owner: 4_194_302 };

    #[test]
    fn everything_told_fits_eighty_columns() {
        let called = [
            "forkwatch",
            "target/release/forkwatch",
            "/home/somebody/src/forkwatch/target/release/forkwatch",
        ]
        .map(|program| explanation(&FORK, program, Some("One server that forks. ".repeat(9).as_str())));
        for text in called.into_iter().chain([introduction(4_194_301)]) {
            for line in text.lines() {
                assert!(line.len() <= 80, "{line}");
            }
        }
    }

    #[test]
    fn what_did_not_come_is_named() {
        assert!(too_late(&EXPECTED).contains("held-locks and pending-signals and orphaned-lock within 15 s"));
    }
}
