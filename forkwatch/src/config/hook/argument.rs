//! The arguments of a hook's program, in which values of the event can stand.
//!
//! Only numbers and words of forkwatch's own can: whatever else an event has comes from strangers, who could make an
//! option out of a name. Those values are in the document on standard input.

/// An argument.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Argument(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Value(Placeholder),
}

/// A value that can stand in an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// The process that it is about.
    Pid,
    /// The process that forked it.
    Parent,
    /// The user of that one.
    Uid,
    /// What happened.
    Action,
    /// The id of the hazard.
    Hazard,
    /// Where a finding stands.
    State,
    /// How sure it is.
    Certainty,
    /// How much it matters.
    Severity,
}

impl Placeholder {
    const ALL: [Self; 8] = [
        Self::Pid,
        Self::Parent,
        Self::Uid,
        Self::Action,
        Self::Hazard,
        Self::State,
        Self::Certainty,
        Self::Severity,
    ];

    /// Its name, between braces.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::Parent => "parent",
            Self::Uid => "uid",
            Self::Action => "action",
            Self::Hazard => "hazard",
            Self::State => "state",
            Self::Certainty => "certainty",
            Self::Severity => "severity",
        }
    }
}

/// Gives the values of an event.
pub trait Values {
    /// The value of one; none where the event has none.
    fn value(&self, placeholder: Placeholder) -> Option<String>;
}

impl Argument {
    /// Reads one. Two braces stand for one.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(place) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(place);
            plain.push_str(before);
            if let Some(after) = brace.strip_prefix("{{") {
                plain.push('{');
                rest = after;
            } else if let Some(after) = brace.strip_prefix("}}") {
                plain.push('}');
                rest = after;
            } else {
                let known = || Placeholder::ALL.map(|one| format!("{{{}}}", one.name())).join(", ");
                let named = brace.strip_prefix('{').and_then(|inner| inner.split_once('}'));
                let found = named.and_then(|(name, after)| {
                    Some((Placeholder::ALL.into_iter().find(|one| one.name() == name)?, after))
                });
                let Some((placeholder, after)) = found else {
                    return Err(format!(
                        "the argument {text:?} has a brace that begins or ends no known value: there are {}. Write {{{{ and \
                         }}}} for the braces themselves",
                        known()
                    ));
                };
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                pieces.push(Piece::Value(placeholder));
                rest = after;
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() || pieces.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }

    /// Whether it is the same for all events.
    pub(super) fn is_plain(&self) -> bool {
        self.0.iter().all(|piece| matches!(piece, Piece::Text(_)))
    }

    /// Whether this value stands in it.
    pub fn names(&self, placeholder: Placeholder) -> bool {
        self.0.contains(&Piece::Value(placeholder))
    }

    /// What it is for an event. The error is a value that the event does not have.
    pub fn of(&self, values: &impl Values) -> Result<String, Placeholder> {
        self.0.iter().try_fold(String::new(), |text, piece| match piece {
            Piece::Text(plain) => Ok(text + plain),
            Piece::Value(placeholder) => {
                values.value(*placeholder).map(|value| text + &value).ok_or(*placeholder)
            }
        })
    }

    /// As it was written, but for braces.
    pub fn shown(&self) -> String {
        self.0
            .iter()
            .map(|piece| match piece {
                Piece::Text(plain) => plain.clone(),
                Piece::Value(placeholder) => format!("{{{}}}", placeholder.name()),
            })
            .collect()
    }
}
