//! A cluster: an agent a node, each with a store of its own, and one question to all of them.

use serde_json::Value;

use crate::answers::{number, text};
use crate::support::{Cgroup, Fnscope, Function, Running, poll};

const NODES: [&str; 3] = ["node-a", "node-b", "node-c"];

/// A node: its agent, its store, and the parent of its containers.
struct Node {
    scope: Fnscope,
    agent: Running,
    parent: Cgroup,
}

impl Node {
    fn start(name: &str) -> Node {
        let (scope, parent) = (Fnscope::new(), Cgroup::new());
        let path = parent.kernel_path();
        let agent = scope.agent(&["--no-docker", "--hz", "997", "--node", name, "--cgroup-parent", &path]);
        Node { scope, agent, parent }
    }

    /// Runs `count` containers of one function, and waits until each is stored.
    fn run(&self, function: &Function, count: usize) {
        for no in 1..=count {
            let child = self.parent.child(&format!("fib@1.{no}"));
            let mut command = child.command(function.path(), &["fib", "--cpu-ms", "100"]);
            let (code, said) = Running::start(&mut command).wait();
            assert_eq!(code, Some(0), "{said}");
            let is_read = |row: &Value| row["coverage_source"] == "final";
            poll("its last reading", || {
                let rows = self.scope.instances(&[]);
                (rows.len() == no && rows.iter().all(is_read)).then_some(())
            });
        }
    }
}

#[test]
fn stores_of_three_agents_are_answered_as_one() {
    let function = Function::new();
    // All of them at once, on one machine: each follows its own containers and no others'.
    let nodes = NODES.map(Node::start);
    for (node, count) in nodes.iter().zip(1..) {
        node.run(&function, count);
    }
    let scopes = nodes.map(|Node { scope, agent, .. }| {
        agent.stop_in_order();
        scope
    });
    let alone: Vec<f64> = scopes.iter().map(|scope| number(&scope.rows(&["ls"])[0], "samples")).collect();
    let folders = scopes.each_ref().map(|scope| scope.store().to_str().expect("a plain path"));
    let stores: Vec<&str> = folders.iter().flat_map(|folder| ["--store", folder]).collect();
    let ask = |question: &[&str]| scopes[0].rows(&[question, &stores].concat());

    let rows = ask(&["ls"]);
    assert_eq!((rows.len(), text(&rows[0], "function"), &rows[0]["instances"]), (1, "fib", &6.into()));
    assert_eq!(number(&rows[0], "samples"), alone.iter().sum::<f64>());
    let rows = ask(&["instances"]);
    for (node, count) in NODES.into_iter().zip(1..) {
        assert_eq!(rows.iter().filter(|row| text(row, "node") == node).count(), count, "{node}");
    }
    let rows = ask(&["hosts"]);
    assert_eq!(rows.iter().map(|row| text(row, "node")).collect::<Vec<_>>(), NODES);
    for (row, samples) in rows.iter().zip(&alone) {
        assert_eq!(number(row, "samples"), *samples, "{row:#}");
    }
    for (node, samples) in NODES.into_iter().zip(&alone) {
        let rows = ask(&["ls", "--host", node]);
        assert_eq!((rows.len(), number(&rows[0], "samples")), (1, *samples), "{node}");
    }
}
