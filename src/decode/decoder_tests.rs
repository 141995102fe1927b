//! The decoder against streams built by hand.
