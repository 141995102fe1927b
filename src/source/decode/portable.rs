//! Types that every common reader of Parquet knows, for requests that ask for them.

use super::Form;
use crate::message::setting::InfinityMode;

/// Replaces a form by one that every reader knows, with a note for the column.
pub(in crate::source) fn make_portable(form: &Form, infinity: &mut InfinityMode) -> (Form, Option<String>) {
    let (form, texts) = form.portable();
    let mut notes = Vec::new();
    if !texts.is_empty() {
        notes.push(format!("{} as text", texts.join(", ")));
    }
    if form.column_type().may_be_infinite() && *infinity == InfinityMode::Max {
        *infinity = InfinityMode::Null;
        notes.push("infinite values are NULL".to_owned());
    }
    let note = (!notes.is_empty()).then(|| format!("{}, since types are portable", notes.join("; ")));
    (form, note)
}
