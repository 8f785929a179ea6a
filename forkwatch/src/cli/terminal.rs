//! The terminal that the output goes to: whether it shows colours, and how wide it is.

use std::{
    env,
    io::{self, IsTerminal as _},
    os::fd::RawFd,
};

use clap::ValueEnum;

/// `--color`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum ColorChoice {
    /// On a terminal
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl ColorChoice {
    /// As <https://no-color.org> and <https://bixense.com/clicolors> want it: a variable counts where it is set and
    /// not empty, and the command line counts more.
    pub(super) fn is_on(self) -> bool {
        self.is_on_for(io::stdout().is_terminal())
    }

    /// The same, for what is written elsewhere than to stdout.
    pub(super) fn is_on_for(self, terminal: bool) -> bool {
        let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto if set("NO_COLOR") => false,
            Self::Auto
                if env::var_os("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0") =>
            {
                true
            }
            Self::Auto => terminal && env::var_os("TERM").is_none_or(|term| term != "dumb"),
        }
    }
}

nix::ioctl_read_bad!(window_size, libc::TIOCGWINSZ, libc::winsize);

/// Columns of the terminal that stdout is; none where it is none.
pub(super) fn width() -> Option<usize> {
    width_of(libc::STDOUT_FILENO)
}

/// Likewise of stderr.
pub(super) fn error_width() -> Option<usize> {
    width_of(libc::STDERR_FILENO)
}

fn width_of(descriptor: RawFd) -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the structure is the one this call fills, and lives through it.
    unsafe { window_size(descriptor, &raw mut size) }.ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}
