//! Single values of the configuration: what they may be, and what is said when they are not.
//!
//! The checks run inside serde, so that the message shows the line.

use std::{
    fmt::Display,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use serde::{Deserialize, Deserializer, Serialize, de::Error};

use crate::{
    core::suppress::{SuppressRule, Written},
    detect,
};

/// How the daemon's log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text; for the systemd journal, where that reads it, with priorities and without times.
    #[default]
    Auto,
    /// Text with times.
    Text,
    /// One JSON object a line.
    Json,
}

/// The least severe level that the daemon logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only what makes forkwatch unable to do its work.
    Error,
    /// Also what makes it do less than asked.
    Warn,
    /// Also what it does.
    #[default]
    Info,
    /// Also how it does it.
    Debug,
    /// Also each step.
    Trace,
}

/// Where events are written, one JSON object a line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum EventOutput {
    /// Nowhere.
    #[default]
    None,
    /// Standard output.
    Stdout,
    /// This file, which is rotated by size.
    File(PathBuf),
}

impl From<String> for EventOutput {
    fn from(text: String) -> Self {
        match text.as_str() {
            "none" => Self::None,
            "stdout" | "/dev/stdout" => Self::Stdout,
            _ => Self::File(text.into()),
        }
    }
}

impl FromStr for EventOutput {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.to_owned().into())
    }
}

impl From<EventOutput> for String {
    fn from(output: EventOutput) -> Self {
        match output {
            EventOutput::None => "none".to_owned(),
            EventOutput::Stdout => "stdout".to_owned(),
            EventOutput::File(path) => path.to_string_lossy().into_owned(),
        }
    }
}

/// Reads `127.0.0.1:10047`, `[::1]:10047`, or `:10047` for every address of the host.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let everywhere = text.strip_prefix(':').and_then(|port| port.parse().ok());
    everywhere
        .map(|port| SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port))
        .or_else(|| text.parse().ok())
        .ok_or_else(|| {
            format!(
                "{text:?} is not an address to listen on: give an IP address and a port (127.0.0.1:10047, \
                 [::1]:10047), or :10047 for every address of this host"
            )
        })
}

/// Reads the path of the metrics: absolute, plain, and not one that is taken.
pub fn telemetry_path(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte));
    if !text.starts_with('/') || !plain {
        return Err(format!("{text:?} is not a path for the metrics: it must look like /metrics"));
    }
    if text == "/" || text.starts_with("/-/") {
        return Err(format!("{text:?} cannot be the path of the metrics: it is another page's"));
    }
    Ok(text.to_owned())
}

/// Reads a grace: `1s`, `250ms`; from 100 ms to 60 s.
pub fn grace(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_millis(100)..=Duration::from_secs(60))
}

/// A duration as one writes it, in the file and in options.
pub fn written(value: Duration) -> String {
    format!("{value:?}")
}

/// Reads how long a command shall run: any positive duration.
pub fn run_time(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_millis(1)..=Duration::from_secs(10 * 365 * 86_400))
}

/// Reads how often a screen is drawn anew.
pub fn refresh(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_millis(100)..=Duration::from_secs(3600))
}

/// Reads how long a wait for a lock is watched before it is reported.
pub fn stuck_after(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_millis(100)..=Duration::from_secs(3600))
}

/// Reads how long a run of a hook may take.
pub(super) fn hook_timeout(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_millis(100)..=Duration::from_secs(3600))
}

/// Reads the time in which a hook may run so many times.
pub(super) fn hook_interval(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_secs(1)..=Duration::from_secs(86_400))
}

fn sweep(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_secs(1)..=Duration::from_secs(3600))
}

fn keep(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_secs(3600)..=Duration::from_secs(365 * 86_400))
}

fn recheck(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_millis(10)..=Duration::from_secs(60))
}

fn summary_interval(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_secs(1)..=Duration::from_secs(86_400))
}

fn duration(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, String> {
    let value = text
        .parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|signed| Duration::try_from(signed).ok())
        .ok_or_else(|| format!("{text:?} is not a duration: write it like \"1s\", \"250ms\" or \"2m\""))?;
    within(value, range, |bound| written(*bound))
}

fn within<T: PartialOrd>(
    value: T,
    range: RangeInclusive<T>,
    show: impl Fn(&T) -> String,
) -> Result<T, String> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(format!(
        "{} is out of range: it must be from {} to {}",
        show(&value),
        show(range.start()),
        show(range.end())
    ))
}

