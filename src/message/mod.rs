//! What travels: requests in, tasks and wake-ups between daemons, events out.
//!
//! Requests are strict (an unknown field is named in the rejection), internal
//! messages are lenient, so that daemons of two versions can share a queue.

pub mod caller;
pub mod control;
pub mod event;
pub mod inbox;
pub mod json;
pub mod name;
mod output;
#[cfg(test)]
mod page;
pub mod pattern;
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
pub use pattern::TablePattern;
pub use request::{ExportRequest, RequestMessage, TableRequest};
pub use task::Task;
