use weir_plugin_api::abi_stable::sabi_trait::TD_Opaque;
use weir_plugin_api::abi_stable::std_types::{ROption, RResult, RStr};
use weir_plugin_api::{
    Batch, Consumed, CreateContext, PluginError, Settlements, SinkBox, SinkObject, SinkObject_TO,
    flush_state,
};

use super::declaration::parse_or_fail;
use super::guard::{Guarded, guard};
use super::{context, plugin_error};
use crate::{Context, Error, Flush, Settle, Sink};

pub extern "C" fn create_sink<S: Sink>(
    json: RStr<'_>,
    create: &CreateContext<'_>,
) -> RResult<SinkBox, PluginError> {
    guard(|| {
        let context = context(create);
        parse_or_fail(json.as_str())
            .and_then(|config| sink_object::<S>(config, context))
            .map_err(plugin_error)
    })
    .and_then(|answer| answer)
    .into()
}

pub(crate) fn sink_object<S: Sink>(config: S::Config, context: Context) -> Result<SinkBox, Error> {
    let plugin = Guarded::new(S::new(config, &context)?);
    Ok(SinkObject_TO::from_value(SinkShim { plugin }, TD_Opaque))
}

struct SinkShim<S> {
    plugin: Guarded<S>,
}

impl<S: Sink> SinkShim<S> {
    fn call<R>(&mut self, call: impl FnOnce(&mut S) -> Result<R, Error>) -> Result<R, PluginError> {
        guard(|| call(&mut self.plugin)).and_then(|answer| answer.map_err(plugin_error))
    }
}

impl<S: Sink> SinkObject for SinkShim<S> {
    fn write<'b>(&mut self, batch: &Batch<'b>, out: &mut Settlements) -> Consumed {
        let view = crate::Batch(*batch);
        match self.call(|plugin| plugin.write(&view, &mut Settle(out))) {
            Ok(records) => Consumed::ok(records),
            Err(error) => Consumed {
                records: 0,
                error: ROption::RSome(error),
            },
        }
    }

    fn poll(&mut self, out: &mut Settlements) -> RResult<(), PluginError> {
        self.call(|plugin| plugin.poll(&mut Settle(out))).into()
    }

    fn flush(&mut self, wait_ms: u64, out: &mut Settlements) -> RResult<u32, PluginError> {
        self.call(|plugin| plugin.flush(wait_ms, &mut Settle(out)))
            .map(|flush| match flush {
                Flush::Done => flush_state::DONE,
                Flush::Pending => flush_state::PENDING,
            })
            .into()
    }

    fn stop(&mut self) -> RResult<(), PluginError> {
        self.call(|plugin| {
            plugin.stop();
            Ok(())
        })
        .into()
    }
}
