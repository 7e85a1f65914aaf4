//! Threads by number: who a sample ran as, told once however many samples it has.

use std::collections::HashMap;
use std::sync::Arc;

/// A thread of an instance under one name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Task {
    /// Process, as the host saw it.
    pub pid: u32,
    /// Thread, as the host saw it.
    pub tid: u32,
    /// Its name at that time.
    pub comm: Arc<str>,
}

/// Tasks in the making.
#[derive(Debug, Default)]
pub struct TaskTable {
    tasks: Vec<Task>,
    numbers: HashMap<Task, u32>,
}

impl From<Vec<Task>> for TaskTable {
    fn from(tasks: Vec<Task>) -> TaskTable {
        let numbers = tasks.iter().cloned().zip(0..).collect();
        TaskTable { tasks, numbers }
    }
}

impl TaskTable {
    /// The number of `task`, a new one for a task that was not seen before.
    pub fn number(&mut self, task: Task) -> u32 {
        if let Some(number) = self.numbers.get(&task) {
            return *number;
        }
        let number = u32::try_from(self.tasks.len()).expect("memory ends long before 2^32 threads");
        self.tasks.push(task.clone());
        self.numbers.insert(task, number);
        number
    }

    /// The tasks in the order of their numbers.
    pub fn into_tasks(self) -> Vec<Task> {
        self.tasks
    }
}
