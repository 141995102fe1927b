//! How a column is mapped, with the options of a request.

use super::condition::order;
use super::reading::{Fetch, Reading};
use super::types::VerticaType;
use crate::message::setting::{FileTypes, InfinityMode};
use crate::relation::{Column, Facts, MappingOptions, SurveyColumn};
use crate::source::decode::{Form, make_portable};

/// A column as the survey reports it, mapped without options.
pub(super) fn surveyed(name: &str, ty: VerticaType, nullable: bool, leads: bool) -> SurveyColumn {
    let (form, fetch) = ty.map();
    let key = ty.range_key();
    let mut column = Column::plain(name, &ty.name, form.column_type(), nullable);
    let width = form.width();
    reading(&ty, form, fetch, None).put_into(&mut column);
    SurveyColumn {
        column,
        readable: true,
        canonical: ty.is_canonical(),
        width,
        order: key.as_ref().map(order),
        ordered: key.is_some(),
        numeric: ty.range_key().is_some_and(|key| key.is_number()),
        correlation: leads.then_some(1.0),
        histogram_bounds: 0,
        indexed: leads,
        doubt: None,
        common_share: 0.0,
        facts: Facts::of(ty),
    }
}

fn reading(ty: &VerticaType, form: Form, fetch: Fetch, infinity: Option<InfinityMode>) -> Reading {
    Reading { fetch, form, infinity, table: ty.table, column: ty.column.clone(), is_view: ty.is_view }
}

/// Maps a column again, with options.
pub(super) fn map_column(column: &SurveyColumn, options: &MappingOptions<'_>) -> Column {
    let mut mapped = column.column.clone();
    let Some(ty) = column.facts.get::<VerticaType>() else { return mapped };
    if let Some(unfit) = options.as_text.iter().find(|u| u.column == mapped.name) {
        let (form, fetch) = ty.as_text();
        reading(ty, form, fetch, None).put_into(&mut mapped);
        mapped.note = Some(format!("text, because {}", unfit.because()));
        return mapped;
    }
    if options.as_bytes.contains(&mapped.name) && ty.is_text() {
        reading(ty, Form::Bytes, Fetch::Native, None).put_into(&mut mapped);
        mapped.note = Some("text as bytes, as asked for".into());
        return mapped;
    }
    let (mut form, fetch) = ty.map();
    let mut infinity = options.infinity;
    if options.types == FileTypes::Portable {
        (form, mapped.note) = make_portable(&form, &mut infinity);
    }
    let infinity = form.column_type().may_be_infinite().then_some(infinity);
    mapped.nullable |= infinity == Some(InfinityMode::Null);
    reading(ty, form, fetch, infinity).put_into(&mut mapped);
    mapped
}
