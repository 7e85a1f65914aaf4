//! Records of many rings into one order of time.

/// Most places that are kept for what comes next: new ones each second would be pages that the kernel has to clear.
const KEPT: usize = 4_096;

/// Holds what has come out of the rings until nothing earlier can come any more.
#[derive(Debug)]
pub struct Order<T> {
    waiting: Vec<(u64, T)>,
}

impl<T> Default for Order<T> {
    fn default() -> Order<T> {
        Order { waiting: Vec::new() }
    }
}

impl<T> Order<T> {
    /// Adds something that happened at `time_ns`.
    pub fn push(&mut self, time_ns: u64, value: T) {
        self.waiting.push((time_ns, value));
    }

    /// How much is waiting.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing is waiting.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Moves what happened before `horizon_ns` into `ready`, in order of time. Things of the same time keep the order they
    /// were added in.
    pub fn take_before(&mut self, horizon_ns: u64, ready: &mut Vec<(u64, T)>) {
        self.waiting.sort_by_key(|(time, _)| *time);
        let before = self.waiting.partition_point(|(time, _)| *time < horizon_ns);
        ready.extend(self.waiting.drain(..before));
        keep_little(&mut self.waiting);
    }
}

/// Gives back what `buffer` once needed and does not need any more.
pub fn keep_little<T>(buffer: &mut Vec<T>) {
    if buffer.capacity() > KEPT {
        buffer.shrink_to(KEPT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_same_time_keeps_the_order_of_arrival() {
        let mut order = Order::default();
        for (time, value) in [(5, 'c'), (1, 'a'), (5, 'd'), (9, 'z'), (1, 'b')] {
            order.push(time, value);
        }
        let mut ready = Vec::new();
        order.take_before(9, &mut ready);
        assert_eq!(ready.drain(..).map(|(_, v)| v).collect::<String>(), "abcd");
        assert_eq!(order.len(), 1);
        order.take_before(u64::MAX, &mut ready);
        assert_eq!(ready.drain(..).map(|(_, v)| v).collect::<String>(), "z");
    }

    #[test]
    fn what_a_storm_needed_is_given_back() {
        let (mut order, mut ready) = (Order::default(), Vec::new());
        (0..10 * KEPT as u64).for_each(|time| order.push(time, ()));
        order.take_before(u64::MAX, &mut ready);
        assert_eq!(ready.len(), 10 * KEPT);
        ready.clear();
        keep_little(&mut ready);
        assert!(order.waiting.capacity() <= KEPT && ready.capacity() <= KEPT);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_all_is_sorted(times in proptest::collection::vec(0u64..100, 0..200), cut in 0u64..100) {
            let mut order = Order::default();
            times.iter().for_each(|t| order.push(*t, *t));
            let mut ready = Vec::new();
            order.take_before(cut, &mut ready);
            prop_assert!(ready.iter().all(|(t, _)| *t < cut));
            order.take_before(u64::MAX, &mut ready);
            let out: Vec<u64> = ready.into_iter().map(|(t, _)| t).collect();
            let mut sorted = times.clone();
            sorted.sort_unstable();
            prop_assert_eq!(out, sorted);
        }
    }
}
