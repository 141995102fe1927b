//! A task from delivery to acknowledgement.
