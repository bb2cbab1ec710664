//! reduce-visit
