//! A chain to a stack of frames by its addresses alone, where they were looked up before.

use std::sync::Arc;

use super::super::chain::{Chain, ChainFrame};
use super::super::file::Place;
use super::whole::number_of_end;
use super::{Spot, Symbolizer};
use crate::model::Stack;

/// Addresses that are remembered; a power of two.
const SLOTS: usize = 4_096;
/// Stands for the kernel's space: no process has had so many.
const KERNEL: u64 = u64::MAX >> 1;

/// Numbers of texts by address, each where the address says: what was asked for last stays. Who makes addresses collide
/// has them looked up as any others.
#[derive(Debug)]
pub(super) struct Lately(Box<[Slot]>);

/// An address of a space, and the number of its texts.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Twice the space's version, and one more where the address is exact; 0 of an empty slot.
    space: u64,
    address: u64,
    number: u64,
}

impl Default for Lately {
    fn default() -> Lately {
        Lately(vec![Slot::default(); SLOTS].into())
    }
}

impl Lately {
    /// Memory in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.0)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.0.fill(Slot::default());
    }

    #[inline]
    fn slot(&mut self, space: u64, address: u64) -> Option<&mut Slot> {
        let mixed = (address ^ space.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The upper bits depend on all of them.
        let at = usize::try_from(mixed >> (u64::BITS - SLOTS.ilog2())).ok()?;
        self.0.get_mut(at)
    }
}

/// What may be done to name an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    /// Addresses are looked up.
    Any,
    /// They are not: only what is at hand.
    None,
}

impl Symbolizer {
    /// The stack of `chain`: as [`Symbolizer::stack`] makes it of its places.
    pub fn stack_of(&mut self, chain: &Chain) -> Arc<Stack> {
        if let Some(stack) = chain.named(self.valid_names) {
            return stack;
        }
        let stack = self.stack_at_hand(chain, Effort::Any).unwrap_or_else(|| {
            let stack = self.stack(&chain.places());
            self.refresh(chain);
            stack
        });
        chain.name(self.valid_names, &stack);
        stack
    }

    /// The stack of `chain` if it is at hand, without looking any of its addresses up.
    pub fn known_stack_of(&mut self, chain: &Chain) -> Option<Arc<Stack>> {
        chain.named(self.valid_names).or_else(|| self.stack_at_hand(chain, Effort::None))
    }

    fn stack_at_hand(&mut self, chain: &Chain, effort: Effort) -> Option<Arc<Stack>> {
        let mut key = std::mem::take(&mut self.numbers);
        let known =
            self.numbers_of(chain, effort, &mut key).then(|| self.stacks.get(key.as_slice())).flatten();
        self.numbers = key;
        known
    }

    /// Puts the numbers that `chain` is known by into `key`. False where that takes more than may be done, and where a file
    /// is to be read again first.
    fn numbers_of(&mut self, chain: &Chain, effort: Effort, key: &mut Vec<u64>) -> bool {
        key.clear();
        let mut mapped = chain.space().mappings();
        let mut above = None;
        for frame in chain.frames() {
            let (space, address) = slot_of(chain, frame);
            let found = self.lately.slot(space, address);
            if let Some(slot) = found.filter(|slot| (slot.space, slot.address) == (space, address)) {
                key.push(slot.number);
                above = None;
                continue;
            }
            let place = frame.place(&mut mapped);
            let spot = self.spot(&place, frame.exact);
            if spot.runs_together() && above == Some(spot) {
                continue;
            }
            // An address that nothing is known of may never come again: what stands behind the root is one of those.
            let stays = !spot.runs_together();
            if self.is_to_be_read_again(&place) {
                return false;
            }
            let effort = if stays { effort } else { Effort::Any };
            let Some(number) = self.number_of(&place, spot, effort) else { return false };
            above = Some(spot);
            key.push(number);
            if stays && let Some(slot) = self.lately.slot(space, address) {
                *slot = Slot { space, address, number };
            }
        }
        key.push(number_of_end(chain.is_cut().then_some(Spot::Truncated)));
        true
    }

    /// Whether `place` lies in a file that is better known when it is read again, which can be done.
    fn is_to_be_read_again(&self, place: &Place) -> bool {
        matches!(place, Place::File { file, .. } if self.outdated.contains(&file.id) && file.is_open())
    }

    /// Has the slots of `chain` say what its stack was made of just now. A text that was forgotten meanwhile, though it was
    /// at hand here, has another number then.
    fn refresh(&mut self, chain: &Chain) {
        let Symbolizer { lately, numbers, .. } = self;
        // Where frames have run together nobody knows which number is whose: they are looked up again.
        let is_each = numbers.len() == chain.frames().count() + 1;
        for (at, frame) in chain.frames().enumerate() {
            let (space, address) = slot_of(chain, frame);
            let slot = lately.slot(space, address);
            if let Some(slot) = slot.filter(|slot| (slot.space, slot.address) == (space, address)) {
                *slot = match numbers.get(at) {
                    Some(number) if is_each => Slot { space, address, number: *number },
                    _ => Slot::default(),
                };
            }
        }
    }
}

/// What the slot of `frame` is known by: its space and its address.
#[inline]
fn slot_of(chain: &Chain, frame: ChainFrame) -> (u64, u64) {
    let space = if frame.in_kernel { KERNEL } else { chain.space().version() };
    (space << 1 | u64::from(frame.exact), frame.address)
}
