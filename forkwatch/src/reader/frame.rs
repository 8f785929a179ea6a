//! Messages between a reader and whoever asks it: a length of four bytes, then JSON.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use serde::{Serialize, de::DeserializeOwned};

/// The longest message: a sweep of a host with its most children, and some more.
const MOST: usize = 64 << 20;
/// What is read at once: no more room is made than bytes have come.
const PORTION: usize = 64 << 10;

/// Sends a message.
pub(super) fn send(mut to: &UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - 4;
    if length > MOST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("an answer has {length} bytes")));
    }
    let head = u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes();
    if let Some(place) = bytes.first_chunk_mut() {
        *place = head;
    }
    to.write_all(&bytes)
}

/// Waits for a message, at most until the deadline; absent where the other end is closed.
pub(super) fn receive<T: DeserializeOwned>(
    from: &UnixStream,
    deadline: Option<Instant>,
) -> io::Result<Option<T>> {
    let mut head = [0; 4];
    if !fill(from, &mut head, deadline)? {
        return Ok(None);
    }
    let length = usize::try_from(u32::from_ne_bytes(head)).unwrap_or(usize::MAX);
    if length > MOST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of {length} bytes")));
    }
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let portion = (length - bytes.len()).min(PORTION);
        let begin = bytes.len();
        bytes.resize(begin + portion, 0);
        if !fill(from, bytes.get_mut(begin..).unwrap_or_default(), deadline)? {
            return Ok(None);
        }
    }
    Ok(Some(serde_json::from_slice(&bytes)?))
}

/// Fills the bytes; false where the other end was closed first.
fn fill(mut from: &UnixStream, bytes: &mut [u8], deadline: Option<Instant>) -> io::Result<bool> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            // No time at all would mean for ever.
            from.set_read_timeout(Some(left.max(Duration::from_micros(1))))?;
        }
        match from.read(rest) {
            Ok(0) => return Ok(false),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn messages_of_every_length_arrive_whole_and_in_order() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let lengths = [0, 1, PORTION - 3, PORTION, 3 * PORTION + 1, 5 << 20];
        let sender = thread::spawn(move || {
            for length in lengths {
                send(&ours, &"x".repeat(length)).unwrap();
            }
        });
        for length in lengths {
            let text: String = receive(&theirs, None).unwrap().unwrap();
            assert_eq!(text.len(), length);
        }
        sender.join().unwrap();
        assert_eq!(receive::<String>(&theirs, None).unwrap(), None, "the end is told");
    }

    #[test]
    fn who_waits_is_not_kept_longer_than_the_deadline_not_even_by_single_bytes() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let soon = || Some(Instant::now() + Duration::from_millis(20));
        let late = |error: io::Error| assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        late(receive::<String>(&theirs, soon()).unwrap_err());
        ours.write_all(&[200, 0]).unwrap();
        late(receive::<String>(&theirs, soon()).unwrap_err());
    }

    #[test]
    fn nonsense_is_refused_before_room_is_made_for_it() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(&u32::MAX.to_ne_bytes()).unwrap();
        assert_eq!(receive::<String>(&theirs, None).unwrap_err().kind(), io::ErrorKind::InvalidData);
        ours.write_all(&[3, 0, 0, 0, b'{', b'{', b'{']).unwrap();
        assert!(receive::<String>(&theirs, None).is_err());
    }
}
