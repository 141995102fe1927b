//! The messages: requests that come in, tasks and wake-ups between daemons, and events that go out.
//!
//! Requests are strict: a rejection names the unknown field. Internal messages are lenient, so that daemons
//! of two versions can share a queue.

pub mod caller;
pub mod control;
pub mod event;
pub mod inbox;
pub mod json;
pub mod name;
pub mod number;
pub mod output;
#[cfg(test)]
mod page;
pub mod pattern;
pub mod presence;
pub mod request;
pub mod schema;
pub mod setting;
mod table;
pub mod task;

pub use caller::Caller;
pub use control::Control;
pub use event::{Event, EventType};
pub use inbox::{Alive, ChunkRef, InboxMessage, Wake};
pub use name::{JobId, SourceName};
pub use number::{BatchId, BatchNo, ChunkNo, Epoch, TableNo};
pub use pattern::TablePattern;
pub use presence::Presence;
pub use request::{ExportRequest, RequestMessage, TableRequest};
pub use task::Task;
