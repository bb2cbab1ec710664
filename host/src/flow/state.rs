//! The state of stateful transforms, slot by slot (I3).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Flow, FlowError, broken};
use crate::plugin::{CallError, Snapshot};

/// What one transform has of a slot.
pub struct NodeState {
    /// Its name in the topology.
    pub node: String,
    pub plugin: String,
    pub snapshot: Snapshot,
}

impl Flow {
    /// Names of the transforms that keep state.
    pub fn stateful_nodes(&self) -> impl Iterator<Item = &str> {
        let stateful = self.transforms.iter().filter(|node| node.is_stateful());
        stateful.map(|node| node.name.as_str())
    }

    /// The state of a slot, one entry for each transform that keeps any. Taken at a cut.
    ///
    /// # Errors
    /// A transform that cannot give its state.
    pub fn snapshot(&mut self, slot: u32) -> Result<Vec<NodeState>, FlowError> {
        let stateful = self.transforms.iter_mut().filter(|node| node.is_stateful());
        stateful
            .map(|node| {
                let snapshot = node.instance.snapshot(slot);
                Ok(NodeState {
                    snapshot: snapshot.map_err(|error| broken(&node.name, &error))?,
                    node: node.name.clone(),
                    plugin: node.plugin.clone(),
                })
            })
            .collect()
    }

    /// Gives a transform the state of a slot; false when there is no such transform.
    ///
    /// # Errors
    /// The transform cannot read it.
    pub fn restore(
        &mut self,
        node: &str,
        slot: u32,
        version: u32,
        parts: &BTreeMap<u64, Arc<[u8]>>,
    ) -> Result<bool, CallError> {
        let mut transforms = self.transforms.iter_mut();
        let found = transforms.find(|known| known.name == node && known.is_stateful());
        match found {
            Some(node) => node.instance.restore(slot, version, parts).map(|()| true),
            None => Ok(false),
        }
    }
}
