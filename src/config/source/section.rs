//! `[sources.<name>]` as written in the file.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

use serde::Deserialize;

use super::{AllowWhere, MAX_JOBS, MAX_PARALLEL, Origin, PostgresConfig, SourceConfig, SourceKind};
use crate::config::dsn::{Dsn, Surroundings};
use crate::config::vertica::VerticaConfig;
use crate::config::{OptionalSpan, Secret};
use crate::message::setting::{ArrayMode, Compression, InfinityMode, NumericMode, ReadWay, Span};

/// Names of kinds in the file.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KindName {
    Postgres,
    Greenplum,
    Vertica,
}

/// `[sources.<name>]` as written in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    kind: KindName,
    dsn: Secret,
    #[serde(default)]
    environment: bool,
    #[serde(default)]
    password: Option<Secret>,
    #[serde(default)]
    password_file: Option<PathBuf>,
    #[serde(default)]
    oauth_token_file: Option<PathBuf>,
    #[serde(default)]
    ca_file: Option<PathBuf>,
    #[serde(default)]
    backup_hosts: Vec<String>,
    #[serde(default)]
    load_balance: Option<bool>,
    #[serde(default)]
    resource_pool: Option<String>,
    #[serde(default = "default_pool_size")]
    pool_size: NonZeroU32,
    #[serde(default)]
    max_parallel: Option<NonZeroU32>,
    #[serde(default = "default_max_jobs")]
    max_jobs: NonZeroU32,
    #[serde(default = "default_connect_timeout")]
    connect_timeout: Span,
    #[serde(default)]
    stall_timeout: Option<Span>,
    #[serde(default)]
    lock_timeout: Option<Span>,
    #[serde(default)]
    max_snapshot_age: OptionalSpan,
    #[serde(default)]
    schemas: Vec<String>,
    #[serde(default)]
    allow_where: AllowWhere,
    #[serde(default)]
    read: ReadWay,
    #[serde(default)]
    numeric: Option<NumericMode>,
    #[serde(default)]
    infinity: InfinityMode,
    #[serde(default)]
    arrays: ArrayMode,
    #[serde(default)]
    compression: Option<Compression>,
    #[serde(default)]
    chunk_rows: Option<NonZeroU64>,
    #[serde(default)]
    chunk_workers: Option<NonZeroU32>,
    #[serde(default)]
    session: BTreeMap<String, String>,
}

impl Section {
    /// The keys that are set and that its kind does not have.
    fn misplaced(&self) -> Vec<&'static str> {
        let keys = match self.kind {
            KindName::Postgres | KindName::Greenplum => vec![
                ("oauth_token_file", self.oauth_token_file.is_some()),
                ("backup_hosts", !self.backup_hosts.is_empty()),
                ("load_balance", self.load_balance.is_some()),
                ("resource_pool", self.resource_pool.is_some()),
            ],
            KindName::Vertica => vec![
                ("environment", self.environment),
                ("lock_timeout", self.lock_timeout.is_some()),
                ("read", !self.read.is_auto()),
                ("session", !self.session.is_empty()),
            ],
        };
        keys.into_iter().filter(|(_, set)| *set).map(|(key, _)| key).collect()
    }

    fn kind(&mut self) -> SourceKind {
        let (dsn, password) = (self.dsn.clone(), self.password.take());
        let (password_file, ca_file) = (self.password_file.take(), self.ca_file.take());
        let connect_timeout = self.connect_timeout;
        if let KindName::Vertica = self.kind {
            return SourceKind::Vertica(VerticaConfig {
                dsn,
                password,
                password_file,
                oauth_token_file: self.oauth_token_file.take(),
                ca_file,
                backup_hosts: std::mem::take(&mut self.backup_hosts),
                load_balance: self.load_balance.unwrap_or(true),
                resource_pool: self.resource_pool.take(),
                connect_timeout,
                by_nodes: self.max_parallel.is_none(),
            });
        }
        let lock_timeout = self.lock_timeout.unwrap_or(DEFAULT_LOCK_TIMEOUT);
        let target = Dsn::within(dsn.expose(), &Surroundings::of_process(self.environment));
        let server =
            PostgresConfig { target, password, password_file, ca_file, connect_timeout, lock_timeout };
        match self.kind {
            KindName::Greenplum => SourceKind::Greenplum(server),
            KindName::Postgres | KindName::Vertica => SourceKind::Postgres(server),
        }
    }
}

impl From<Section> for SourceConfig {
    fn from(mut section: Section) -> Self {
        Self {
            origin: Origin::default(),
            misplaced: section.misplaced(),
            kind: section.kind(),
            pool_size: section.pool_size,
            max_parallel: section.max_parallel.unwrap_or(MAX_PARALLEL),
            max_jobs: section.max_jobs,
            stall_timeout: section.stall_timeout,
            max_snapshot_age: section.max_snapshot_age,
            schemas: section.schemas,
            allow_where: section.allow_where,
            read: section.read,
            numeric: section.numeric,
            infinity: section.infinity,
            arrays: section.arrays,
            compression: section.compression,
            chunk_rows: section.chunk_rows,
            chunk_workers: section.chunk_workers,
            session: section.session,
        }
    }
}

fn default_pool_size() -> NonZeroU32 {
    NonZeroU32::new(20).expect("not zero")
}

fn default_max_jobs() -> NonZeroU32 {
    MAX_JOBS
}

fn default_connect_timeout() -> Span {
    Span::seconds(10)
}

const DEFAULT_LOCK_TIMEOUT: Span = Span::seconds(5);
