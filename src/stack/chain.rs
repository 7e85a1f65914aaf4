//! A stack as the kernel tells it, with the address space that it was taken in: looked up later, by who may be slow.
//!
//! It is an eighth of the size of its [`Place`]s, and nothing is counted for each frame: most chains are of addresses that
//! were looked up before ([`super::Symbolizer::stack_of`]), so that most places are never made.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::file::Place;
use super::space::{AddressSpace, Mappings};
use crate::model::Stack;

/// Addresses of a stack, leaf first.
#[derive(Debug)]
pub struct Chain {
    /// Those of the kernel, and those of the program behind them.
    addresses: Vec<u64>,
    in_kernel: usize,
    space: Arc<AddressSpace>,
    /// Whether it reached the limit for chains.
    cut: bool,
    /// The stack that it was named with last, and when that was.
    named: Mutex<(u64, Weak<Stack>)>,
}

/// A frame of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainFrame {
    /// Its address.
    pub address: u64,
    /// Whether it is the kernel's.
    pub in_kernel: bool,
    /// Whether the instruction at the address itself ran, and not the call before it.
    pub exact: bool,
}

impl ChainFrame {
    /// What it stands for in a space of which this is `mapped`.
    #[inline]
    pub fn place(self, mapped: &mut Mappings<'_>) -> Place {
        if self.in_kernel { Place::Kernel(self.address) } else { mapped.place(self.address) }
    }
}

impl Chain {
    /// Of `addresses`, leaf first, the first `in_kernel` of them the kernel's, the others those of a program in `space`.
    /// `cut`: whether there were more.
    pub fn new(addresses: Vec<u64>, in_kernel: usize, space: Arc<AddressSpace>, cut: bool) -> Chain {
        Chain { addresses, in_kernel, space, cut, named: Mutex::default() }
    }

    /// Its frames, leaf first. Exact are the first of all and the first of the program, where the kernel was entered.
    pub fn frames(&self) -> impl Iterator<Item = ChainFrame> + '_ {
        self.addresses.iter().enumerate().map(|(at, address)| ChainFrame {
            address: *address,
            in_kernel: at < self.in_kernel,
            exact: at == 0 || at == self.in_kernel,
        })
    }

    /// The space that the program's addresses lie in.
    pub fn space(&self) -> &AddressSpace {
        &self.space
    }

    /// Whether it reached the limit for chains.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// The stack that it was [`name`](Chain::name)d with when `when` was the same, if anybody has that still.
    pub(super) fn named(&self, when: u64) -> Option<Arc<Stack>> {
        let named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if named.0 == when { named.1.upgrade() } else { None }
    }

    /// It is named with `stack`, as long as `when` is the same. A chain that comes again need not be named again.
    pub(super) fn name(&self, when: u64, stack: &Arc<Stack>) {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        *named = (when, Arc::downgrade(stack));
    }

    /// What it stands for.
    pub fn places(&self) -> Vec<Place> {
        let mut mapped = self.space.mappings();
        let mut places: Vec<Place> = self.frames().map(|frame| frame.place(&mut mapped)).collect();
        if self.cut {
            places.push(Place::Truncated);
        }
        places
    }

    /// Memory in bytes that it takes itself; that of its space is bounded by who lends it.
    pub fn bytes(&self) -> usize {
        self.addresses.capacity() * size_of::<u64>()
    }
}
