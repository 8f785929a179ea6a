//! `forkwatch top`: servers, their workers and what was found about them, on a screen that follows.

mod daemon;
mod draw;
mod groups;
mod keys;
mod known;
mod rounds;
mod rows;
mod source;
mod survey;
#[cfg(test)]
mod tests;
mod told;
mod view;

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    io::{self, IsTerminal as _},
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use jiff::Timestamp;
use ratatui::{
    DefaultTerminal,
    crossterm::{
        event::{self, DisableMouseCapture, EnableMouseCapture, Event},
        execute,
    },
};
use tokio::{sync::mpsc, time};

use self::{
    daemon::{Asked, Asking},
    draw::Look,
    known::Known,
    rows::master,
    source::{Own, Source},
    survey::{Looked, Survey},
    told::{Telling, Told},
    view::{Shown, View},
};
use super::{exit::Exit, tail::asked_to_end, terminal::ColorChoice};
use crate::{
    api::ServerDocument,
    client::{AskError, Watch},
    core::Settings,
    engine::{
        pipeline::Pipeline,
        session::{self, Session},
    },
    host::{self, Scope},
    kernel::{self, Probe, Stream},
    model::{defaults, process::ProcessKey},
    output::workers::Workers,
    privilege,
    reader::{Client, Starter},
    resources,
};

/// How soon it is looked whether an answer has come that somebody waits for.
const SOON: Duration = Duration::from_millis(50);

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
    /// Watch by itself, also where a daemon runs that could be asked
    #[arg(long)]
    own: bool,
    /// The local socket of the daemon to ask; `FORKWATCH_SOCKET` names another default
    /// [default: /run/forkwatch/api.sock]
    #[arg(long, value_name = "PATH", conflicts_with = "own")]
    socket: Option<PathBuf>,
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
    let screen = |source, survey| -> Result<Screen> {
        Ok(Screen {
            terminal: Terminal::take()?,
            view: View::new(only),
            look: Look { color: options.color.is_on() },
            source,
            survey,
            seen: HashMap::new(),
            ended: HashMap::new(),
        })
    };
    match attach(options)? {
        Some(asking) => {
            let reader = Client::new(Starter::start()?).with_patience(survey::PATIENCE);
            // What is drawn and asked needs none of what the reader may.
            privilege::reduce()?;
            let survey = Survey::start(survey::by_itself(reader)).context(NO_SURVEY)?;
            let asked =
                Asked::start(asking, options.interval).context("cannot start the thread that asks")?;
            session::runtime()?.block_on(async {
                let asked_to_end = asked_to_end()?;
                screen(Source::Daemon(asked), survey)?.show(options.interval, asked_to_end).await
            })?;
        }
        None => watch(options, screen)?,
    }
    Ok(Exit::Fine)
}

/// What is said where the thread that looks at servers cannot be had.
const NO_SURVEY: &str = "cannot start the thread that looks at servers";

/// A daemon that runs, where it is to be asked: then no second set of programs is loaded into the kernel.
fn attach(options: &Options) -> Result<Option<Asking>> {
    if options.own {
        return Ok(None);
    }
    match Asking::begin(Watch::at(options.socket.as_deref())) {
        Ok(asking) => Ok(Some(asking)),
        Err(AskError::Nobody { .. }) if options.socket.is_none() => Ok(None),
        Err(error @ AskError::Nobody { .. }) => Err(error.into()),
        Err(error) => Err(anyhow::Error::from(error)
            .context("a daemon runs, and cannot be asked; `forkwatch top --own` watches by itself")),
    }
}

/// Watches by itself, for this screen.
fn watch(options: &Options, screen: impl FnOnce(Source, Survey) -> Result<Screen>) -> Result<()> {
    resources::raise_open_files();
    let mut session = Session::start(&kernel_options(), &[], None)?;
    resources::check_open_files()?;
    let unseen =
        (!session.missing.is_empty()).then(|| "processes of others cannot be looked into".to_owned());
    let context = session.context.clone();
    session::runtime()?.block_on(async {
        let collector = session.collector(Scope::default())?;
        let survey = Survey::start(survey::by(collector.asker())).context(NO_SURVEY)?;
        let sweep_interval = Some(defaults::SWEEP_INTERVAL);
        let settings = Settings { sweep_interval, workers: true, ..Settings::default() };
        let (mut pipeline, _kernel) = Pipeline::new(session, settings, collector, None)?;
        let (workers, told) = (Workers::default(), Rc::new(RefCell::new(Told::default())));
        pipeline.add(vec![Box::new(workers.clone()), Box::new(Telling(Rc::clone(&told), context.clone()))]);
        let asked = asked_to_end()?;
        let screen =
            screen(Source::Own(Own { context, workers, told, known: Known::default(), unseen }), survey)?;
        let ended = pipeline.run(screen.show(options.interval, asked)).await;
        pipeline.end()?;
        ended?.unwrap_or(Ok(()))
    })
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
    source: Source,
    survey: Survey,
    seen: HashMap<ProcessKey, Rc<Looked>>,
    /// Masters that have ended, and when that was seen.
    ended: HashMap<ProcessKey, Timestamp>,
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
                () = time::sleep(SOON), if self.view.wanted.is_some() => {
                    self.find();
                    self.draw()?;
                    continue;
                }
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
            self.find();
            self.draw()?;
        }
    }

    fn draw(&mut self) -> Result<()> {
        let Self { terminal, view, look, .. } = self;
        terminal.0.draw(|frame| draw::draw(frame, view, *look)).context("cannot draw")?;
        Ok(())
    }

    /// Shows what has come since.
    fn renew(&mut self) {
        for seen in self.survey.seen() {
            match seen.looked {
                Some(looked) => drop(self.seen.insert(seen.master, Rc::new(looked))),
                None => drop(self.seen.remove(&seen.master)),
            }
        }
        let Some(mut shown) = self.source.shown() else { return };
        self.note_ends(&shown.servers, shown.now);
        let is_shown = |server: &Arc<ServerDocument>| {
            let since = self.ended.get(&master(server));
            since.is_none_or(|since| shown.now.duration_since(*since).unsigned_abs() < ENDED_FOR)
        };
        if !shown.servers.iter().all(is_shown) {
            shown.servers =
                Arc::new(shown.servers.iter().filter(|server| is_shown(server)).cloned().collect());
        }
        let masters: HashSet<ProcessKey> = shown.servers.iter().map(|server| master(server)).collect();
        self.seen.retain(|process, _| masters.contains(process));
        self.view.show(Shown {
            seen: self.seen.clone(),
            ended: self.ended.keys().copied().collect(),
            ..shown
        });
        self.survey.want(self.view.masters());
    }

    /// Nothing tells of the end of a master: it is looked for where no worker is left.
    fn note_ends(&mut self, servers: &[Arc<ServerDocument>], now: Timestamp) {
        let without: HashSet<ProcessKey> =
            servers.iter().filter(|server| server.workers.is_empty()).map(|server| master(server)).collect();
        self.ended.retain(|process, _| without.contains(process));
        for process in without {
            if !self.ended.contains_key(&process) && host::look_again(process).is_none() {
                self.ended.insert(process, now);
            }
        }
    }

    /// Shows all of the finding that somebody wants to see, once it is there.
    fn find(&mut self) {
        let found = self.view.wanted.as_deref().and_then(|id| self.source.find(id));
        if let Some(kept) = found {
            self.view.tell(&kept);
        }
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
