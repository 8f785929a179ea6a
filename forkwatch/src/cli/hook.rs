//! `forkwatch hook`: what hooks there are, whether they can be used, and whether they are on.

mod text;

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use super::{
    exit::{Exit, UsageError},
    hooks::DEFAULT,
};
use crate::{
    client::{AskError, Watch},
    config::hook::{Deed, Hook, Hooks},
    hooks::{HooksDocument, TrialDocument, try_out},
    model::process::escape,
    tls,
};

/// Longest wait for the process that runs hooks. A test takes as long as the hook may.
const PATIENCE: Duration = Duration::from_secs(10);
const TEST_PATIENCE: Duration = Duration::from_secs(4 * 3600);

/// What is to be done.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(subcommand)]
    deed: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show the hooks, in the order in which they run, and how they have run so far
    List {
        #[command(flatten)]
        whom: Whom,
        /// The file, where no process runs hooks
        #[arg(long, value_name = "FILE", default_value = DEFAULT)]
        config: PathBuf,
        /// As a document of `forkwatch.hooks/1`
        #[arg(long)]
        json: bool,
    },
    /// Say whether a file of hooks can be used
    ///
    /// Ends with 2 where it cannot.
    Check {
        /// The file
        #[arg(value_name = "FILE", default_value = DEFAULT)]
        file: PathBuf,
        /// Say nothing where it can be used
        #[arg(short, long)]
        quiet: bool,
    },
    /// Have a hook run from now on, until forkwatch hooks ends
    Enable {
        /// Its name
        name: String,
        #[command(flatten)]
        whom: Whom,
    },
    /// Have a hook not run any more, until forkwatch hooks ends
    Disable {
        /// Its name
        name: String,
        #[command(flatten)]
        whom: Whom,
    },
    /// Run a hook now, for an event that is made up
    ///
    /// The event is a finding of orphaned-lock about a process that only sleeps, which the hook may kill or look into. In
    /// the hook's environment `FORKWATCH_TEST` is 1; a POST has the header X-Forkwatch-Test. Ends with 1 where the hook fails.
    Test {
        /// Its name
        name: String,
        #[command(flatten)]
        whom: Whom,
        /// Run it from here, as the user that you are, and not by the process that runs hooks
        #[arg(long)]
        here: bool,
        /// The file, with --here
        #[arg(long, value_name = "FILE", default_value = DEFAULT)]
        config: PathBuf,
        /// As a document of `forkwatch.hook-test/1`
        #[arg(long)]
        json: bool,
    },
    /// Have the file read anew
    Reload {
        #[command(flatten)]
        whom: Whom,
    },
}

/// The process that runs hooks.
#[derive(Debug, Args)]
struct Whom {
    /// The local socket of the process that runs hooks; `FORKWATCH_HOOKS_SOCKET` names another default
    /// [default: /run/forkwatch-hooks/hooks.sock]
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
}

impl Whom {
    fn ask(&self, patience: Duration) -> Watch {
        Watch::hooks(self.control.as_deref(), patience)
    }
}

pub(super) fn run(options: &Options) -> Result<Exit> {
    match &options.deed {
        What::List { whom, config, json } => list(whom, config, *json),
        What::Check { file, quiet } => check(file, *quiet),
        What::Enable { name, whom } => switch(whom, name, true),
        What::Disable { name, whom } => switch(whom, name, false),
        What::Test { name, whom, here, config, json } => test(whom, name, here.then_some(config), *json),
        What::Reload { whom } => {
            let now: HooksDocument = whom.ask(PATIENCE).order("/reload").map_err(helped)?;
            let count = u64::try_from(now.hooks.len()).unwrap_or(u64::MAX);
            print(&format!("{} was read anew: {}\n", now.file, text::counted(count, "hook")))
        }
    }
}

fn list(whom: &Whom, config: &Path, json: bool) -> Result<Exit> {
    let document = match whom.ask(PATIENCE).get("/hooks") {
        Ok(document) => document,
        // Without a path, who runs hooks is looked for where the service is.
        Err(AskError::Nobody { .. }) if whom.control.is_none() => {
            HooksDocument::of(config.display().to_string(), &Hooks::load(config)?.0)
        }
        Err(error) => return Err(error.into()),
    };
    if json {
        return print(&(serde_json::to_string(&document)? + "\n"));
    }
    print(&text::list(&document, jiff::Timestamp::now()))
}

