//! Against the Ruby of this machine, and against made-up memory.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use proptest::prelude::*;

use super::*;
use crate::{
    host::{
        bytes::Slice,
        stack::{asleep::Sleep, of_script, scripts, tests::until},
        stat::Stat,
    },
    skip::skip,
};

/// A thread that waits for a queue, and a main thread that waits for a lock in a block of a method.
const SCRIPT: &str = "\
lock = Mutex.new
held = Thread::Queue.new
holder = Thread.new do
  lock.lock
  held << 1
  Thread::Queue.new.pop
end
holder.name = 'holder'
held.pop
class Worker
  def handle(lock)
    [1].each do
      lock.synchronize { 1 }
    end
  end
end
Thread.new { sleep 0.1; puts 'now'; $stdout.flush; sleep }
Worker.new.handle(lock)
";

struct Ruby(Child);

impl Ruby {
    /// Absent, and the test skipped, where there is none.
    fn new() -> Option<Self> {
        let program = PathBuf::from("/usr/bin/ruby");
        if !program.exists() {
            skip("there is no ruby here");
            return None;
        }
        let mut child = Command::new(program).args(["-e", SCRIPT]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        until(|| Sleep::of(child.id(), child.id()).is_ok());
        Some(Self(child))
    }
}

impl Drop for Ruby {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn called(frames: &[Frame]) -> Vec<(&str, Option<u32>)> {
    frames.iter().map(|frame| (frame.function.as_deref().unwrap(), frame.line)).collect()
}

#[test]
fn calls_are_named_with_their_lines() {
    let Some(ruby) = Ruby::new() else { return };
    let key = Stat::of_process(ruby.0.id()).unwrap().key();
    let stack = of_script(key, ruby.0.id()).unwrap();
    assert_eq!(stack.missing, None);
    let expected = [("block in handle", Some(13)), ("handle", Some(12)), ("<main>", Some(18))];
    assert_eq!(called(&stack.frames), expected, "{stack:?}");
    assert!(stack.frames.iter().all(|frame| frame.module.as_deref() == Some("-e")));
    let threads = scripts(key).unwrap().unwrap();
    let at: Vec<_> = threads.iter().map(|thread| called(thread.at.as_slice())).collect();
    assert_eq!(
        at,
        [[("block in handle", Some(13))], [("block in <main>", Some(6))], [("block in <main>", Some(17))]]
    );
}

#[test]
fn versions_that_are_not_known_are_not_guessed_at() {
    for version in ["1.9.3", "2.5.9", "3.5.0", "5.0.0", "", "3", "x.y"] {
        assert_eq!(Layout::of(version), None, "{version}");
    }
    assert!(Layout::of("3.4.12").is_some());
}

#[test]
fn the_librarys_calls_are_not_the_scripts_own() {
    let own = |file: &str| is_own(&Frame { module: Some(file.to_owned()), ..Frame::default() });
    assert!(own("/app/worker.rb"));
    assert!(own("/usr/lib/ruby/gems/3.1.0/gems/puma-6.0/lib/puma/server.rb"));
    assert!(!own("/usr/lib/ruby/3.1.0/monitor.rb"));
    assert!(!own("<internal:thread_sync>"));
}

proptest! {
    #[test]
    fn made_up_memory_ends_every_walk(words in prop::collection::vec(0_u64..0x2000, 16..512)) {
        let bytes = words.iter().flat_map(|word| (word & !7).to_ne_bytes()).collect();
        fuzz(&Bytes::of(Slice { start: 0x100, bytes }), 0x100);
    }
}
