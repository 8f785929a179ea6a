//! What an answer consists of: all of it at once, or what happens as it happens.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::{
    sync::Notify,
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use crate::live::Listening;

/// How often a listener that hears nothing else hears that the watch is there.
const STILL_HERE: Duration = Duration::from_secs(15);

/// The last words to a listener.
const LAST: &[u8] =
    b"event: dropped\ndata: the watch has ended, or you read too slowly and something is missing\n\n";

/// The body of an answer.
pub(super) enum Answer {
    Whole(Full<Bytes>),
    Live(Box<Live>),
}

/// Server-sent events.
pub(super) struct Live {
    listening: Listening,
    beat: Interval,
    has_greeted: bool,
    is_over: bool,
}

impl Live {
    pub(super) fn new(listening: Listening) -> Self {
        let mut beat = interval_at(Instant::now() + STILL_HERE, STILL_HERE);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { listening, beat, has_greeted: false, is_over: false }
    }

    /// Is notified once the client reads too slowly, or the watch has ended.
    pub(super) fn dropped(&self) -> Arc<Notify> {
        self.listening.dropped()
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if !std::mem::replace(&mut self.has_greeted, true) {
            // So that a client knows at once that it is heard.
            return Poll::Ready(Some(Bytes::from_static(b": forkwatch tells what happens from now on\n\n")));
        }
        if self.is_over {
            return Poll::Ready(None);
        }
        match self.listening.poll(context) {
            Poll::Ready(Some(line)) => Poll::Ready(Some(format!("data: {line}\n\n").into())),
            Poll::Ready(None) => {
                self.is_over = true;
                Poll::Ready(Some(Bytes::from_static(LAST)))
            }
            Poll::Pending => match self.beat.poll_tick(context) {
                Poll::Ready(_) => Poll::Ready(Some(Bytes::from_static(b": still here\n\n"))),
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(whole) => Pin::new(whole).poll_frame(context),
            Self::Live(live) => live.poll(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_end_stream(),
            Self::Live(live) => live.is_over,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Live(_) => SizeHint::default(),
        }
    }
}
