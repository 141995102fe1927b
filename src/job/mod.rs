//! Job state and the coordinator.
