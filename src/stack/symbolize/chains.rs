//! A chain to a stack of frames by its addresses alone, where they were looked up before.

use std::sync::Arc;

use super::super::chain::Chain;
use super::super::file::Place;
use super::whole::number_of_end;
use super::{Spot, Symbolizer};
use crate::model::Stack;

/// Addresses that are remembered; a power of two.
const SLOTS: usize = 4_096;
/// Stands for the kernel's space: no process has so many.
const KERNEL: u64 = u64::MAX;

/// Numbers of texts by address, each where the address says: what was asked for last stays. Who makes addresses collide
/// has them looked up as any others.
#[derive(Debug)]
pub(super) struct Lately(Box<[Slot]>);

/// An address of a space, and the number of its texts.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// The space's version; 0 of an empty slot.
    space: u64,
    /// Twice the address, and one more where it is exact.
    address: u64,
    number: u64,
}

impl Default for Lately {
    fn default() -> Lately {
        Lately(vec![Slot::default(); SLOTS].into())
    }
}

impl Lately {
    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.0.fill(Slot::default());
    }

    #[inline]
    fn slot(&mut self, space: u64, address: u64) -> Option<&mut Slot> {
        let mixed = (address ^ space.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // Its upper half depends on all of its bits.
        let at = usize::try_from(mixed >> 32).ok()? % SLOTS;
        self.0.get_mut(at)
    }
}

impl Symbolizer {
    /// The stack of `chain`: as [`Symbolizer::stack`] makes it of its places.
    pub fn stack_of(&mut self, chain: &Chain) -> Arc<Stack> {
        let mut key = std::mem::take(&mut self.numbers);
        let known = self.numbers_of(chain, &mut key).then(|| self.stacks.get(key.as_slice())).flatten();
        self.numbers = key;
        known.unwrap_or_else(|| self.stack(&chain.places()))
    }

    /// Puts the numbers that `chain` is known by into `key`. False where they are not enough: frames may run together, or
    /// a file is to be read again.
    fn numbers_of(&mut self, chain: &Chain, key: &mut Vec<u64>) -> bool {
        key.clear();
        let mut mapped = chain.space().mappings();
        for frame in chain.frames() {
            let space = if frame.in_kernel { KERNEL } else { chain.space().version() };
            let address = frame.address.wrapping_shl(1) | u64::from(frame.exact);
            let found = self
                .lately
                .slot(space, address)
                .filter(|slot| (slot.space, slot.address) == (space, address));
            if let Some(slot) = found {
                key.push(slot.number);
                continue;
            }
            let place =
                if frame.in_kernel { Place::Kernel(frame.address) } else { mapped.place(frame.address) };
            let spot = self.spot(&place, frame.exact);
            let is_outdated = matches!(&place, Place::File { file, .. } if self.outdated.contains(&file.id));
            if is_outdated || spot.runs_together() {
                return false;
            }
            let number = self.number_of(&place, spot);
            if let Some(slot) = self.lately.slot(space, address) {
                *slot = Slot { space, address, number };
            }
            key.push(number);
        }
        key.push(number_of_end(chain.is_cut().then_some(Spot::Truncated)));
        true
    }
}
