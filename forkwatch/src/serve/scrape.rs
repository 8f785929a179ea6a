//! Concurrent scrapes share one collection.

use tokio::sync::{mpsc, oneshot};

use super::{MAX_CONNECTIONS, Render};

/// The outcome of a collection: the page, or what went wrong.
pub(super) type Collected = Result<String, String>;

/// Where scrapes are asked for.
pub(super) struct Scrapes(mpsc::Sender<Wish>);

/// What is asked of the task that collects.
enum Wish {
    Page(oneshot::Sender<Collected>),
    /// To show that it works.
    Heartbeat(oneshot::Sender<()>),
}

impl Scrapes {
    /// Asks for a collection that begins after this call; nothing stale is ever served.
    pub(super) async fn collect(&self) -> Collected {
        let (sender, receiver) = oneshot::channel();
        let ended = || "the program is ending".to_owned();
        self.0.send(Wish::Page(sender)).await.map_err(|_| ended())?;
        receiver.await.map_err(|_| ended())?
    }

    /// Waits until a collection could begin.
    pub(super) async fn heartbeat(&self) -> Result<(), &'static str> {
        const ENDED: &str = "nothing collects the metrics any more\n";
        let (sender, receiver) = oneshot::channel();
        self.0.send(Wish::Heartbeat(sender)).await.map_err(|_| ENDED)?;
        receiver.await.map_err(|_| ENDED)
    }
}

/// The asking side, and the task that collects. It ends when the asking side is dropped.
pub(super) fn channel(render: Render) -> (Scrapes, impl Future<Output = ()> + Send) {
    let (sender, mut waiting) = mpsc::channel(MAX_CONNECTIONS);
    let collect = async move {
        let mut together = Vec::new();
        while waiting.recv_many(&mut together, MAX_CONNECTIONS).await > 0 {
            let mut pages = Vec::new();
            for wish in together.drain(..) {
                match wish {
                    Wish::Page(waiter) => pages.push(waiter),
                    // Whoever does not wait any more wants no answer, here and below.
                    Wish::Heartbeat(waiter) => drop(waiter.send(())),
                }
            }
            if pages.is_empty() {
                continue;
            }
            let page = render().map_err(|error| error.to_string());
            for waiter in pages {
                let _ = waiter.send(page.clone());
            }
        }
    };
    (Scrapes(sender), collect)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[tokio::test]
    async fn scrapes_that_wait_together_share_one_collection_and_later_ones_get_a_new_one() {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let (scrapes, collector) =
            channel(Box::new(move || Ok(counted.fetch_add(1, Ordering::Relaxed).to_string())));
        // Polled in this order: all three have asked before the collector first runs.
        let (first, second, third, ()) = tokio::join!(biased; scrapes.collect(), scrapes.collect(), scrapes.collect(), async {
            tokio::spawn(collector);
        });
        assert_eq!([first, second, third], [Ok("0".to_owned()), Ok("0".to_owned()), Ok("0".to_owned())]);
        assert_eq!(scrapes.collect().await, Ok("1".to_owned()));
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_failed_collection_says_why_and_the_next_one_is_tried() {
        let (scrapes, collector) = channel(Box::new(|| Err("map lookup: EPERM".into())));
        tokio::spawn(collector);
        assert_eq!(scrapes.collect().await, Err("map lookup: EPERM".to_owned()));
        assert_eq!(scrapes.collect().await, Err("map lookup: EPERM".to_owned()));
    }
}
