//! Where forkwatch keeps something of its own: where the service manager gives it a directory, at a path, or nowhere.

use std::{
    env,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// `"auto"`, `"none"`, or a path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum OwnPlace {
    /// In the directory that the service manager gives; nowhere where none does.
    #[default]
    Auto,
    /// Nowhere.
    None,
    /// At this path.
    Path(PathBuf),
}

impl TryFrom<String> for OwnPlace {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            path if Path::new(path).is_absolute() => Ok(Self::Path(path.into())),
            other => Err(format!("{other:?} is neither \"auto\" nor \"none\" nor an absolute path")),
        }
    }
}

impl From<OwnPlace> for String {
    fn from(place: OwnPlace) -> Self {
        match place {
            OwnPlace::Auto => "auto".to_owned(),
            OwnPlace::None => "none".to_owned(),
            OwnPlace::Path(path) => path.to_string_lossy().into_owned(),
        }
    }
}

impl OwnPlace {
    /// The path, where there is one: below the directory that this variable of the service manager's names, with this name.
    pub fn path(&self, variable: &str, name: &str) -> Option<PathBuf> {
        match self {
            Self::None => None,
            Self::Path(path) => Some(path.clone()),
            // Several directories have colons between; the first is ours.
            Self::Auto => {
                let directories = env::var(variable).ok()?;
                let first = directories.split(':').next().filter(|first| first.starts_with('/'))?;
                Some(Path::new(first).join(name))
            }
        }
    }
}
