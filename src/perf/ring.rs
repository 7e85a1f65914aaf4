//! One event and its ring: draining whole records, whatever the ring holds.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::record::{HEADER_BYTES, Layout, TIME_OFFSET, cgroup_offset, copied_parts, header};
use crate::sys::{RingMemory, perf_bindings as abi, perf_event_enable};

/// Largest record: its header tells its size in 16 bits.
const MAX_RECORD_BYTES: u64 = 1 << 16;

/// An open event with its mapped ring.
pub(super) struct Ring {
    event: OwnedFd,
    memory: RingMemory,
    record: Vec<u8>,
    /// Its size, and whether it was found so full since [`Ring::lost`] that a record may not have fitted.
    data_bytes: u64,
    was_full: bool,
    /// How its samples are laid out. Most copies of stacks do not fill the room that the record has for them.
    layout: Layout,
}

impl Ring {
    /// Maps the ring of `event`, whose samples are laid out so.
    pub(super) fn new(event: OwnedFd, data_bytes: usize, layout: Layout) -> io::Result<Ring> {
        let memory = RingMemory::map(event.as_fd(), data_bytes)?;
        let data_bytes = data_bytes as u64;
        Ok(Ring { event, memory, record: Vec::new(), data_bytes, was_full: false, layout })
    }

    /// How its samples are laid out.
    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    pub(super) fn enable(&self, on: bool) -> io::Result<()> {
        perf_event_enable(self.event.as_fd(), on)
    }

    /// Samples the kernel has dropped for want of room since the event was opened, where it counts them. None, too, where
    /// none can have been since this was called last: asking interrupts the CPU that is sampled.
    pub(super) fn lost(&mut self) -> Option<u64> {
        // What was read since, and what is still to be.
        let waits = self.memory.head().saturating_sub(self.memory.tail());
        self.was_full |= self.is_full(waits);
        if !std::mem::take(&mut self.was_full) {
            return None;
        }
        let mut words = [0; 16];
        let read = rustix::io::read(&self.event, &mut words).ok()?;
        if read < 16 {
            return None;
        }
        let (_, lost) = words.split_at(8);
        Some(u64::from_ne_bytes(lost.try_into().ok()?))
    }

    /// Hands out every record that is in the ring now. Returns their bytes.
    pub(super) fn drain(&mut self, mut each: impl FnMut(&[u8])) -> u64 {
        self.walk(|_, _, _| true, &mut each)
    }

    /// Hands out every record that is in the ring now but the samples that, by what tells their cgroup and by their time,
    /// nobody wants, which are not even copied. Returns how many samples there were in all.
    pub(super) fn drain_samples(
        &mut self,
        wanted: impl Fn(u64, u64) -> bool,
        mut each: impl FnMut(&[u8]),
    ) -> u64 {
        let (mut samples, layout) = (0, self.layout);
        let check = |memory: &RingMemory, position: u64, kind_size: (u32, usize)| {
            let (kind, size) = kind_size;
            if kind != abi::PERF_RECORD_SAMPLE {
                return true;
            }
            samples += 1;
            let word = |offset| word(memory, position, offset);
            let cgroup = cgroup_offset(size, layout).and_then(word);
            cgroup.zip(word(TIME_OFFSET)).is_some_and(|(id, time_ns)| wanted(id, time_ns))
        };
        self.walk(check, &mut each);
        samples
    }

    fn walk(
        &mut self,
        mut wanted: impl FnMut(&RingMemory, u64, (u32, usize)) -> bool,
        each: &mut impl FnMut(&[u8]),
    ) -> u64 {
        let end = self.memory.head();
        let begin = self.memory.tail();
        let mut position = begin;
        while position < end {
            let mut head = [0; HEADER_BYTES];
            if !self.memory.read(position, &mut head) {
                break;
            }
            let (kind, _, size) = header(head);
            // Only the kernel writes here, but a size that leads nowhere must not lead us astray: drop the rest.
            if size < HEADER_BYTES || position + size as u64 > end {
                break;
            }
            if wanted(&self.memory, position, (kind, size)) {
                let parts = (self.layout.copies && kind == abi::PERF_RECORD_SAMPLE)
                    .then(|| copied_parts(size, |offset| word(&self.memory, position, offset)))
                    .flatten();
                let read = match parts {
                    Some(parts) => self.read_copied(position, size, parts),
                    None => {
                        self.record.resize(size, 0);
                        self.memory.read(position, &mut self.record)
                    }
                };
                if read {
                    each(&self.record);
                }
            }
            position += size as u64;
        }
        // From then on nothing fits, until it is read.
        self.was_full |= self.is_full(end.saturating_sub(begin));
        self.memory.release(end);
        end.saturating_sub(begin)
    }

    /// Whether with so many bytes in it a record may not have fitted.
    fn is_full(&self, bytes: u64) -> bool {
        self.data_bytes.saturating_sub(bytes) <= MAX_RECORD_BYTES
    }

    /// Reads a record without the part of its room for the stack that holds none: as if only so much had been asked for.
    fn read_copied(&mut self, position: u64, size: usize, parts: (usize, usize, usize)) -> bool {
        let (begin, copied, end) = parts;
        let stack_end = begin + copied;
        self.record.resize(stack_end + (size - end), 0);
        let (head, tail) = self.record.split_at_mut(stack_end);
        let read = self.memory.read(position, head) && self.memory.read(position + end as u64, tail);
        if let Some(asked) = self.record.get_mut(begin - 8..begin) {
            asked.copy_from_slice(&(copied as u64).to_ne_bytes());
        }
        if copied == 0 {
            // Of nothing, the record does not tell how much it is.
            self.record.drain(begin..begin + 8);
        }
        read
    }
}

/// The word at `offset` of the record at `position`.
fn word(memory: &RingMemory, position: u64, offset: usize) -> Option<u64> {
    let mut bytes = [0; 8];
    memory.read(position.checked_add(offset as u64)?, &mut bytes).then_some(u64::from_ne_bytes(bytes))
}
