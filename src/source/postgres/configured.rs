//! What is known of a connection's session on the server.

/// What a session of Greenplum is, and its settings.
pub(super) struct Configured {
    /// Whether no pooler stands between.
    pub(super) is_direct: bool,
    /// The statements that made its settings; empty if we have made none.
    pub(super) sql: String,
    pub(super) in_force: InForce,
}

/// What a transaction found out about itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct InForce {
    /// Whether there is a `statement_timeout`. It helps to tell a timeout from a cancel.
    pub(super) statement_timeout: bool,
    /// The server's process. Through a pooler the next transaction may have another one.
    pub(super) process: Option<i32>,
}
