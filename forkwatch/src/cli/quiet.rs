//! Says once, to somebody at a terminal, that nothing has happened yet, and what to try.

use std::{
    cell::Cell,
    future::pending,
    io::{self, IsTerminal as _},
    rc::Rc,
    time::Duration,
};

use tokio::time::sleep;

use crate::{
    model::{
        event::{Event, Lost},
        finding::Finding,
        particulars::Particulars,
    },
    output::Output,
};

/// How long nothing must have happened.
const QUIET: Duration = Duration::from_secs(10);

/// Whether anything was told.
#[derive(Clone, Default)]
pub(super) struct Heard(Rc<Cell<bool>>);

impl Heard {
    /// Says it after a while in which nothing was told, where stderr is a terminal. Never ready.
    pub(super) async fn say_if_quiet(self, scope: String) {
        sleep(QUIET).await;
        if !self.0.get() && io::stderr().is_terminal() {
            eprintln!(
                "forkwatch: no fork yet of {scope}. Start something that forks, or try `forkwatch demo`;\n\
                 `forkwatch scan` says what hangs already, and `forkwatch doctor` whether all can be seen here"
            );
        }
        pending::<()>().await;
    }
}

impl Output for Heard {
    fn event(&mut self, _: &Event, _: &Particulars) -> io::Result<()> {
        self.0.set(true);
        Ok(())
    }

    fn lost(&mut self, _: &Lost) -> io::Result<()> {
        self.0.set(true);
        Ok(())
    }

    fn finding(&mut self, _: &Finding) -> io::Result<()> {
        self.0.set(true);
        Ok(())
    }

    fn resolution(&mut self, _: &Finding) -> io::Result<()> {
        Ok(())
    }
}
