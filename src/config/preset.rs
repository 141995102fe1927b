//! Defaults that suit a kind of source, for settings that the configuration leaves out.

use std::num::NonZeroU64;

use super::{ExportConfig, SourceConfig, SourceKind};
use crate::message::setting::{Compression, Span};

/// Defaults of a kind of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// Compression of pages.
    pub compression: Compression,
    /// Rows of a chunk; if none, the size of the table decides.
    pub chunk_rows: Option<NonZeroU64>,
    /// Silence after which a chunk is cancelled and tried again.
    pub stall_timeout: Span,
}

impl SourceKind {
    /// The preset of this kind.
    #[must_use]
    pub const fn preset(&self) -> Preset {
        match self {
            Self::Postgres(_) => Preset {
                compression: Compression::Snappy,
                chunk_rows: None,
                stall_timeout: Span::seconds(300),
            },
        }
    }
}

impl SourceConfig {
    /// Compression, unless the request sets it.
    #[must_use]
    pub fn compression(&self, export: &ExportConfig) -> Compression {
        self.compression.or(export.compression).unwrap_or(self.kind.preset().compression)
    }

    /// Rows of a chunk, unless the request sets it; if none, the size of the table decides.
    #[must_use]
    pub fn chunk_rows(&self, export: &ExportConfig) -> Option<NonZeroU64> {
        self.chunk_rows.or(self.kind.preset().chunk_rows).or(export.chunk_rows)
    }

    /// Silence after which a chunk is cancelled and tried again.
    #[must_use]
    pub fn stall_timeout(&self) -> Span {
        self.stall_timeout.unwrap_or(self.kind.preset().stall_timeout)
    }
}
