//! The sink against real HTTP: the document store of the demo, scripted. The numbers are those of the list of faults in
//! this folder's README.

mod access;
mod answers;
mod bench;
mod methods;
mod outages;
mod preflight;
mod tls;
mod tls_front;
mod verdicts;
