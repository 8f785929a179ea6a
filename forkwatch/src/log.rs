//! The daemon's own log, to standard error.
//!
//! Nobody need read it: a line that would have to wait for its reader is lost, and how many were is said afterwards.
//!
//! Values in it may come from processes under watch, so control characters are escaped in every format: nobody can
//! forge a line, or drive the terminal of whoever reads it.

mod line;
mod unwaiting;

use std::{
    io::{IsTerminal, stderr},
    os::fd::AsFd,
};

use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Registry, filter::Targets, fmt::MakeWriter, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

use self::{
    line::{Line, Style},
    unwaiting::Unwaiting,
};
use crate::{
    config::{LogFormat, LogLevel},
    model::kernel_log,
};

/// Why there is no log: another one has been started in this process.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the log: {0}")]
pub struct LogError(#[from] tracing_subscriber::util::TryInitError);

/// The running log.
#[derive(Clone, Debug)]
pub struct Log {
    filter: reload::Handle<Targets, Registry>,
    /// Whether what the kernel side says of its decisions passes, whatever the level.
    kernel_log: bool,
}

impl Log {
    /// Starts the log of this process. With `kernel_log` every line passes that tells a decision of the kernel side:
    /// they are only made where they were asked for.
    pub fn start(format: LogFormat, level: LogLevel, kernel_log: bool) -> Result<Self, LogError> {
        let style = style(format);
        let writer = Unwaiting::new(stderr, style);
        let (subscriber, log) = subscriber(style, level, kernel_log, writer);
        subscriber.try_init()?;
        Ok(log)
    }

    /// Changes the level, from now on.
    pub fn set_level(&self, level: LogLevel) {
        // It fails only once the subscriber is gone, and there is nothing left to filter then.
        let _ = self.filter.modify(|filter| *filter = filter_of(level, self.kernel_log));
    }
}

fn style(format: LogFormat) -> Style {
    match format {
        LogFormat::Json => Style::Json,
        LogFormat::Auto if to_journal() => Style::Journal,
        LogFormat::Auto | LogFormat::Text => {
            let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            Style::Text { colour: wanted && stderr().is_terminal() }
        }
    }
}

/// Whether standard error is the journal's socket: systemd puts its device and inode into `JOURNAL_STREAM`
/// (systemd.exec(5)).
pub fn to_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(ours) = nix::sys::stat::fstat(stderr().as_fd()) else { return false };
    stream == format!("{}:{}", ours.st_dev, ours.st_ino)
}

fn filter_of(level: LogLevel, kernel_log: bool) -> Targets {
    let filter = Targets::new().with_default(level_of(level));
    if kernel_log { filter.with_target(kernel_log::TARGET, LevelFilter::TRACE) } else { filter }
}

