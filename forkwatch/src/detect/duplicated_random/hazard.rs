//! `duplicated-random`: two children draw the same random numbers.
//!
//! Both have come further in the one sequence than their forker, from which each has it. So both have drawn the numbers
//! between. Two things may be otherwise: that the forker was set back after the forks, and that all are to draw the same.

use crate::{
    core::Verdict,
    detect::{Hazard, WITH_CHILD},
    model::{
        detector::{Aspect, DetectorState, Reach, Wanted},
        finding::{Certainty, Facts, HazardId, Remedy, Severity, State},
        generator::{Ahead, Generators, Maker},
        process::ProcessKey,
        program_name::called,
    },
    remedy::remedy,
};

pub(crate) static HAZARD: Hazard = Hazard {
    id: HazardId::new("duplicated-random"),
    title: "Forked children draw the same random numbers",
    what: "A fork copies the state of every generator of pseudo-random numbers. Children that draw from such copies all \
           get the same numbers: jitter that should spread retries makes them come together, names that should be \
           unique are not, samples and augmented data repeat. CPython seeds its module's own generator anew in each \
           child (random.random and its like), but no object random.Random of the program's, and NumPy seeds none.",
    detection: "When the first child of a process that runs CPython lives on without exec, the memory of that process \
                is searched for states of the Mersenne Twister, by their content. Each child that lives on is compared \
                with its parent at the same addresses when its grace is over, and when it has run since. It is \
                reported if two children of a parent have drawn numbers that follow from the parent's present state. \
                PCG64 and the other newer generators of NumPy cannot be recognised.",
    certainty: Certainty::Strong,
    certainty_reason: "Both children are further in one sequence than their parent, of which each has its copy. The \
                       parent may have been set back to an earlier state after the forks, and a program may want all \
                       its workers to draw the same.",
    state: State::Suspected,
    severity: Severity::Warning,
    look_alikes: &[
        "Children that have copies and do not draw from them, such as those of random.SystemRandom.",
        "The functions of CPython's module random, whose generator is seeded anew in each child.",
        "Children that are seeded in the worker's initialiser, or by its number.",
        "One child that draws alone, while its parent and its siblings do not.",
    ],
    remedies,
    links: &[
        "https://docs.python.org/3/library/random.html",
        "https://numpy.org/doc/stable/reference/random/parallel.html",
    ],
    watches: "random numbers that forked children of CPython programs draw more than once",
    sees: &[(Aspect::Memory, Wanted::Each)],
    without_sight: Some((
        Reach::Programs,
        DetectorState::Limited,
        "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH the memory and the descriptors of other users' processes cannot be read: only one's own are judged",
    )),
    needs: &[],
    knows_threads: false,
    tells_who_hangs: false,
    ends: WITH_CHILD,
};

/// Two children of a forker that have drawn the same.
pub(super) struct Case<'a> {
    pub(super) child: ProcessKey,
    /// The oldest of those that have drawn the same as it.
    pub(super) sibling: ProcessKey,
    pub(super) forker: ProcessKey,
    /// How many have drawn the same as it.
    pub(super) others: usize,
    /// Nanoseconds since the child began.
    pub(super) age: u64,
    /// The generators that both have drawn from: how far the child came, and how far its sibling.
    pub(super) alike: &'a [(Ahead, Ahead)],
    pub(super) generators: &'a Generators,
}

pub(super) fn judge(case: &Case<'_>) -> Verdict {
    let Case { child, sibling, forker, others, alike, generators, age } = case;
    let (name, forker) = (called(&generators.program), forker.tgid);
    let makers: Vec<Maker> = alike.iter().map(|(ours, _)| ours.maker).collect();
    let numpy = makers.contains(&Maker::Numpy);
    let whose = match (makers.contains(&Maker::Python), numpy) {
        (true, true) => "a random.Random object and of NumPy's generator",
        (_, true) => "NumPy's generator",
        (_, false) => "a random.Random object",
    };
    let who = match others {
        0 | 1 => format!("{} and {}", sibling.tgid, child.tgid),
        more => format!("{} and {} other children", child.tgid, more),
    };
    let notes = alike.iter().map(|(ours, theirs)| {
        let maker = match ours.maker {
            Maker::Python => "a random.Random object",
            Maker::Numpy => "NumPy's MT19937",
        };
        let (one, other) = (theirs.numbers, ours.numbers);
        format!(
            "from {maker} (state at {:#x}) {} has drawn {one} and {} has drawn {other} words since",
            ours.place, sibling.tgid, child.tgid
        )
    });
    Verdict {
        state: HAZARD.state,
        certainty: HAZARD.certainty,
        severity: HAZARD.severity,
        summary: format!(
            "{who}, forked by {name} (pid {forker}), draw the same random numbers: each has a copy of {whose}, in the \
             same state"
        ),
        facts: Facts { age: Some(*age), notes: notes.collect(), ..Facts::default() },
        remedy: if numpy { of_numpy() } else { of_python() },
    }
}

fn of_python() -> Remedy {
    remedy(
        "Seed the program's own generators in each child: call seed() of every random.Random object in the worker's \
         initialiser (multiprocessing.Pool(initializer=...), gunicorn's post_fork, Celery's worker_process_init), or \
         once for all: os.register_at_fork(after_in_child=rng.seed).",
        "https://docs.python.org/3/library/os.html#os.register_at_fork",
    )
}

fn of_numpy() -> Remedy {
    remedy(
        "Give each worker a generator of its own: numpy.random.SeedSequence(...).spawn(n), and default_rng with one of \
         these in each. Code that calls numpy.random.rand and its like calls numpy.random.seed() first thing in the \
         worker (initializer, post_fork; worker_init_fn of a PyTorch DataLoader).",
        "https://numpy.org/doc/stable/reference/random/parallel.html",
    )
}

fn remedies() -> Vec<(&'static str, Remedy)> {
    vec![("random.Random objects of CPython", of_python()), ("NumPy", of_numpy())]
}
