//! `forkwatch top`: servers, their workers and what was found about them, on a screen that follows.

mod draw;
mod keys;
mod rows;
mod survey;
#[cfg(test)]
mod tests;
mod told;
mod view;

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    io::{self, IsTerminal as _},
    rc::Rc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use ratatui::{
    DefaultTerminal,
    crossterm::{
        event::{self, DisableMouseCapture, EnableMouseCapture, Event},
        execute,
    },
};
use tokio::{sync::mpsc, time};

use self::{
    draw::Look,
    survey::Survey,
    told::{Telling, Told},
    view::{Shown, View},
};
use super::{exit::Exit, tail::asked_to_end, terminal::ColorChoice};
use crate::{
    cli::inspect::Family,
    core::Settings,
    engine::{
        pipeline::Pipeline,
        session::{self, Session},
    },
    host::{self, Scope, clock},
    kernel::{self, Probe, Stream},
    model::{defaults, process::ProcessKey},
    output::{Context, workers::Workers},
    resources,
};

/// How long a server is shown that has ended.
const ENDED_FOR: Duration = Duration::from_secs(60);

/// Which server, and how it is shown.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Only the server that this process belongs to: its master, or a worker
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,
    /// How often the screen is drawn anew where no key is pressed
    #[arg(short, long, value_name = "DURATION", default_value = "1s", value_parser = crate::config::refresh)]
    interval: Duration,
    /// When to use colour; `NO_COLOR` and `CLICOLOR_FORCE` are honoured
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    color: ColorChoice,
}

pub(super) fn run(options: &Options) -> Result<Exit> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        bail!(
            "top draws on a terminal, and stdin or stdout is none: use `forkwatch tail` for lines, or `forkwatch \
             inspect PID` for one look at a server"
        );
    }
    let only = options.pid.map(host::find).transpose()?.map(|process| process.key);
    resources::raise_open_files();
    let mut session = Session::start(&kernel_options(), &[], None)?;
    resources::check_open_files()?;
    let unseen =
        (!session.missing.is_empty()).then(|| "processes of others cannot be looked into".to_owned());
    let context = session.context.clone();
    session::runtime()?.block_on(async {
        let collector = session.collector(Scope::default())?;
        let survey =
            Survey::start(collector.asker()).context("cannot start the thread that looks at servers")?;
        let sweep_interval = Some(defaults::SWEEP_INTERVAL);
        let settings = Settings { sweep_interval, workers: true, ..Settings::default() };
        let (mut pipeline, _kernel) = Pipeline::new(session, settings, collector, None)?;
        let (workers, told) = (Workers::default(), Rc::new(RefCell::new(Told::default())));
        pipeline.add(vec![Box::new(workers.clone()), Box::new(Telling(Rc::clone(&told)))]);
        let asked = asked_to_end()?;
        let screen = Screen {
            terminal: Terminal::take()?,
            view: View::new(only),
            look: Look { color: options.color.is_on() },
            context,
            workers,
            told,
            survey,
            seen: HashMap::new(),
            unseen,
        };
        let ended = pipeline.run(screen.show(options.interval, asked)).await;
        pipeline.end()?;
        ended?.unwrap_or(Ok(()))
    })?;
    Ok(Exit::Fine)
}

/// Forks one by one, and connections from a child's first instruction on.
fn kernel_options() -> kernel::Options {
    kernel::Options {
        stream: Stream { plain: true, sharing: false, threads: false },
        asked: &[Probe::Heirs],
        ..kernel::Options::default()
    }
}

/// The terminal, which is given back as it was when this is dropped, and also after a panic.
struct Terminal(DefaultTerminal);

impl Terminal {
    fn take() -> Result<Self> {
        let terminal = Self(ratatui::try_init().context("cannot draw on this terminal")?);
        // A terminal without a mouse ignores this.
        execute!(io::stdout(), EnableMouseCapture).context("cannot draw on this terminal")?;
        Ok(terminal)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Whoever has closed the terminal wants nothing back.
        let _ = execute!(io::stdout(), DisableMouseCapture);
        ratatui::restore();
    }
}

/// The screen, and where what it shows comes from.
struct Screen {
    terminal: Terminal,
    view: View,
    look: Look,
    context: Context,
    workers: Workers,
    told: Rc<RefCell<Told>>,
    survey: Survey,
    seen: HashMap<ProcessKey, Rc<Family>>,
    unseen: Option<String>,
}

impl Screen {
    /// Shows until somebody leaves.
    async fn show(mut self, interval: Duration, asked: impl Future<Output = ()>) -> Result<()> {
        let mut inputs = inputs().context("cannot start the thread that reads keys")?;
        let mut tick = time::interval(interval);
        tick.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        tokio::pin!(asked);
        loop {
            let input = tokio::select! {
                () = &mut asked => return Ok(()),
                _ = tick.tick() => None,
                input = inputs.recv() => match input {
                    Some(input) => Some(input.context("cannot read keys")?),
                    None => return Ok(()),
                },
            };
            let page = self.view.places.servers.1.max(2) - 1;
            if let Some(input) = input {
                let action = keys::action(&input, self.view.is_typing, page);
                if let Some(action) = action
                    && !self.view.act(action)
                {
                    return Ok(());
                }
            } else {
                self.renew();
            }
            let Self { terminal, view, look, context, .. } = &mut self;
            terminal.0.draw(|frame| draw::draw(frame, view, *look, context)).context("cannot draw")?;
        }
    }

    /// Shows what has come since.
    fn renew(&mut self) {
        for seen in self.survey.seen() {
            match seen.family {
                Some(family) => drop(self.seen.insert(seen.master, Rc::new(family))),
                None => drop(self.seen.remove(&seen.master)),
            }
        }
        let mut table = self.workers.look(Clone::clone);
        let now = clock::now();
        // Nothing tells of the end of a master: it is looked for where no worker is left.
        let without = table.servers.iter().filter(|server| server.workers.is_empty());
        let ended: HashSet<ProcessKey> = without
            .map(|server| server.server.master)
            .filter(|master| host::look_again(*master).is_none())
            .collect();
        table
            .servers
            .retain(|server| !ended.contains(&server.server.master) || now.since(server.changed) < ENDED_FOR);
        self.seen.retain(|master, _| table.servers.iter().any(|server| server.server.master == *master));
        let told = self.told.borrow();
        self.view.show(Shown {
            table,
            seen: self.seen.clone(),
            findings: told.findings.iter().rev().cloned().collect(),
            ended,
            now,
            forks: told.forks,
            lost: told.lost,
            undecided: told.undecided,
            unseen: self.unseen.clone(),
        });
        drop(told);
        self.survey.want(self.view.masters());
    }
}

/// Keys, the mouse and changes of size, read by a thread of its own.
fn inputs() -> io::Result<mpsc::UnboundedReceiver<io::Result<Event>>> {
    let (send, receive) = mpsc::unbounded_channel();
    thread::Builder::new().name("keys".to_owned()).spawn(move || {
        loop {
            let input = event::read();
            let is_last = input.is_err();
            if send.send(input).is_err() || is_last {
                return;
            }
        }
    })?;
    Ok(receive)
}
