//! Where bytes of tenants' files are parsed: in the thread that asks, or in one that has given up everything else.
//!
//! Whoever walks stacks holds rights that parsing does not need. It opens a file, hands it over, and waits: what is asked
//! for is bounded, and without it there is no walk. Not here: which rights the other thread has left (`privilege`).

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Has bytes parsed.
#[derive(Debug, Clone, Default)]
pub struct Parser {
    jobs: Option<SyncSender<Job>>,
}

type Job = Box<dyn FnOnce() + Send>;

/// What a parser in a thread of its own is asked for.
#[derive(Debug)]
pub struct Jobs {
    jobs: Receiver<Job>,
}

impl Parser {
    /// One that works in the thread that asks.
    pub fn here() -> Parser {
        Parser::default()
    }

    /// One that works in another thread: the one that runs the second.
    pub fn apart() -> (Parser, Jobs) {
        // Each of those who ask waits for its answer.
        let (sender, jobs) = sync_channel(1);
        (Parser { jobs: Some(sender) }, Jobs { jobs })
    }

    /// What `parse` gives; none where its thread is gone.
    pub fn run<T: Send + 'static>(&self, parse: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let Some(jobs) = &self.jobs else { return Some(parse()) };
        let (answer, answered) = sync_channel(1);
        let job = Box::new(move || {
            let _ = answer.send(parse());
        });
        jobs.send(job).ok()?;
        answered.recv().ok()
    }
}

impl Jobs {
    /// Parses until nobody can ask any more.
    pub fn run(self) {
        self.jobs.iter().for_each(|job| job());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_done_elsewhere_until_nobody_is_left_there() {
        let own = std::thread::current().id();
        assert_eq!(Parser::here().run(|| std::thread::current().id()), Some(own));
        let (parser, jobs) = Parser::apart();
        let thread = std::thread::spawn(move || jobs.run());
        assert_eq!(parser.run(|| std::thread::current().id()), Some(thread.thread().id()));
        assert_eq!(parser.clone().run(|| 7), Some(7));
        drop(parser);
        thread.join().unwrap();
        let (parser, jobs) = Parser::apart();
        let thread = std::thread::spawn(move || jobs.run());
        assert_eq!(parser.run(|| -> u8 { panic!("this panic is the test's") }), None);
        assert!(thread.join().is_err());
        assert_eq!(parser.run(|| 7), None);
    }
}
