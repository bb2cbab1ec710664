//! The Elasticsearch sink inside a real host on a real Kafka, with a scriptable store as its server: kills between the
//! server's answer and the commit, dead letters that cannot be written, ends under load and in a pause, the online check.

mod dead_letters;
mod kills;
mod online;
mod stage;
mod stops;
