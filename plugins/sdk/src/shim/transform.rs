use weir_plugin_api::abi_stable::sabi_trait::TD_Opaque;
use weir_plugin_api::abi_stable::std_types::{ROption, RResult, RSlice, RStr, RVec};
use weir_plugin_api::{
    Batch, Consumed, CreateContext, Failure, Output, PluginError, SLOT_ALL, StatePart,
    StatePartRef, TransformBox, TransformObject, TransformObject_TO, error_kind,
};

use super::declaration::parse_or_fail;
use super::guard::{Guarded, guard};
use super::{context, plugin_error};
use crate::{Context, Error, Out, Record, State, StateParts, Transform, Watermark};

pub extern "C" fn create_transform<T: Transform>(
    json: RStr<'_>,
    create: &CreateContext<'_>,
) -> RResult<TransformBox, PluginError> {
    guard(|| {
        let context = context(create);
        parse_or_fail(json.as_str())
            .and_then(|config| transform_object::<T>(config, context))
            .map_err(plugin_error)
    })
    .and_then(|answer| answer)
    .into()
}

pub(crate) fn transform_object<T: Transform>(
    config: T::Config,
    context: Context,
) -> Result<TransformBox, Error> {
    let plugin = Guarded::new(T::new(config, &context)?);
    Ok(TransformObject_TO::from_value(
        TransformShim { plugin, context },
        TD_Opaque,
    ))
}

struct TransformShim<T> {
    plugin: Guarded<T>,
    context: Context,
}

/// One record after the other, until the batch ends, the host asks for the thread back, or a call fails as a whole.
fn process_records<'b, T: Transform>(
    plugin: &mut T,
    context: &Context,
    batch: &Batch<'b>,
    output: &mut Output<'b>,
) -> Consumed {
    let mut consumed = 0;
    let mut failed = None;
    let view = crate::Batch(*batch);
    for record in batch.records.as_slice() {
        let mark = output.mark();
        let mut out = Out {
            inner: &mut *output,
            batch: Some(view),
            now_ms: batch.now_ms,
            host: context.host,
        };
        match plugin.process(Record(*record), &mut out) {
            Ok(()) => {}
            Err(Error::Record {
                code,
                message,
                detail,
            }) => {
                output.roll_back(mark);
                output.fail(Failure {
                    seq: record.seq,
                    code: code.into(),
                    message: message.into(),
                    detail: detail.into(),
                });
            }
            Err(error) => {
                output.roll_back(mark);
                failed = Some(plugin_error(error));
                break;
            }
        }
        consumed += 1;
        if batch.yield_requested() {
            break;
        }
    }
    let mut out = Out {
        inner: output,
        batch: Some(view),
        now_ms: batch.now_ms,
        host: context.host,
    };
    if let Err(error) = plugin.after_batch(&mut out) {
        failed = Some(plugin_error(error));
    }
    Consumed {
        records: consumed,
        error: failed.into(),
    }
}

impl<T: Transform> TransformShim<T> {
    fn call<R>(
        &mut self,
        call: impl FnOnce(&mut T, &Context) -> Result<R, Error>,
    ) -> RResult<R, PluginError> {
        let TransformShim { plugin, context } = self;
        guard(|| call(plugin, context))
            .and_then(|answer| answer.map_err(plugin_error))
            .into()
    }
}

impl<T: Transform> TransformObject for TransformShim<T> {
    fn process<'b>(&mut self, batch: &Batch<'b>, output: &mut Output<'b>) -> Consumed {
        let TransformShim { plugin, context } = self;
        guard(|| process_records::<T>(plugin, context, batch, output)).unwrap_or_else(|error| {
            Consumed {
                records: 0,
                error: ROption::RSome(error),
            }
        })
    }

    fn on_watermark<'b>(
        &mut self,
        batch: &Batch<'b>,
        slot: u32,
        watermark_ms: i64,
        output: &mut Output<'b>,
    ) -> RResult<(), PluginError> {
        let watermark = match slot {
            SLOT_ALL => Watermark::All {
                at_ms: watermark_ms,
            },
            slot => Watermark::Slot {
                slot,
                at_ms: watermark_ms,
            },
        };
        self.call(|plugin, context| {
            plugin.on_watermark(
                watermark,
                &mut Out {
                    inner: output,
                    batch: Some(crate::Batch(*batch)),
                    now_ms: batch.now_ms,
                    host: context.host,
                },
            )
        })
    }

    fn on_timer<'b>(
        &mut self,
        batch: &Batch<'b>,
        slot: u32,
        id: u64,
        now_ms: i64,
        output: &mut Output<'b>,
    ) -> RResult<(), PluginError> {
        self.call(|plugin, context| {
            plugin.on_timer(
                slot,
                id,
                now_ms,
                &mut Out {
                    inner: output,
                    batch: Some(crate::Batch(*batch)),
                    now_ms,
                    host: context.host,
                },
            )
        })
    }

    fn snapshot(&mut self, slot: u32, out: &mut RVec<StatePart>) -> RResult<u32, PluginError> {
        self.call(|plugin, _| {
            let mut state = State::default();
            plugin.snapshot(slot, &mut state)?;
            out.extend(state.parts);
            Ok(T::STATE_VERSION)
        })
    }

    fn restore(
        &mut self,
        slot: u32,
        version: u32,
        parts: RSlice<'_, StatePartRef<'_>>,
    ) -> RResult<(), PluginError> {
        self.call(|plugin, _| plugin.restore(slot, version, StateParts(parts)))
            .map_err(|error| PluginError {
                // What the author calls an error of the record or of the instance is here one of the state.
                kind: match error.kind {
                    error_kind::FATAL => error_kind::STATE,
                    kind => kind,
                },
                ..error
            })
    }

    fn release(&mut self, slot: u32) -> RResult<(), PluginError> {
        self.call(|plugin, _| {
            plugin.release(slot);
            Ok(())
        })
    }

    fn stop(&mut self) -> RResult<(), PluginError> {
        self.call(|plugin, _| {
            plugin.stop();
            Ok(())
        })
    }
}
