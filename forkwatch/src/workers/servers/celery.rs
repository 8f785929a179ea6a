//! Celery: `[celeryd: celery@host:MainProcess] -active- (worker -A app)` and `[celeryd: celery@host:ForkPoolWorker-1]`
//! with setproctitle, else the command line that started it in all processes.

use super::{
    Part, Role, Rule, Signs, Work,
    command_line::{Opt, settings},
};

pub(super) static RULE: Rule = Rule {
    part,
    settings: |signs| settings(&signs.words, &OPTIONS),
    work: Work::JOBS,
    ..Rule::new("Celery", |signs| signs.named(&["celery"]))
};

const OPTIONS: [Opt; 5] = [
    Opt::value("pool", &["-P", "--pool"]),
    Opt::value("concurrency", &["-c", "--concurrency"]),
    Opt::value("application", &["-A", "--app"]),
    Opt::value("queues", &["-Q", "--queues"]),
    Opt::value("max tasks per child", &["--max-tasks-per-child"]),
];

fn part(signs: &Signs<'_>) -> Option<Part> {
    let title = signs.after("[celeryd: ").or_else(|| signs.after("[celery "))?;
    let (node, _) = title.split_once(']')?;
    let (_, process) = node.rsplit_once(':').unwrap_or(("", node));
    Some(match process {
        "MainProcess" => Part::of(Role::Master),
        name if name.starts_with("ForkPoolWorker") || name.starts_with("PoolWorker") => {
            Part::titled(Role::Worker, name)
        }
        name => Part::titled(Role::Helper, name),
    })
}
