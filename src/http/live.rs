//! Sends the sections of a page again when they change, as server-sent events.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::Uri;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior};

use super::ask::{Asked, Problem, query};
use super::drawings::Drawing;
use super::views::{VIEWERS, Views};

/// How often a page is looked at for changes.
const EVERY: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LiveQuery {
    of: String,
}

/// What a viewer has seen.
struct Viewer {
    views: Views,
    page: Uri,
    drawing: Arc<Drawing>,
    tick: Interval,
    keys: RandomState,
    /// Hashes of the sections that were sent, by their ids.
    sent: HashMap<&'static str, u64>,
    title: String,
    /// Whether the page cannot be made now.
    stale: bool,
    over: bool,
    _permit: OwnedSemaphorePermit,
}

pub(super) async fn live(State(views): State<Views>, uri: Uri) -> Response {
    match begin(views, &uri) {
        Ok(viewer) => {
            let closing = viewer.views.closing.clone();
            let events = stream::unfold(viewer, |mut viewer| async {
                if viewer.over {
                    return None;
                }
                viewer.tick.tick().await;
                let events = viewer.look().await;
                Some((stream::iter(events.into_iter().map(Ok::<_, Infallible>)), viewer))
            });
            let until_closed = events.flatten().take_until(closing.cancelled_owned());
            Sse::new(until_closed).keep_alive(KeepAlive::default()).into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

fn begin(views: Views, uri: &Uri) -> Result<Viewer, Problem> {
    let of = query::<LiveQuery>(uri)?.of;
    let page = of.parse::<Uri>().ok().filter(|_| of.starts_with('/'));
    let page = page.ok_or_else(|| Problem::bad("`of` is no address of a page: it begins with /"))?;
    Asked::parse(&page)?;
    let permit = Arc::clone(&views.viewers)
        .try_acquire_owned()
        .map_err(|_| Problem::unavailable(format!("{VIEWERS} viewers are connected already")))?;
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (keys, sent, title) = (RandomState::new(), HashMap::new(), String::new());
    let drawing = views.drawing(&page);
    Ok(Viewer { views, page, drawing, tick, keys, sent, title, stale: false, over: false, _permit: permit })
}

impl Viewer {
    /// What has changed since the last look.
    async fn look(&mut self) -> Vec<Event> {
        let page = self.drawing.get(self.views.page(&self.page)).await;
        // If the folder does not answer, what was sent stays, and the viewer is told.
        let is_stale = page.is_err();
        let mut events = Vec::new();
        if std::mem::replace(&mut self.stale, is_stale) != is_stale {
            events.push(Event::default().event("stale").data(json!(is_stale).to_string()));
        }
        let Ok(page) = page else { return events };
        let ids: Vec<&str> = page.sections.iter().map(|(id, _)| *id).collect();
        let others = !self.sent.is_empty()
            && (self.sent.len() != ids.len() || ids.iter().any(|id| !self.sent.contains_key(id)));
        if others || !page.live {
            self.over = true;
            return vec![Event::default().event("reload").data("now")];
        }
        for (id, section) in &page.sections {
            let html = section.0.as_str();
            let hash = self.keys.hash_one(html);
            if self.sent.insert(*id, hash) != Some(hash) {
                events.push(
                    Event::default().event("section").data(json!({"id": id, "html": html}).to_string()),
                );
            }
        }
        let title = format!("{} · ADU Export", page.title);
        if title != self.title {
            events.push(Event::default().event("title").data(json!(title).to_string()));
            self.title = title;
        }
        events
    }
}
