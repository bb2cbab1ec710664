// `#[sabi_trait]` expands to impls inside a constant.
#![allow(non_local_definitions)]

use abi_stable::sabi_trait;
use abi_stable::std_types::{RBox, RResult};

use crate::{Batch, Consumed, PluginError, Settlements};

/// Values that `flush` answers.
pub mod flush_state {
    /// Every accepted record is settled.
    pub const DONE: u32 = 0;
    /// Some are still on their way: call again.
    pub const PENDING: u32 = 1;
}

/// A sink instance. All calls come from one thread, one at a time; none of them blocks longer than it is told to.
#[sabi_trait]
pub trait SinkObject: Send {
    /// Copies what it keeps; 0 = full. Each accepted record is settled exactly once, now or later.
    fn write<'b>(&mut self, batch: &Batch<'b>, out: &mut Settlements) -> Consumed;

    /// Reports verdicts; called at least every 100 ms.
    fn poll(&mut self, out: &mut Settlements) -> RResult<(), PluginError>;

    /// Sends what it holds and waits for verdicts, at most `wait_ms`. Answers one of [`flush_state`].
    fn flush(&mut self, wait_ms: u64, out: &mut Settlements) -> RResult<u32, PluginError>;

    /// Last call before the drop: stop threads, give up what is not settled.
    #[sabi(last_prefix_field)]
    fn stop(&mut self) -> RResult<(), PluginError>;
}

pub type SinkBox = SinkObject_TO<'static, RBox<()>>;
