//! What the demonstration runs.

/// One instance to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) function: &'static str,
    pub(super) revision: u32,
    pub(super) cpu_ms: u32,
    /// Whether it runs beside the others, from first to last.
    pub(super) warm: bool,
}

impl Start {
    /// Arguments of the example program.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![self.function.to_string(), "--cpu-ms".into(), self.cpu_ms.to_string()];
        if self.function == "pi" {
            arguments.extend(["--revision".into(), self.revision.to_string()]);
        }
        arguments
    }
}

/// The warm instance, then twenty cold ones of 50 to 100 ms.
pub(super) fn plan() -> Vec<Start> {
    let mut plan = vec![Start { function: "pi", revision: 1, cpu_ms: 2_000, warm: true }];
    for n in 0..20 {
        let (function, revision) = [("pi", 1), ("pi", 2), ("fib", 1), ("pi", 1), ("pi", 2)][n % 5];
        let cpu_ms = 50 + u32::try_from(n * 37 % 51).expect("below 51");
        plan.push(Start { function, revision, cpu_ms, warm: false });
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_is_what_the_help_says() {
        let plan = plan();
        assert_eq!(plan.iter().filter(|s| s.warm).count(), 1);
        let cold: Vec<_> = plan.iter().filter(|s| !s.warm).collect();
        assert_eq!(cold.len(), 20);
        assert!(cold.iter().all(|s| (50..=100).contains(&s.cpu_ms)));
        for (function, revision) in [("pi", 1), ("pi", 2), ("fib", 1)] {
            assert!(cold.iter().any(|s| (s.function, s.revision) == (function, revision)));
        }
    }
}
