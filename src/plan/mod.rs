//! Facts become a plan: strategies, boundaries, batches. Pure.

pub mod batch;
pub mod choose;
pub mod column;
pub mod export_plan;
pub mod filter;
pub mod portable;
pub mod size;
pub mod strategy;

pub use export_plan::ExportPlan;
