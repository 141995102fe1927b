//! A session: one statement at a time.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout, timeout_at};

use super::super::sqlstate::Stage;
use super::backend::{self, name_of, tag};
use super::input::{Fault, Link};
use super::login::{self, Greeting, LAST_WORD};
use super::rows::{Found, Rows};
use super::{Answer, Canceller, Description, Login, Statement, frontend};
use crate::source::SourceError;
use crate::source::decode::stream::Block;
use crate::source::dial::Wire;

/// Longest time that rows wait in an incomplete block.
const GATHER: Duration = Duration::from_millis(10);
/// Longest time to wait for the end of a statement that failed.
const AFTER_ERROR: Duration = Duration::from_secs(10);
/// Pauses after each cancel request before the next one.
const CANCEL_PAUSES: [Duration; 4] =
    [Duration::from_millis(300), Duration::from_millis(700), Duration::from_secs(1), Duration::from_secs(2)];

/// A connection that is logged in. Dropping it closes the connection; the server may notice that late.
pub(in super::super) struct Session<S = Wire> {
    link: Link<S>,
    complex: bool,
    /// Ends this session's statements, also while they are read.
    pub(super) canceller: Canceller,
    state: State,
}

enum State {
    /// No statement is under way.
    Idle,
    /// A statement was sent, and its end was not seen.
    Busy,
    /// The rows of a result are read.
    Reading(Box<Reading>),
    /// The last rows were handed out.
    Finished,
    /// The connection cannot be used any more, but the server may not know, and go on with the statement.
    Broken,
    /// The session has ended.
    Over,
}

struct Reading {
    rows: Rows,
    stage: Stage,
    what: String,
    /// Whether CommandComplete has arrived.
    is_complete: bool,
    /// Since when the block has rows.
    since: Option<Instant>,
}

