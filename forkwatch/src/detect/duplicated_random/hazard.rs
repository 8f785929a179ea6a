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
           unique are not, samples and augmented data repeat. CPython and CRuby seed their own generators anew in each \
           child (random.random, Kernel#rand and their like), but no object random.Random or Random of the program's; \
           NumPy and PHP seed none.",
    detection: "When the first child of a process that runs CPython, CRuby or PHP lives on without exec, the memory of \
                that process is searched for states of the Mersenne Twister, by their content. Each child that lives \
                on is compared with its parent at the same addresses when its grace is over, and when it has run \
                since. It is reported if two children of a parent have drawn numbers that follow from the parent's \
                present state. PCG64 and the other newer generators of NumPy and PHP cannot be recognised.",
    certainty: Certainty::Strong,
    certainty_reason: "Both children are further in one sequence than their parent, of which each has its copy. The \
                       parent may have been set back to an earlier state after the forks, and a program may want all \
                       its workers to draw the same.",
    state: State::Suspected,
    severity: Severity::Warning,
    look_alikes: &[
        "Children that have copies and do not draw from them, such as those of random.SystemRandom.",
        "The functions of CPython's module random, and CRuby's rand, whose generators are seeded anew in each child.",
        "PHP's random_int and random_bytes, which ask the kernel.",
        "Children that are seeded in the worker's initialiser, or by its number.",
        "One child that draws alone, while its parent and its siblings do not.",
    ],
    remedies,
    links: &[
        "https://docs.python.org/3/library/random.html",
        "https://numpy.org/doc/stable/reference/random/parallel.html",
        "https://www.php.net/manual/en/function.mt-srand.php",
        "https://docs.ruby-lang.org/en/master/Random.html",
    ],
    watches: "random numbers that forked children of CPython, CRuby and PHP programs draw more than once",
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
    let mut makers: Vec<Maker> = alike.iter().map(|(ours, _)| ours.maker).collect();
    makers.sort_by_key(|maker| *maker as u8);
    makers.dedup();
    let whose: Vec<&str> = makers.iter().map(|maker| of(*maker)).collect();
    let whose = whose.join(" and of ");
    let who = match others {
        0 | 1 => format!("{} and {}", sibling.tgid, child.tgid),
        more => format!("{} and {} other children", child.tgid, more),
    };
    let notes = alike.iter().map(|(ours, theirs)| {
        let maker = of(ours.maker);
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
        remedy: makers.last().map_or_else(of_python, |maker| advice(*maker)),
    }
}

/// What it is called.
const fn of(maker: Maker) -> &'static str {
    match maker {
        Maker::Python => "a random.Random object",
        Maker::Numpy => "NumPy's generator",
        Maker::Php => "PHP's generator",
        Maker::Ruby => "a Random object",
    }
}

fn advice(maker: Maker) -> Remedy {
    match maker {
        Maker::Python => of_python(),
        Maker::Numpy => of_numpy(),
        Maker::Php => of_php(),
        Maker::Ruby => of_ruby(),
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

fn of_php() -> Remedy {
    remedy(
        "Call mt_srand() without an argument first thing in each child, or draw with random_int() and Random\\Randomizer \
         over Random\\Engine\\Secure, which have no state that a fork could copy. shuffle, array_rand, str_shuffle and \
         rand draw from mt_rand's generator, too.",
        "https://www.php.net/manual/en/function.mt-srand.php",
    )
}

fn of_ruby() -> Remedy {
    remedy(
        "Make a new object Random in each child, after the fork (Puma's before_worker_boot, Unicorn's after_fork, Resque's \
         after_fork), or call Kernel#rand or SecureRandom, which a fork does not repeat.",
        "https://docs.ruby-lang.org/en/master/Random.html",
    )
}

fn remedies() -> Vec<(&'static str, Remedy)> {
    vec![
        ("random.Random objects of CPython", of_python()),
        ("NumPy", of_numpy()),
        ("PHP's mt_rand, rand and shuffle", of_php()),
        ("Random objects of CRuby", of_ruby()),
    ]
}
