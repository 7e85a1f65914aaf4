//! Records of many rings into one order of time.

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

    /// Takes out, in order of time, what happened before `horizon_ns`. Things of the same time keep the order they
    /// were added in.
    pub fn take_before(&mut self, horizon_ns: u64) -> impl Iterator<Item = (u64, T)> {
        self.waiting.sort_by_key(|(time, _)| *time);
        let ready = self.waiting.partition_point(|(time, _)| *time < horizon_ns);
        let rest = self.waiting.split_off(ready);
        std::mem::replace(&mut self.waiting, rest).into_iter()
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
        assert_eq!(order.take_before(9).map(|(_, v)| v).collect::<String>(), "abcd");
        assert_eq!(order.len(), 1);
        assert_eq!(order.take_before(u64::MAX).map(|(_, v)| v).collect::<String>(), "z");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_all_is_sorted(times in proptest::collection::vec(0u64..100, 0..200), cut in 0u64..100) {
            let mut order = Order::default();
            times.iter().for_each(|t| order.push(*t, *t));
            let mut out: Vec<u64> = order.take_before(cut).map(|(t, _)| t).collect();
            prop_assert!(out.iter().all(|t| *t < cut));
            out.extend(order.take_before(u64::MAX).map(|(t, _)| t));
            let mut sorted = times.clone();
            sorted.sort_unstable();
            prop_assert_eq!(out, sorted);
        }
    }
}
