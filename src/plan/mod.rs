//! Turns facts into a plan: strategies, boundaries, batches. Pure.

pub mod batch;
pub mod choose;
pub mod export_plan;
pub mod size;
pub mod strategy;

pub use export_plan::ExportPlan;