fn check(file: &Path, quiet: bool) -> Result<Exit> {
    let hooks = Hooks::load(file)?.0;
    for hook in &hooks {
        if let Some(doubt) = doubt(hook) {
            writeln!(io::stderr(), "forkwatch: warning: {}: hook {:?}: {doubt}", file.display(), hook.name)
                .context("cannot write the warning")?;
        }
    }
    if quiet {
        return Ok(Exit::Fine);
    }
    let document = HooksDocument::of(file.display().to_string(), &hooks);
    print(&format!("{} can be used.\n\n{}", file.display(), text::hooks(&document, jiff::Timestamp::now())))
}

/// What may keep a hook from running, as seen from here.
fn doubt(hook: &Hook) -> Option<String> {
    let arguments = match &hook.deed {
        Deed::Exec(arguments) => arguments,
        Deed::Post { url, ca_file, .. } => {
            let trust = ca_file.as_deref().map_or(tls::Trust::Host, tls::Trust::File);
            let tried = url.is_secure.then(|| tls::Client::new(trust))?;
            let writer = || Some(hook.writer()?.ok()??.to_string());
            return tried.err().map(|error| error.to_string()).or_else(writer);
        }
    };
    let program = arguments.first()?.shown();
    match fs::metadata(&program) {
        Err(error) => Some(format!("{program} cannot be found: {error}")),
        Ok(found) if !found.is_file() => Some(format!("{program} is no file")),
        Ok(found) if found.permissions().mode() & 0o111 == 0 => {
            Some(format!("{program} may not be executed"))
        }
        // Where others than a group may, the file is refused.
        Ok(_) => match hook.writer()? {
            Ok(writer) => writer.map(|writer| format!("others may decide what it does: {writer}")),
            Err(error) => Some(format!("who may write {program} cannot be found out: {error}")),
        },
    }
}

fn switch(whom: &Whom, name: &str, on: bool) -> Result<Exit> {
    let word = if on { "enable" } else { "disable" };
    let now: HooksDocument =
        whom.ask(PATIENCE).order(&format!("/hooks/{}/{word}", in_path(name)?)).map_err(helped)?;
    print(&format!(
        "{name} is {word}d until forkwatch hooks ends; for good, set enabled = {on} in {}\n",
        now.file
    ))
}

fn test(whom: &Whom, name: &str, here: Option<&PathBuf>, json: bool) -> Result<Exit> {
    let tried: TrialDocument = match here {
        Some(file) => {
            let hooks = Hooks::load(file)?.0;
            let hook = hooks.iter().find(|hook| hook.name == name).ok_or_else(|| {
                UsageError(format!(
                    "there is no hook {name:?} in {}: forkwatch hook list shows them",
                    file.display()
                ))
            })?;
            TrialDocument::new(name, hook.enabled, &try_out(hook)?)
        }
        None => whom.ask(TEST_PATIENCE).order(&format!("/hooks/{}/test", in_path(name)?)).map_err(helped)?,
    };
    let is_good = tried.ran.how == "good";
    print(&if json { serde_json::to_string(&tried)? + "\n" } else { text::trial(&tried) })?;
    Ok(if is_good { Exit::Fine } else { Exit::Failed })
}

/// What to do where nobody runs hooks.
fn helped(error: AskError) -> anyhow::Error {
    let help = match &error {
        AskError::Nobody { .. } => "start it with: systemctl start forkwatch-hooks",
        AskError::Broken { .. } | AskError::Forbidden(_) | AskError::Refused(..) => return error.into(),
    };
    let said = format!("{error}; {help}");
    anyhow::Error::from(error).context(said)
}

/// A name that can stand in a path, as those of all hooks can.
fn in_path(name: &str) -> Result<&str, UsageError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.bytes().all(is_plain) && !name.is_empty() {
        return Ok(name);
    }
    Err(UsageError(format!("no hook can be called {:?}", escape(name.as_bytes()))))
}

fn print(text: &str) -> Result<Exit> {
    io::stdout().write_all(text.as_bytes()).context("cannot write the output")?;
    Ok(Exit::Fine)
}
