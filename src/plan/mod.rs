//! Facts become a plan: strategies, boundaries, batches, names. Pure.

pub mod column;
pub mod export_plan;

pub use export_plan::ExportPlan;
