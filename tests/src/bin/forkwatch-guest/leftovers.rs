//! That nothing of forkwatch stays in the kernel, however it ends.

use anyhow::{Result, ensure};
use forkwatch_tests::{
    bpf::{Kind, ids},
    forkwatch::Forkwatch,
    wait::until,
};
use nix::sys::signal::Signal;

use crate::{doctor::is_on, proofs::with_all_attached, runner::Test};

pub(crate) const ALL: &[Test] = &[
    ("nothing stays after its end", || nothing_stays(|forkwatch| forkwatch.stop().map(drop))),
    ("nothing stays after SIGKILL", || {
        nothing_stays(|mut forkwatch| {
            forkwatch.signal(Signal::SIGKILL)?;
            forkwatch.ended().map(drop)
        })
    }),
];

/// How many objects there are of each kind.
fn counts() -> Result<Vec<usize>> {
    Kind::ALL.into_iter().map(|kind| Ok(ids(kind)?.len())).collect()
}

/// Nothing else loads programs here, and the kernel frees those of an earlier test in its own time.
fn none_left() -> Result<()> {
    until("all programs, maps and links to be gone", || {
        Ok((counts()?.iter().sum::<usize>() == 0).then_some(()))
    })
}

fn nothing_stays(end: impl FnOnce(Forkwatch) -> Result<()>) -> Result<()> {
    none_left()?;
    let (forkwatch, work) = with_all_attached()?;
    let loaded = counts()?;
    // Four programs are always there, and more while a connection is watched.
    let programs = 4 + usize::from(is_on("shared-connection")?);
    let at_least = [programs, 6, programs];
    ensure!(
        loaded.iter().zip(at_least).all(|(loaded, least)| *loaded >= least),
        "{loaded:?} programs, maps and links while it watches"
    );
    end(forkwatch)?;
    work.end()?;
    none_left()
}
