//! What can be asked for: pages by their path, and the parameters of queries. Strict: an unknown parameter is
//! named in the answer.

use std::num::NonZeroU32;

use axum::extract::Query;
use axum::http::{StatusCode, Uri};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::message::JobId;
use crate::status::Wanted;
use crate::status::picture::TableState;

/// Longest text that is searched for.
const MOST_SEARCH: usize = 200;

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    /// The status code.
    pub(super) status: StatusCode,
    /// For people.
    pub(super) message: String,
}

impl Problem {
    /// A question that cannot be understood.
    #[must_use]
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into() }
    }

    /// Something that is not there.
    #[must_use]
    pub(super) fn unknown(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, message: message.into() }
    }

    /// A question that cannot be answered now.
    #[must_use]
    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, message: message.into() }
    }
}

/// Parameters of a list without a filter.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    /// The page, from 1.
    #[schemars(range(min = 1, max = 4_294_967_295_u32))]
    pub(super) page: Option<NonZeroU32>,
}

/// Parameters of the newest exports.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TablesQuery {
    /// The page, from 1.
    #[schemars(range(min = 1, max = 4_294_967_295_u32))]
    pub(super) page: Option<NonZeroU32>,
    /// Only tables whose name contains this, in any case.
    #[schemars(length(max = 200))]
    pub(super) search: Option<String>,
}

/// Parameters of the tables of a job.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JobTablesQuery {
    /// The page, from 1.
    #[schemars(range(min = 1, max = 4_294_967_295_u32))]
    pub(super) page: Option<NonZeroU32>,
    /// Only tables whose name contains this, in any case.
    #[schemars(length(max = 200))]
    pub(super) search: Option<String>,
    /// Only tables in this state.
    pub(super) state: Option<TableState>,
}

/// Parameters of the chunks of a job.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChunksQuery {
    /// Only the table in this place of the job, from 0.
    #[schemars(range(max = 4_294_967_295_u32))]
    pub(super) table: Option<u32>,
}

/// Reads the query of an address.
///
/// # Errors
/// Names the parameter.
pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    let read = Query::<T>::try_from_uri(uri)
        .map_err(|e| Problem::bad(format!("the query is not understood: {}", e.body_text())))?;
    Ok(read.0)
}

fn searched(search: Option<String>) -> Result<Option<String>, Problem> {
    match search {
        Some(search) if search.chars().count() > MOST_SEARCH => {
            Err(Problem::bad(format!("`search` is longer than {MOST_SEARCH} characters")))
        }
        search => Ok(search.filter(|s| !s.is_empty())),
    }
}

fn number(page: Option<NonZeroU32>) -> u32 {
    page.map_or(1, NonZeroU32::get)
}

impl TablesQuery {
    /// What is wanted.
    ///
    /// # Errors
    /// When the text is too long.
    pub(super) fn wanted(self) -> Result<Wanted, Problem> {
        Ok(Wanted { page: number(self.page), search: searched(self.search)?, state: None })
    }
}

impl JobTablesQuery {
    /// What is wanted.
    ///
    /// # Errors
    /// When the text is too long.
    pub(super) fn wanted(self) -> Result<Wanted, Problem> {
        Ok(Wanted { page: number(self.page), search: searched(self.search)?, state: self.state })
    }
}

/// A page.
#[derive(Debug)]
pub(super) enum Asked {
    /// `/`
    Overview(u32),
    /// `/jobs/{id}`
    Job(JobId, Wanted),
    /// `/jobs/{id}/tables/{place}`
    Table(JobId, u32, u32),
    /// `/tables`
    Tables(Wanted),
    /// `/operations`
    Manual,
}

impl Asked {
    /// Reads the address of a page.
    ///
    /// # Errors
    /// When there is no such page.
    pub(super) fn parse(uri: &Uri) -> Result<Self, Problem> {
        let page = || Ok::<_, Problem>(number(query::<PageQuery>(uri)?.page));
        let parts: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
        match parts.as_slice() {
            [""] => Ok(Self::Overview(page()?)),
            ["tables"] => Ok(Self::Tables(query::<TablesQuery>(uri)?.wanted()?)),
            ["operations"] => Ok(Self::Manual),
            ["jobs", job] => Ok(Self::Job(id(job)?, query::<JobTablesQuery>(uri)?.wanted()?)),
            ["jobs", job, "tables", place] => {
                let place = place
                    .parse()
                    .map_err(|_| Problem::unknown(format!("`{place}` is no place of a table")))?;
                Ok(Self::Table(id(job)?, place, page()?))
            }
            _ => Err(Problem::unknown("there is no such page")),
        }
    }
}

/// Reads the id of a job.
///
/// # Errors
/// When it is none.
pub(super) fn id(text: &str) -> Result<JobId, Problem> {
    JobId::parse(text).map_err(|e| Problem::bad(e.to_string()))
}
