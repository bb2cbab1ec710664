//! Item 8, time and gaps: each test pins one rule of event time (DESIGN of watermarks, I9) or of offsets that are not there (I2, I3).

mod away;
mod event_time;
mod offsets;
mod partitions;
mod recreated;
mod retention;
mod stage;