impl Session {
    /// Logs in at the first host that takes the session, or at the node that the server names.
    pub(in super::super) async fn open(login: &Login) -> Result<Self, SourceError> {
        login::open(login).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    pub(super) fn new(link: Link<S>, greeting: &Greeting, canceller: Canceller) -> Self {
        Self { link, complex: greeting.complex, canceller, state: State::Idle }
    }

    /// Runs a statement and returns its whole result, which is empty if it has none.
    pub(in super::super) async fn query(&mut self, statement: &Statement<'_>) -> Result<Answer, SourceError> {
        let Statement { stage, what, .. } = *statement;
        self.ask(statement).await?;
        let mut answer = None;
        let mut is_complete = false;
        loop {
            let tag = self.turn(stage, what).await?;
            let body = self.link.body();
            let taken = match (tag, &mut answer) {
                (tag::ROW_DESCRIPTION, None) if !is_complete => Description::parse(body, self.complex)
                    .map(|found| answer = Some(Answer::new(found, what))),
                (tag::DATA_ROW, Some(answer)) if !is_complete => answer.push(body),
                (tag::COMMAND_COMPLETE | tag::EMPTY_QUERY, _) if !is_complete => {
                    is_complete = true;
                    Ok(())
                }
                (tag::READY, _) if is_complete => {
                    self.link.pass();
                    self.state = State::Idle;
                    return Ok(answer.unwrap_or_default());
                }
                (other, _) => return Err(self.over(Fault::Unexpected(name_of(other)), stage, what)),
            };
            self.link.pass();
            taken.map_err(|error| self.over(error.into(), stage, what))?;
        }
    }

    /// Begins a statement with a big result. `next` returns its rows.
    pub(in super::super) async fn rows(
        &mut self,
        statement: &Statement<'_>,
    ) -> Result<Description, SourceError> {
        let Statement { stage, what, .. } = *statement;
        self.ask(statement).await?;
        let tag = self.turn(stage, what).await?;
        if tag != tag::ROW_DESCRIPTION {
            return Err(self.over(Fault::Unexpected(name_of(tag)), stage, what));
        }
        let parsed = Description::parse(self.link.body(), self.complex);
        self.link.pass();
        let description = parsed.map_err(|error| self.over(error.into(), stage, what))?;
        if let Some(column) = description.text_only() {
            let message = format!("{what}: the server sends column {:?} as text", column.name);
            self.state = State::Broken;
            return Err(SourceError::permanent("protocol", message)
                .with_remedy("the server is too old for binary transfer; ask for a newer one"));
        }
        self.state = State::Reading(Box::new(Reading {
            rows: Rows::new(description.columns.len()),
            stage,
            what: what.to_owned(),
            is_complete: false,
            since: None,
        }));
        Ok(description)
    }

    /// The next rows, as blocks of one binary COPY: the first block begins with its header, the last one ends
    /// with its trailer. The trailer and then `None` come only after the server has confirmed that the result
    /// is complete.
    pub(in super::super) async fn next(&mut self) -> Result<Option<Block>, SourceError> {
        loop {
            let reading = match &mut self.state {
                State::Reading(reading) => reading,
                State::Finished => {
                    self.state = State::Idle;
                    return Ok(None);
                }
                State::Idle | State::Busy | State::Broken | State::Over => {
                    return Err(SourceError::transient(
                        "aborted",
                        "the session reads no result of a statement",
                    ));
                }
            };
            let found = if reading.is_complete {
                Found::Message
            } else {
                match reading.rows.absorb(self.link.buffered()) {
                    Ok((used, found)) => {
                        self.link.consume(used);
                        found
                    }
                    Err(error) => return Err(self.over_reading(error.into())),
                }
            };
            match found {
                Found::Block => return Ok(Some(reading.take())),
                Found::Nothing => {
                    let filled = if reading.rows.is_empty() {
                        self.link.fill().await
                    } else {
                        let since = *reading.since.get_or_insert_with(Instant::now);
                        match timeout_at(since + GATHER, self.link.fill()).await {
                            Ok(filled) => filled,
                            Err(_) => return Ok(Some(reading.take())),
                        }
                    };
                    filled.map_err(|fault| self.over_reading(fault))?;
                }
                Found::Message => {
                    if let Some(last) = self.message_between_rows().await? {
                        return Ok(Some(last));
                    }
                }
            }
        }
    }

    /// Handles a message that is no row. Returns the last block when the result has ended.
    async fn message_between_rows(&mut self) -> Result<Option<Block>, SourceError> {
        let State::Reading(reading) = &self.state else { return Ok(None) };
        let (stage, what) = (reading.stage, reading.what.clone());
        let Some(tag) = self.look(stage, &what).await? else { return Ok(None) };
        let State::Reading(reading) = &mut self.state else { return Ok(None) };
        match tag {
            tag::COMMAND_COMPLETE if !reading.is_complete => reading.is_complete = true,
            tag::READY if reading.is_complete => {
                self.link.pass();
                let State::Reading(reading) = std::mem::replace(&mut self.state, State::Finished) else {
                    return Ok(None);
                };
                return Ok(Some(reading.rows.finish()));
            }
            other => return Err(self.over(Fault::Unexpected(name_of(other)), stage, &what)),
        }
        self.link.pass();
        Ok(None)
    }

    /// Whether the session may take another statement: nothing is under way, and the server has neither closed
    /// the connection nor said anything since.
    pub(in super::super) fn is_healthy(&mut self) -> bool {
        matches!(self.state, State::Idle | State::Finished) && self.link.is_quiet()
    }

    /// Ends what is under way on the server, and closes the session. Returns once the server has ended the
    /// work, or after a few seconds.
    pub(in super::super) async fn stop(mut self) {
        let mut left = match &self.state {
            State::Reading(reading) => reading.rows.left(),
            State::Busy => 0,
            State::Idle | State::Finished => return self.close().await,
            State::Broken => return self.canceller.cancel().await,
            State::Over => return,
        };
        for pause in CANCEL_PAUSES {
            self.canceller.cancel().await;
            // Rows that still arrive are dropped.
            match timeout(pause, self.link.skip_past(tag::READY, &mut left)).await {
                Ok(Ok(())) => return self.close().await,
                Ok(Err(_)) => return,
                Err(_) => {}
            }
        }
    }

    async fn close(mut self) {
        let _ = timeout(LAST_WORD, self.link.send(&frontend::TERMINATE)).await;
    }

    /// Sends a statement.
    async fn ask(&mut self, statement: &Statement<'_>) -> Result<(), SourceError> {
        let Statement { sql, stage, what } = *statement;
        if !matches!(self.state, State::Idle | State::Finished) {
            return Err(SourceError::transient(
                "aborted",
                format!("{what}: the session is not ready for a statement"),
            ));
        }
        if sql.contains('\0') {
            return Err(SourceError::permanent("protocol", format!("{what}: the statement has a zero byte")));
        }
        self.state = State::Busy;
        self.link.send(&frontend::query(sql)).await.map_err(|fault| self.over(fault, stage, what))
    }

    /// The type of the next message that says something about the statement.
    async fn turn(&mut self, stage: Stage, what: &str) -> Result<u8, SourceError> {
        loop {
            if let Some(tag) = self.look(stage, what).await? {
                return Ok(tag);
            }
        }
    }

    /// The type of the next message; `None` if it needs no answer and is passed. An error of the server ends
    /// the statement.
    async fn look(&mut self, stage: Stage, what: &str) -> Result<Option<u8>, SourceError> {
        let tag = self.link.next().await.map_err(|fault| self.over(fault, stage, what))?;
        match tag {
            tag::NOTICE => login::note(self.link.body()),
            tag::PARAMETER_STATUS | tag::PARSE_COMPLETE | tag::COMMAND_DESCRIPTION => {}
            tag::ERROR => return Err(self.failed(stage, what).await),
            tag::COPY_IN | tag::VERIFY_FILES | tag::LOAD_FILE | tag::WRITE_FILE | tag::COPY_DONE => {
                return Err(self.over(Fault::AsksForData(name_of(tag)), stage, what));
            }
            tag => return Ok(Some(tag)),
        }
        self.link.pass();
        Ok(None)
    }

    /// The error that the server reports. Reads on to the end of the statement.
    async fn failed(&mut self, stage: Stage, what: &str) -> SourceError {
        let said = match backend::said(self.link.body()) {
            Ok(said) => said,
            Err(error) => return self.over(error.into(), stage, what),
        };
        self.link.pass();
        self.state = State::Busy;
        let ended = timeout(AFTER_ERROR, self.link.skip_past(tag::READY, &mut 0)).await;
        let is_alive = matches!(ended, Ok(Ok(()))) && !said.ends_session();
        self.state = if is_alive { State::Idle } else { State::Over };
        said.error(stage, what)
    }

    /// The error after which the connection cannot be used any more. The statement may still run on the server:
    /// [`Self::stop`] cancels it. After a silence the session stays as it is, so that its end can be awaited.
    fn over(&mut self, fault: Fault, stage: Stage, what: &str) -> SourceError {
        if !matches!(fault, Fault::Stalled(_)) {
            self.state = State::Broken;
        }
        fault.error(stage, what)
    }

    fn over_reading(&mut self, fault: Fault) -> SourceError {
        let (stage, what) = match &self.state {
            State::Reading(reading) => (reading.stage, reading.what.clone()),
            _ => (Stage::Chunk, "read rows".to_owned()),
        };
        self.over(fault, stage, &what)
    }
}

impl Reading {
    fn take(&mut self) -> Block {
        self.since = None;
        self.rows.take()
    }
}
