//! Everything that is made from the program itself, for `cargo xtask gen` to keep fresh. The program as it is shipped has
//! no part of this: the schemas alone would be half a megabyte of it.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use serde_json::{Value, json};

use super::{Arguments, inspect, rescue};
use crate::{
    api::openapi,
    config::renamed,
    detect::{self, CATALOGUE, Hazard},
    output::{json, metrics},
};

/// Writes the schemas, the reference pages, the man pages and the completions into a directory. Fails where that cannot be
/// written to.
pub fn generate(directory: &Path) -> Result<()> {
    let (man, completions) = (directory.join("man"), directory.join("completions"));
    for directory in [&man, &completions] {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let mut command = visible(&Arguments::command());
    clap_mangen::generate_to(command.clone(), &man).context("cannot write the man pages")?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut command, "forkwatch", &completions)
            .context("cannot write the completions")?;
    }
    let schema = serde_json::to_string_pretty(&event_schema())? + "\n";
    write(&directory.join("events.schema.json"), &schema)?;
    let schema = serde_json::to_string_pretty(&inspect::schema())? + "\n";
    write(&directory.join("inspect.schema.json"), &schema)?;
    let schema = serde_json::to_string_pretty(&rescue::schema())? + "\n";
    write(&directory.join("rescue.schema.json"), &schema)?;
    let description = serde_json::to_string_pretty(&openapi())? + "\n";
    write(&directory.join("api.openapi.json"), &description)?;
    write(&directory.join("hazards.md"), &detect::markdown())?;
    write(&directory.join("metrics.md"), &metrics::markdown()?)?;
    for (name, dashboard) in metrics::dashboards()? {
        write(
            &directory.join(name).with_extension("json"),
            &(serde_json::to_string_pretty(&dashboard)? + "\n"),
        )?;
    }
    write(&directory.join("renamed.md"), &renamed::markdown())
}

/// The command without the hidden subcommands: the man pages leave them out, the completions would not.
pub(super) fn visible(command: &Command) -> Command {
    // clap can add subcommands, not take them away: all else that is shown is carried over.
    let mut visible = Command::new("forkwatch")
        .version(env!("CARGO_PKG_VERSION"))
        .args_conflicts_with_subcommands(command.is_args_conflicts_with_subcommands_set())
        .args(command.get_arguments())
        .groups(command.get_groups())
        .subcommands(command.get_subcommands().filter(|command| !command.is_hide_set()));
    if let Some(about) = command.get_about() {
        visible = visible.about(about.clone());
    }
    if let Some(about) = command.get_long_about() {
        visible = visible.long_about(about.clone());
    }
    if let Some(help) = command.get_after_help() {
        visible = visible.after_help(help.clone());
    }
    visible
}

/// The schema of an event, with the hazards that there are.
fn event_schema() -> Value {
    let mut schema = json::schema();
    if let Some(hazard) = schema.pointer_mut("/$defs/HazardId").and_then(Value::as_object_mut) {
        let entry = |entry: &Hazard| json!({ "type": "string", "const": entry.id.name(), "description": format!("{}.", entry.title) });
        hazard.remove("type");
        hazard.insert(
            "description".to_owned(),
            "The hazards that are judged, by the id that users see.".into(),
        );
        hazard.insert("oneOf".to_owned(), CATALOGUE.iter().copied().map(entry).collect());
    }
    schema
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_hidden_commands_is_left_out() {
        let mut whole = Arguments::command();
        let mut shown = visible(&whole);
        assert!(whole.get_subcommands().any(Command::is_hide_set), "nothing is hidden");
        assert!(!shown.get_subcommands().any(Command::is_hide_set));
        assert_eq!(shown.render_long_help().to_string(), whole.render_long_help().to_string());
        assert_eq!(shown.render_version(), whole.render_version());
    }

    #[test]
    fn completions_do_not_offer_the_hidden_commands() {
        for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut visible(&Arguments::command()), "forkwatch", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("check-config"), "{shell}");
            assert!(!script.contains("demo-program"), "{shell}");
        }
    }
}