fn text<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    read: fn(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    read(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn number<'de, D: Deserializer<'de>, T: Deserialize<'de> + PartialOrd + Display>(
    deserializer: D,
    range: RangeInclusive<T>,
) -> Result<T, D::Error> {
    within(T::deserialize(deserializer)?, range, ToString::to_string).map_err(D::Error::custom)
}

pub(super) fn listen_addresses<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<SocketAddr>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| listen_address(text).map_err(D::Error::custom)).collect()
}

pub(super) fn telemetry_path_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text(deserializer, telemetry_path)
}

/// Rules about hazards that there are.
pub(super) fn suppress_rules<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<SuppressRule>, D::Error> {
    /// The id of a hazard. Checked where it stands, so that its line is shown.
    #[derive(Deserialize)]
    #[serde(try_from = "String")]
    struct Known(String);

    impl TryFrom<String> for Known {
        type Error = String;

        fn try_from(id: String) -> Result<Self, String> {
            if detect::find(&id).is_none() {
                return Err(format!("`{id}` is no hazard: `forkwatch explain` lists them"));
            }
            Ok(Self(id))
        }
    }

    impl From<Known> for String {
        fn from(Known(id): Known) -> Self {
            id
        }
    }

    struct Checked(SuppressRule);

    impl<'de> Deserialize<'de> for Checked {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let rule = SuppressRule::try_from(Written::<Known>::deserialize(deserializer)?);
            let rule = rule.map_err(D::Error::custom)?;
            detect::check_rule(&rule).map_err(D::Error::custom)?;
            Ok(Self(rule))
        }
    }

    Ok(Vec::<Checked>::deserialize(deserializer)?.into_iter().map(|Checked(rule)| rule).collect())
}

/// Names by which the server may be asked.
pub(super) fn allowed_hosts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    match names.iter().find(|name| !is_host_pattern(name)) {
        None => Ok(names),
        Some(name) => Err(D::Error::custom(format!(
            "{name:?} is not a name of a host: write \"metrics.example.org\" without a port, \"*.example.org\" for all \
             below it, or \"*\" for every name"
        ))),
    }
}

fn is_host_pattern(name: &str) -> bool {
    let rest = name.strip_prefix("*.").unwrap_or(name);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    name == "*"
        || (!rest.is_empty() && !rest.starts_with('.') && rest.len() <= 253 && rest.bytes().all(is_plain))
}

/// Below one mebibyte a busy host would rotate many times a second. 0 means never.
pub(super) fn file_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let bytes = u64::deserialize(deserializer)?;
    if bytes == 0 {
        return Ok(0);
    }
    within(bytes, 1 << 20..=1 << 40, ToString::to_string).map_err(D::Error::custom)
}

pub(super) fn kept_files<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    number(deserializer, 0..=1000)
}

/// Reads the size of the ring in bytes.
pub fn ring_bytes(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number of bytes")).and_then(usable_ring)
}

pub(super) fn ring_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    usable_ring(u32::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// The kernel wants a power of two that is a multiple of the page size (kernel/bpf/ringbuf.c), and pages have up to
/// 64 KiB.
fn usable_ring(bytes: u32) -> Result<u32, String> {
    let bytes = within(bytes, 64 << 10..=64 << 20, ToString::to_string)?;
    if !bytes.is_power_of_two() {
        let above = bytes.next_power_of_two();
        return Err(format!("{bytes} is not a power of two: take {} or {above}", above / 2));
    }
    Ok(bytes)
}

pub(super) fn children<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    number(deserializer, 1024..=1 << 22)
}

pub(super) fn kept_findings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    number(deserializer, 100..=100_000)
}

pub(super) fn series<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    number(deserializer, 1..=10_000)
}

/// A module for `#[serde(with)]`: a duration as text, in a range.
macro_rules! duration_value {
    ($module:ident, $read:path) => {
        pub(super) mod $module {
            use std::time::Duration;

            use serde::{Deserializer, Serializer};

            pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Duration, D::Error> {
                super::text(deserializer, $read)
            }

            pub(in crate::config) fn serialize<S: Serializer>(
                value: &Duration,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&super::written(*value))
            }
        }
    };
}

duration_value!(keep_value, super::keep);
duration_value!(grace_value, super::grace);
duration_value!(recheck_value, super::recheck);
duration_value!(summary_value, super::summary_interval);
duration_value!(stuck_after_value, super::stuck_after);
duration_value!(sweep_value, super::sweep);
