use std::{
    io::{BufRead, BufReader, Read},
    sync::mpsc,
};

use super::*;

/// A pipe: what reads it, and what writes to it.
fn pipe() -> (File, File) {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    (reader.into(), writer.into())
}

/// Events of a thousand bytes each.
fn event(number: usize) -> String {
    format!("{number:0>999}")
}

#[test]
fn nothing_is_lost_while_somebody_reads() {
    let (reader, writer) = pipe();
    let reading = thread::spawn(move || {
        let lines = BufReader::new(reader).lines();
        lines.enumerate().all(|(number, line)| line.unwrap() == event(number)).then_some(())
    });
    let mut output = StandardOutput::to(writer).unwrap();
    // Several times what there is room for.
    for number in 0..5 * CAPACITY / 1000 {
        assert!(output.append(&event(number)).unwrap(), "event {number} was lost");
    }
    output.flush().unwrap();
    drop(output);
    reading.join().unwrap().unwrap();
}

#[test]
fn what_nobody_reads_is_lost_after_a_time_and_what_follows_is_not() {
    let (reader, writer) = pipe();
    let mut output = StandardOutput::to(writer).unwrap();
    let began = Instant::now();
    let kept = (0..usize::MAX).find(|number| !output.append(&event(*number)).unwrap()).unwrap();
    assert!(kept >= CAPACITY / 1000, "{kept}");
    let first_loss = began.elapsed();
    assert!(first_loss >= PATIENCE, "{first_loss:?}");
    // From now on nothing is waited for.
    for number in 0..1000 {
        assert!(!output.append(&event(number)).unwrap());
    }
    assert!(began.elapsed() < first_loss + PATIENCE, "{:?}", began.elapsed());
    assert_eq!(output.lost, 1001);

    output.flush().unwrap();
    // Somebody reads again, and says when the half is through.
    let (sender, half) = mpsc::channel();
    let reading = thread::spawn(move || {
        let mut lines = BufReader::new(reader).lines();
        for number in 0..kept {
            assert_eq!(lines.next().unwrap().unwrap(), event(number));
            if number == kept - 1 {
                sender.send(()).unwrap();
            }
        }
        lines.map(Result::unwrap).collect::<Vec<_>>()
    });
    half.recv().unwrap();
    assert!(output.append("after").unwrap());
    assert_eq!(output.lost, 0);
    drop(output);
    assert_eq!(reading.join().unwrap(), ["after"]);
}

#[test]
fn the_end_does_not_wait_for_a_reader_who_does_not_read() {
    let (reader, writer) = pipe();
    let mut output = StandardOutput::to(writer).unwrap();
    for number in 0..200 {
        assert!(output.append(&event(number)).unwrap());
    }
    let began = Instant::now();
    drop(output);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    drop(reader);
}

#[test]
fn a_closed_pipe_is_an_error_of_its_kind() {
    let (reader, writer) = pipe();
    drop(reader);
    let mut output = StandardOutput::to(writer).unwrap();
    output.append("{}").unwrap();
    output.flush().unwrap();
    let error = loop {
        match output.append("{}").and_then(|_| output.flush()) {
            Ok(()) => thread::yield_now(),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    // The end comes at once.
    let began = Instant::now();
    drop(output);
    assert!(began.elapsed() < PATIENCE);
}

#[test]
fn an_event_larger_than_the_buffer_is_written_all_the_same() {
    let (mut reader, writer) = pipe();
    let reading = thread::spawn(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        bytes.len()
    });
    let mut output = StandardOutput::to(writer).unwrap();
    assert!(output.append(&"x".repeat(CAPACITY + 1)).unwrap());
    output.flush().unwrap();
    drop(output);
    assert_eq!(reading.join().unwrap(), CAPACITY + 2);
}