const fn level_of(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

fn subscriber<W>(
    style: Style,
    level: LogLevel,
    kernel_log: bool,
    writer: W,
) -> (impl Subscriber + Send + Sync, Log)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (reloaded, filter) = reload::Layer::new(filter_of(level, kernel_log));
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).log_internal_errors(false);
    let layer: Box<dyn tracing_subscriber::Layer<_> + Send + Sync> = match style {
        Style::Json => Box::new(layer.json().flatten_event(true)),
        style => Box::new(layer.event_format(Line(style))),
    };
    (tracing_subscriber::registry().with(reloaded).with(layer), Log { filter, kernel_log })
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;

    /// What `log` writes in a style.
    fn written(style: Style, level: LogLevel, log: impl FnOnce(&Log)) -> String {
        written_with(style, level, false, log)
    }

    fn written_with(style: Style, level: LogLevel, kernel_log: bool, log: impl FnOnce(&Log)) -> String {
        let buffer = Arc::new(Mutex::new(Vec::new()));
        let (subscriber, handle) = subscriber(style, level, kernel_log, Shared(Arc::clone(&buffer)));
        tracing::subscriber::with_default(subscriber, || log(&handle));
        let bytes = buffer.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl<'a> MakeWriter<'a> for Shared {
        type Writer = Guard<'a>;

        fn make_writer(&'a self) -> Guard<'a> {
            Guard(self.0.lock().unwrap())
        }
    }

    struct Guard<'a>(std::sync::MutexGuard<'a, Vec<u8>>);

    impl io::Write for Guard<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_journal_gets_priorities_and_no_times() {
        let text = written(Style::Journal, LogLevel::Info, |_| {
            tracing::error!("one");
            tracing::warn!(path = "/a b", count = 2, "two");
            tracing::debug!("not this");
        });
        assert_eq!(text, "<3>one\n<4>two path=\"/a b\" count=2\n");
    }

    #[test]
    fn text_has_a_time_and_a_level() {
        let text = written(Style::Text { colour: false }, LogLevel::Info, |_| tracing::info!("ready"));
        let (time, rest) = text.split_once(' ').unwrap();
        time.parse::<jiff::Timestamp>().unwrap();
        assert_eq!(rest, " INFO ready\n");
    }

    #[test]
    fn nothing_from_outside_can_forge_a_line_or_drive_a_terminal() {
        let comm = "x\n<0>forged\x1b[31m\u{9b}";
        for style in [Style::Text { colour: false }, Style::Journal, Style::Json] {
            let text = written(style, LogLevel::Info, |_| {
                tracing::info!(comm, shown = %comm, debug = ?comm, "message {comm}");
            });
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
            assert!(text.ends_with('\n') && !text.contains('\x1b'), "{text:?}");
            assert!(style == Style::Json || !text.contains('\u{9b}'), "{text:?}");
        }
    }

    #[test]
    fn the_level_can_be_changed_while_running() {
        let text = written(Style::Journal, LogLevel::Warn, |log| {
            tracing::info!("before");
            log.set_level(LogLevel::Debug);
            tracing::debug!("between");
            log.set_level(LogLevel::Error);
            tracing::warn!("after");
        });
        assert_eq!(text, "<7>between\n");
    }

    #[test]
    fn what_the_kernel_side_says_passes_where_it_was_asked_for() {
        let log = |log: &Log| {
            tracing::trace!(target: kernel_log::TARGET, program = "fork", "process 7: told");
            tracing::info!("not this");
            log.set_level(LogLevel::Error);
            tracing::debug!(target: kernel_log::TARGET, program = "exec", "process 8: told");
        };
        let text = written_with(Style::Journal, LogLevel::Warn, true, log);
        assert_eq!(
            text,
            "<7>kernel log: process 7: told program=fork\n<7>kernel log: process 8: told program=exec\n"
        );
        assert_eq!(written(Style::Journal, LogLevel::Warn, log), "");
        let text = written_with(Style::Json, LogLevel::Warn, true, log);
        assert_eq!(text.matches("\"target\":\"forkwatch::kernel_log\"").count(), 2, "{text}");
    }

    #[test]
    fn a_line_that_nobody_reads_is_lost_and_counted() {
        use std::{fs::File, io::Read as _};
        for style in [Style::Journal, Style::Text { colour: false }, Style::Json] {
            let (reader, writer) = nix::unistd::pipe().unwrap();
            let out = move || writer.try_clone().map(File::from).unwrap();
            let (subscriber, _log) = subscriber(style, LogLevel::Info, false, Unwaiting::new(out, style));
            let mut reader = File::from(reader);
            tracing::subscriber::with_default(subscriber, || {
                // A pipe holds 64 KiB unless told otherwise.
                for number in 0..100 {
                    tracing::info!("line {number} {}", "x".repeat(2000));
                }
                let mut read = vec![0; 32 << 10];
                reader.read_exact(&mut read).unwrap();
                tracing::info!("the last");
            });
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            let mut last = text.lines().rev();
            let (last, before) = (last.next().unwrap(), last.next().unwrap());
            assert!(last.contains("the last"), "{last}");
            assert!(before.contains("nobody read") && before.contains("are missing here"), "{before}");
            if style == Style::Json {
                serde_json::from_str::<serde_json::Value>(before).unwrap();
            }
        }
    }

    #[test]
    fn json_is_one_object_a_line() {
        let text = written(Style::Json, LogLevel::Info, |_| tracing::info!(count = 3, "ready"));
        let value: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!((&value["message"], &value["count"]), (&"ready".into(), &3.into()));
        assert_eq!(value["level"], "INFO");
    }
}
