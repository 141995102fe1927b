//! Draws a page once for all who ask for it. A job may have 100,000 chunks, and 64 viewers watch it change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::ask::Problem;
use super::pages::Page;

/// Who asks again so soon gets the same drawing.
const FRESH: Duration = Duration::from_secs(1);

type Drawn = Result<Arc<Page>, Problem>;

/// The pages that somebody asks for or watches now, by their addresses.
#[derive(Default)]
pub(super) struct Drawings {
    pages: Mutex<HashMap<String, Weak<Drawing>>>,
}

/// The last drawing of a page.
#[derive(Default)]
pub(super) struct Drawing {
    last: tokio::sync::Mutex<Option<(Instant, Drawn)>>,
}

impl Drawings {
    /// The drawing of the page with this address. It is forgotten with its last owner.
    pub(super) fn of(&self, address: &str) -> Arc<Drawing> {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(drawing) = pages.get(address).and_then(Weak::upgrade) {
            return drawing;
        }
        pages.retain(|_, drawing| drawing.strong_count() > 0);
        let drawing = Arc::default();
        pages.insert(address.to_owned(), Arc::downgrade(&drawing));
        drawing
    }
}

impl Drawing {
    /// The page, drawn by `draw` unless somebody has just done it. Who asks meanwhile waits.
    pub(super) async fn get(&self, draw: impl Future<Output = Result<Page, Problem>>) -> Drawn {
        let mut last = self.last.lock().await;
        if let Some((at, drawn)) = &*last
            && at.elapsed() < FRESH
        {
            return drawn.clone();
        }
        let drawn = draw.await.map(Arc::new);
        *last = Some((Instant::now(), drawn.clone()));
        drawn
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::http::pages;

    #[tokio::test(start_paused = true)]
    async fn sixty_four_viewers_cost_one_drawing_for_each_look() {
        let (drawings, drawn) = (Drawings::default(), AtomicU32::new(0));
        let viewers: Vec<_> = (0..64).map(|_| drawings.of("/jobs/j")).collect();
        let draw = || async {
            let number = drawn.fetch_add(1, Ordering::Relaxed) + 1;
            tokio::time::sleep(Duration::from_millis(300)).await;
            match number {
                2 => Err(Problem::unavailable("the folder is away")),
                _ => Ok(pages::problem("a page", "drawn")),
            }
        };
        for look in 1..=3 {
            let all = viewers.iter().map(|viewer| viewer.get(draw()));
            let all = futures_util::future::join_all(all).await;
            assert_eq!(drawn.load(Ordering::Relaxed), look);
            assert!(all.iter().all(|drawn| drawn.is_err() == (look == 2)), "a problem is shared too");
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        assert!(drawings.of("/").get(draw()).await.is_ok(), "another page is another drawing");
        assert_eq!(drawn.load(Ordering::Relaxed), 4);
        drop(viewers);
        drawings.of("/tables");
        assert_eq!(drawings.pages.lock().expect("free").len(), 1, "nobody has the others any more");
    }
}
