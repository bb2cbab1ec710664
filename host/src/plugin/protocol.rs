//! What a plugin may answer. The SDK cannot break most of these rules; a library that does not use it can.

use weir_plugin_api::{
    Batch, Failure, Output, Record, SEQ_DERIVED, SLOT_ALL, Settlements, verdict,
};

use super::instance::{CallError, Processed};

/// A rule that was broken.
#[derive(Debug)]
pub(super) struct Broken {
    /// Last part of the code `plugin.protocol.…`.
    code: &'static str,
    what: String,
}

impl Broken {
    fn new(code: &'static str, what: String) -> Self {
        Broken { code, what }
    }

    pub(super) fn of(self, plugin: &str) -> CallError {
        CallError::protocol(plugin, self.code, self.what)
    }
}

/// No more is consumed than was given.
pub(super) fn check_consumed(batch: &Batch<'_>, consumed: usize) -> Result<(), Broken> {
    if consumed <= batch.records.len() {
        return Ok(());
    }
    Err(Broken::new(
        "consumed",
        format!(
            "consumed {consumed} records of a batch of {}",
            batch.records.len()
        ),
    ))
}

/// Everything that `process` may not answer.
pub(super) fn check_process(
    batch: &Batch<'_>,
    out: &Output<'_>,
    answer: &Processed,
) -> Result<(), Broken> {
    check_consumed(batch, answer.consumed)?;
    if answer.consumed == 0 && answer.error.is_none() && !batch.records.is_empty() {
        return Err(Broken::new(
            "no_progress",
            format!(
                "consumed nothing of a batch of {} records and gave no error",
                batch.records.len()
            ),
        ));
    }
    let consumed = batch
        .records
        .as_slice()
        .get(..answer.consumed)
        .unwrap_or_default();
    check_outputs(consumed, out.emitted())?;
    check_failures(consumed, out.failures())?;
    check_slots(batch, out)
}

/// What `on_watermark` and `on_timer` may not answer: they consume nothing.
pub(super) fn check_derived(batch: &Batch<'_>, out: &Output<'_>) -> Result<(), Broken> {
    check_outputs(&[], out.emitted())?;
    check_failures(&[], out.failures())?;
    check_slots(batch, out)
}

/// Outputs usually stand in the order of their inputs: then one walk over both finds every input. Only when one is not
/// found so (a plugin that reorders, a batch whose `seq` does not rise) are the consumed `seq` sorted.
fn check_outputs(consumed: &[Record<'_>], emitted: &[Record<'_>]) -> Result<(), Broken> {
    let mut inputs = consumed.iter().map(|input| input.seq).peekable();
    for (at, output) in emitted.iter().enumerate() {
        if output.seq == SEQ_DERIVED {
            continue;
        }
        while inputs.next_if(|seq| *seq < output.seq).is_some() {}
        if inputs.peek() != Some(&output.seq) {
            let rest = emitted.get(at..).unwrap_or_default();
            let strange = first_strange(consumed, rest.iter().map(|output| output.seq));
            return strange.map_or(Ok(()), |seq| {
                Err(Broken::new(
                    "output_seq",
                    format!(
                        "emitted a record of input {seq}, which is none of the records it consumed"
                    ),
                ))
            });
        }
    }
    Ok(())
}

fn check_failures(consumed: &[Record<'_>], failures: &[Failure]) -> Result<(), Broken> {
    if failures.is_empty() {
        return Ok(());
    }
    // A consumed record may itself be derived, so its number counts as any other here.
    let known = sorted(consumed);
    let strange = failures
        .iter()
        .map(|failure| failure.seq)
        .find(|seq| known.binary_search(seq).is_err());
    strange.map_or(Ok(()), |seq| {
        Err(Broken::new(
            "failure_seq",
            format!("refused input {seq}, which is none of the records it consumed"),
        ))
    })
}

fn first_strange(consumed: &[Record<'_>], seqs: impl Iterator<Item = u64>) -> Option<u64> {
    let known = sorted(consumed);
    seqs.filter(|seq| *seq != SEQ_DERIVED)
        .find(|seq| known.binary_search(seq).is_err())
}

fn sorted(consumed: &[Record<'_>]) -> Vec<u64> {
    let mut seqs: Vec<u64> = consumed.iter().map(|input| input.seq).collect();
    seqs.sort_unstable();
    seqs
}

fn check_slots(batch: &Batch<'_>, out: &Output<'_>) -> Result<(), Broken> {
    let slots = batch.slots.len();
    let known = |slot: u32| (slot as usize) < slots;
    let strange_output = out.emitted().iter().find(|output| {
        let of_all = output.slot == SLOT_ALL && output.seq == SEQ_DERIVED;
        !known(output.slot) && !of_all
    });
    let strange_timer = out
        .timers()
        .iter()
        .find(|timer| timer.slot != SLOT_ALL && !known(timer.slot));
    let strange = strange_output
        .map(|output| ("emitted a record", output.slot))
        .or(strange_timer.map(|timer| ("asked for a timer", timer.slot)));
    strange.map_or(Ok(()), |(what, slot)| {
        Err(Broken::new(
            "slot",
            format!("{what} of slot {slot}, and this task has {slots} slots, counted from 0"),
        ))
    })
}

/// Only the verdicts from `first` on are new.
pub(super) fn check_verdicts(out: &Settlements, first: usize) -> Result<(), Broken> {
    let new = out.settled.as_slice().get(first..).unwrap_or_default();
    let strange = new
        .iter()
        .find(|settled| !matches!(settled.verdict, verdict::STORED | verdict::SUPERSEDED));
    strange.map_or(Ok(()), |settled| {
        Err(Broken::new(
            "verdict",
            format!(
                "settled record {} with the verdict {}, and this host knows 1 and 2",
                settled.seq, settled.verdict
            ),
        ))
    })
}

#[cfg(test)]
mod tests;
