//! The sink against real HTTP: the document store of the demo, scripted. Tests bear the number of the fault that they make:
//!
//! 1 all stored · 2 a mapping error among 500 · 3 item 429 · 4 `Retry-After` · 5 a long 429 · 6 a dead node · 7 all nodes away ·
//! 8 a silent node · 9 reset after the body was applied · 10 truncated answer · 11 foreign items · 12 item status against
//! `errors` · 13 a proxy's page · 14 413 · 15 one document above the limit · 16 reset in place of 413 · 17 ids of 600 bytes ·
//! 18 one operation refuses its request · 19 401 for a while · 20 no right to one index of two · 21 read-only index ·
//! 22 flood stage · 23 missing index · 24 alias without write index · 25 strict mapping · 26 an update behind a refused one ·
//! 26b a late first attempt · 27 one key in two bulks · 28 tombstones · 29 a tombstone without key · 30 replay of an old
//! write · 31 a write after a delete · 32 a topic created anew · 33 a restart before the commit · 36 a request of an old
//! owner · 37 a flush cut short · 38, 39 stop · 42 one partition stuck · 43 a daily index at midnight · 44, 45 data streams ·
//! 46 a document that is there · 47 failure store · 48 upsert against other writers · 50 authorities · 51 client
//! certificate and API key · 52 rotated secrets · 53 secrets in texts · 54 gzip · 55 odd documents · 56 products · 57 proxies
//! of the environment · 58 a trickling answer · 59 a clock that jumps
//!
//! Unit tests beside the code: 5 ten minutes of it (`src/scheduler/tests/outages.rs`), 49 ids of the server (`write_plan.rs`), 60 random faults (`src/scheduler/tests/random.rs`;
//! a million records: `weir-dev sink-soak`), and the scheduler's side of many of the above.
//!
//! Not here, and why:
//! * 34, 35, 40, 41 are the host's, since a sink knows neither offsets nor dead letters: kills around the commit of dead
//!   letters (`dev/tests/kill_points.rs`), a broker that is away (`dev/tests/faults.rs`), the settled prefix and gaps in
//!   offsets (`host/src/flow/ledger.rs`).
//! * 56 against a real OpenSearch: none is started here; products are told apart by what their versions say.

mod access;
mod answers;
mod bench;
mod clocks;
mod methods;
mod numbers;
mod outages;
mod preflight;
mod tls;
mod verdicts;
