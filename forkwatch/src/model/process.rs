//! Which process, and what runs in it.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    path::PathBuf,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{provenance::Provenance, time::BootTime};

/// A process for as long as the host is up: the kernel reuses tgids, but not a tgid with its start time.
///
/// Two are equal if their starts fall into one clock tick: the kernel side tells nanoseconds, `/proc` only ticks, and no
/// pid is given out twice within 10 ms.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ProcessKey {
    /// Thread group id: what `ps` calls the pid.
    pub tgid: u32,
    /// `start_boottime` of its main thread.
    pub start: BootTime,
}

impl ProcessKey {
    /// What makes it this process and no other.
    const fn identity(self) -> (u32, u64) {
        (self.tgid, self.start.ticks())
    }
}

impl PartialEq for ProcessKey {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for ProcessKey {}

impl PartialOrd for ProcessKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ProcessKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.identity().cmp(&other.identity())
    }
}

impl Hash for ProcessKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

/// A task's `comm`: up to 15 bytes that the task itself chose, so anything but NUL may stand in it.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Comm([u8; 16]);

impl Comm {
    /// Takes what stands before the first NUL, at most 15 bytes.
    pub fn new(bytes: &[u8]) -> Self {
        let mut comm = [0; 16];
        for (to, from) in comm.iter_mut().take(15).zip(bytes.iter().take_while(|byte| **byte != 0)) {
            *to = *from;
        }
        Self(comm)
    }

    /// The bytes, without the NUL.
    pub fn bytes(&self) -> &[u8] {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        self.0.get(..length).unwrap_or(&self.0)
    }

    /// The text, with U+FFFD for what is not UTF-8. Not safe for a terminal: see `Display` for that.
    pub fn to_text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }
}

/// Safe for a terminal: control characters and bytes that are not UTF-8 appear as `\xNN`.
impl fmt::Display for Comm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&escape(self.bytes()))
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", escape(self.bytes()))
    }
}

impl From<&str> for Comm {
    fn from(text: &str) -> Self {
        Self::new(text.as_bytes())
    }
}

/// In recordings a comm is escaped text with `\\` for a backslash, so that every byte survives.
impl Serialize for Comm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.bytes().escape_ascii().to_string())
    }
}

impl<'de> Deserialize<'de> for Comm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        unescape(&text)
            .map(|bytes| Self::new(&bytes))
            .ok_or_else(|| de::Error::custom("broken escape in a comm"))
    }
}

/// Undoes [`slice::escape_ascii`].
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'x' => {
                    let digits = [bytes.next()?, bytes.next()?];
                    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
                }
                other => other,
            },
            other => other,
        });
    }
    Some(out)
}

/// Makes bytes that an attacker may have chosen safe to print: control characters (also the C1 ones and the
/// bidirectional overrides of Unicode), and bytes that are not UTF-8, appear as `\xNN` or `\u{N}`.
pub fn escape(text: impl AsRef<[u8]>) -> String {
    let bytes = text.as_ref();
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => out.push_str("\\\\"),
                '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {
                    out.extend(character.escape_unicode());
                }
                _ if character.is_ascii_control() => push_byte(&mut out, u32::from(character)),
                _ if character.is_control() => out.extend(character.escape_unicode()),
                _ => out.push(character),
            }
        }
        for byte in chunk.invalid() {
            push_byte(&mut out, u32::from(*byte));
        }
    }
    out
}

fn push_byte(out: &mut String, byte: u32) {
    out.push_str("\\x");
    out.extend([byte >> 4, byte & 15].iter().filter_map(|digit| char::from_digit(*digit, 16)));
}

/// What runs in a process, as far as `/proc` shows it. Unknown is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Comm of the main thread.
    pub comm: Comm,
    /// The executable (`/proc/PID/exe`; reading another user's wants `CAP_SYS_PTRACE`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exe: Option<PathBuf>,
    /// The command line, at most 32 arguments and 4096 bytes of it, lossy where it is not UTF-8.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub cmdline: Vec<String>,
    /// The systemd unit, from the cgroup path: `gunicorn.service`, `session-3.scope`. One that a user's service manager
    /// or a container has made bears the name of that before it: `user@1000.service/gunicorn.service`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unit: Option<String>,
    /// The container's id, from the cgroup path (docker, containerd, cri-o, podman, lxc); that of one within a container
    /// or of a user's, with the name of that before it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub container: Option<String>,
    /// The cgroup path that `unit` and `container` were read from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cgroup: Option<String>,
    /// Real uid.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// How far all these names can be relied on; absent where nobody has looked, and in recordings of earlier versions.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub provenance: Option<Provenance>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comm_ends_at_nul_and_after_fifteen_bytes() {
        assert_eq!(Comm::new(b"sh\0garbage").bytes(), b"sh");
        assert_eq!(Comm::new(b"0123456789abcdefgh").bytes(), b"0123456789abcde");
        assert_eq!(Comm::new(b"").bytes(), b"");
    }

    #[test]
    fn a_hostile_comm_cannot_reach_the_terminal() {
        let shown = Comm::new(b"\x1b[31m\xffok\xc2\x9b\\").to_string();
        assert_eq!(shown, "\\x1b[31m\\xffok\\u{9b}\\\\");
        assert_eq!(escape("a\u{202e}b".as_bytes()), "a\\u{202e}b");
    }

    #[test]
    fn every_comm_survives_a_recording() {
        for byte in 1..=u8::MAX {
            let comm = Comm::new(&[b'a', byte, b'\\', b'"', byte]);
            let text = serde_json::to_string(&comm).unwrap();
            assert_eq!(serde_json::from_str::<Comm>(&text).unwrap(), comm, "{text}");
        }
        assert!(serde_json::from_str::<Comm>(r#""a\\x4""#).is_err());
    }
}
