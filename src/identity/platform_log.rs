//! Lines of a platform's own log that tell what its containers are for: those of OpenWhisk's invoker.
//!
//! The invoker writes `sending initialization to ContainerId(…)` before a container is given its action, `sending
//! arguments to /namespace/[package/]action at ContainerId(…)` before each run, and the commands by which it pauses,
//! resumes and removes containers. That is the one word on actions that run inside of their proxy (Node, Java, .NET),
//! where no process is told its name. On Kubernetes a container is called by its pod.
//!
//! Pure: lines in, facts out; the file is read by whoever follows it. Promises: bounded memory for any lines, no panic.
//! A line counts only if all of its head is there, because others hold what actions answered; and only if it is whole
//! and nothing of another head stands in its message, because a transaction's id is whatever a client calls it: text
//! that is forged in one has the end of its brackets, and the component that speaks, behind it.

use std::collections::{HashMap, VecDeque};

use crate::model::Timestamp;

/// Longest line that tells anything, in bytes: those that count are far shorter.
pub const MAX_LINE_BYTES: usize = 4 << 10;
/// Most containers of which it is remembered that they are being initialised.
const MAX_INITIALISED: usize = 1_024;
/// Longest name of a container or pod, in bytes.
const MAX_CONTAINER: usize = 253;
/// Longest path of an action, in bytes: three names of 256.
const MAX_ACTION: usize = 3 * 257;
/// How long an action may take to initialise before its first run: OpenWhisk's own limits are minutes.
const INIT_US: i64 = 3_600_000_000;

/// What a line told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFact {
    /// The container's id or, on Kubernetes, the name of its pod.
    pub container: String,
    /// When it became so, by the clock of who wrote the log.
    pub at: Timestamp,
    /// When it was written, by the same clock.
    pub written: Timestamp,
    /// Whether it is the first run that the log tells of since the container was initialised: a name may be another
    /// container's by then.
    pub first: bool,
    /// What.
    pub what: LogTold,
}

/// What became of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTold {
    /// It runs this action, `/namespace/[package/]action`, since it was initialised for it.
    Runs(String),
    /// It was paused (`true`), or goes on.
    Paused(bool),
    /// It is being removed.
    Removed,
}

/// Reads the lines of one log.
#[derive(Debug, Default)]
pub struct InvokerLog {
    /// Since when containers are initialised that have not run yet; and which of them came first.
    initialised: HashMap<String, Timestamp>,
    order: VecDeque<String>,
    /// Whether the last line of stdout, of stderr was a part, so that the next is none that begins.
    in_part: [bool; 2],
    last: Option<Timestamp>,
}

impl InvokerLog {
    /// When the last line was written, by the clock of who wrote it: of any line, whatever it tells.
    pub fn last_written(&self) -> Option<Timestamp> {
        self.last
    }

    /// What `line` tells, without its end; none of most lines.
    pub fn line(&mut self, line: &[u8]) -> Option<LogFact> {
        let is_whole = line.len() <= MAX_LINE_BYTES;
        // What is cut may end in half a character.
        let line = String::from_utf8_lossy(line.get(..MAX_LINE_BYTES).unwrap_or(line));
        let line = self.without_cri(&line)?;
        let Head { written, component, message } = Head::of(line)?;
        self.last = Some(written);
        let message = unforged(message).filter(|_| is_whole)?;
        if component.ends_with("Container") {
            if let Some(rest) = message.strip_prefix("sending initialization to ") {
                self.initialises(container_of(rest)?, written);
                return None;
            }
            let (action, rest) =
                message.strip_prefix("sending arguments to ")?.split_once(" at ContainerId(")?;
            let container = named(rest.split_once(')')?.0)?;
            if !action.starts_with('/') || action.len() > MAX_ACTION {
                return None;
            }
            let since = self.forget(container);
            let first = since.is_some();
            let since = since.filter(|since| (0..INIT_US).contains(&written.since_us(*since)));
            return Some(LogFact {
                container: container.into(),
                at: since.unwrap_or(written),
                written,
                first,
                what: LogTold::Runs(action.into()),
            });
        }
        if component.ends_with("RuncClient") || component.contains("DockerClient") {
            let mut words = message.strip_prefix("running ")?.split(' ');
            let (_program, command) = (words.next()?, words.next()?);
            let (what, container) = match command {
                "pause" => (LogTold::Paused(true), words.next()?),
                "unpause" | "resume" => (LogTold::Paused(false), words.next()?),
                "rm" => (LogTold::Removed, words.find(|word| !word.starts_with('-'))?),
                _ => return None,
            };
            let container = named(container)?;
            if what == LogTold::Removed {
                self.forget(container);
            }
            return Some(LogFact { container: container.into(), at: written, written, first: false, what });
        }
        None
    }

    /// The line without what a container runtime of Kubernetes puts before it: `<time> stdout F `. None for a part of a
    /// long line: what such a part begins with may be anybody's.
    fn without_cri<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        if line.starts_with('[') {
            return Some(line);
        }
        let mut parts = line.splitn(4, ' ');
        let (_time, stream, tag, rest) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let in_part = match stream {
            "stdout" => &mut self.in_part[0],
            "stderr" => &mut self.in_part[1],
            _ => return None,
        };
        let is_part = tag.split(':').next() == Some("P");
        let was_part = std::mem::replace(in_part, is_part);
        (!is_part && !was_part).then_some(rest)
    }

    fn initialises(&mut self, container: &str, at: Timestamp) {
        if self.initialised.insert(container.into(), at).is_none() {
            self.order.push_back(container.into());
        }
        while self.order.len() > MAX_INITIALISED {
            if let Some(oldest) = self.order.pop_front() {
                self.initialised.remove(&oldest);
            }
        }
    }

    fn forget(&mut self, container: &str) -> Option<Timestamp> {
        let since = self.initialised.remove(container)?;
        self.order.retain(|known| known != container);
        Some(since)
    }
}

/// `[time] [level] [#tid_…] [component] message`. An activation that another has begun (of a sequence, a composition) has
/// its own transaction behind that one's; where there is none, a logger may leave those brackets empty.
struct Head<'a> {
    written: Timestamp,
    component: &'a str,
    message: &'a str,
}

impl<'a> Head<'a> {
    fn of(line: &'a str) -> Option<Head<'a>> {
        let (time, rest) = bracketed(line)?;
        let (level, rest) = bracketed(rest)?;
        let (transaction, rest) = bracketed(rest)?;
        if level != "INFO" || !transaction.starts_with("#tid_") {
            return None;
        }
        let further = bracketed(rest).filter(|(own, _)| own.is_empty() || own.starts_with("#tid_"));
        let (component, message) = bracketed(further.map_or(rest, |(_, rest)| rest))?;
        let time: jiff::Timestamp = time.parse().ok()?;
        Some(Head { written: Timestamp(time.as_microsecond()), component, message })
    }
}

/// What stands in brackets at the begin, and what comes behind them.
fn bracketed(text: &str) -> Option<(&str, &str)> {
    let (inside, rest) = text.strip_prefix('[')?.split_once(']')?;
    Some((inside, rest.strip_prefix(' ').unwrap_or(rest)))
}

/// `message` without the marker at its end, which times it; none if brackets are left in it. Those of lines that tell
/// something have none, and what a client has put into the head cannot be without.
fn unforged(message: &str) -> Option<&str> {
    let marked = message.strip_suffix(']').and_then(|text| text.rsplit_once(" [marker:"));
    let text = match marked {
        Some((text, marker)) if !marker.contains(['[', ']']) => text,
        _ => message,
    };
    (!text.contains(['[', ']'])).then_some(text)
}

fn container_of(text: &str) -> Option<&str> {
    named(text.strip_prefix("ContainerId(")?.split_once(')')?.0)
}

fn named(name: &str) -> Option<&str> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    (!name.is_empty() && name.len() <= MAX_CONTAINER && name.bytes().all(allowed)).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "3c4ee07011e447f39dca77226605e002b02ba95b30d11805f3c13a55c1c1bb11";

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    /// As OpenWhisk's standalone mode wrote them.
    fn recorded() -> Vec<String> {
        let client = "[#tid_sid_invokerNanny] [DockerClientWithFileAccess]";
        let tid = "[#tid_kB9RyCocBItsnSJV2Twlye2wh5Oa4yeN]";
        vec![
            format!("[2022-04-15T06:04:43.328Z] [INFO] {tid} [DockerClientWithFileAccess] running /usr/bin/docker run -d --cpu-shares 25 --memory 128m --memory-swap 128m --network bridge -e __OW_API_HOST=http://172.17.0.1:3233 --name wsk0_3_alftest_hello --pids-limit 1024 --cap-drop NET_RAW --cap-drop NET_ADMIN --ulimit nofile=1024:1024 --log-driver json-file openwhisk/python3action:latest (timeout: 1 minute) [marker:invoker_docker.run_start:4243]"),
            format!("[2022-04-15T06:04:43.685Z] [INFO] {tid} [DockerClientWithFileAccess]  [marker:invoker_docker.run_finish:4600:357]"),
            format!("[2022-04-15T06:04:43.736Z] [INFO] {tid} [DockerContainer] sending initialization to ContainerId({ID}) ContainerAddress(172.17.0.4,8080) [marker:invoker_activationInit_start:4650]"),
            format!("[2022-04-15T06:04:44.159Z] [INFO] {tid} [DockerContainer] initialization result: ok [marker:invoker_activationInit_finish:5074:422]"),
            "[2022-04-15T06:04:44.161Z] [INFO] [#tid_sid_unknown] [ContainerProxy] resending up to 0 from 0 buffered jobs".into(),
            format!("[2022-04-15T06:04:44.162Z] [INFO] {tid} [DockerContainer] sending arguments to /alftest/hello at ContainerId({ID}) ContainerAddress(172.17.0.4,8080) [marker:invoker_activationRun_start:5076]"),
            format!("[2022-04-15T06:04:44.166Z] [INFO] {tid} [DockerContainer] running result: ok [marker:invoker_activationRun_finish:5081:4]"),
            format!("[2022-04-15T06:04:44.175Z] [INFO] {tid} [ExtendedDockerClient] running /usr/bin/docker logs {ID} --since 1650002683 --until 1650002685 --timestamps (timeout: 2 seconds) [marker:invoker_docker.logs_start:5090]"),
            "[2022-04-15T06:04:44.305Z] [INFO] Message [org.apache.openwhisk.core.loadBalancer.InvocationFinishedMessage] to Actor[akka://standalone-actor-system/user/$g#2142173049] was unhandled. [1] dead letters encountered.".into(),
            format!("[2022-04-15T06:04:44.348Z] [INFO] {client} running /usr/bin/docker pause {ID} (timeout: 10 seconds) [marker:invoker_docker.pause_start:88517]"),
            format!("[2022-04-15T06:05:10.001Z] [INFO] {client} running /usr/bin/docker unpause {ID} (timeout: 10 seconds) [marker:invoker_docker.unpause_start:9]"),
            format!("[2022-04-15T06:15:10.001Z] [INFO] {client} running /usr/bin/docker rm -f {ID} (timeout: 10 seconds) [marker:invoker_docker.rm_start:9]"),
        ]
    }

    #[test]
    fn a_life_that_an_invoker_has_logged_is_read() {
        let mut log = InvokerLog::default();
        let facts: Vec<LogFact> = recorded().iter().filter_map(|line| log.line(line.as_bytes())).collect();
        assert!(facts.iter().all(|fact| fact.container == ID), "{facts:#?}");
        let told: Vec<_> = facts.iter().map(|fact| (fact.at, fact.what.clone())).collect();
        let expected = [
            (at("2022-04-15T06:04:43.736Z"), LogTold::Runs("/alftest/hello".into())),
            (at("2022-04-15T06:04:44.348Z"), LogTold::Paused(true)),
            (at("2022-04-15T06:05:10.001Z"), LogTold::Paused(false)),
            (at("2022-04-15T06:15:10.001Z"), LogTold::Removed),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn on_kubernetes_a_pod_is_named_and_lines_have_a_head_of_the_runtimes() {
        let pod = "wskowdev-invoker-00-256-prewarm-nodejs14";
        let sends = format!(
            "[2023-02-24T14:40:42.027Z] [INFO] [#tid_7reXCmR4fHTAwdwlWCMpJ7Tm9tShbiuD] [KubernetesContainer] sending arguments to /guest/helloWorldAction at ContainerId({pod}) ContainerAddress(10.42.0.191,8080) [marker:invoker_activationRun_start:1211]"
        );
        let mut log = InvokerLog::default();
        for line in [sends.clone(), format!("2023-02-24T14:40:42.027812345Z stdout F {sends}")] {
            let fact = log.line(line.as_bytes()).unwrap();
            assert_eq!((fact.container.as_str(), fact.at), (pod, at("2023-02-24T14:40:42.027Z")));
            assert_eq!(fact.what, LogTold::Runs("/guest/helloWorldAction".into()));
        }
        // A long line comes in parts, of which none but the first begins one.
        for (head, told) in
            [("stdout P", false), ("stdout P", false), ("stdout F", false), ("stdout F", true)]
        {
            let line = format!("2023-02-24T14:40:42.027812345Z {head} {sends}");
            assert_eq!(log.line(line.as_bytes()).is_some(), told, "{head}");
        }
        assert!(log.line(format!("2023-02-24T14:40:42Z stdin F {sends}").as_bytes()).is_none());
    }

    #[test]
    fn what_an_action_answers_tells_nothing() {
        let sends = "sending arguments to /victim/action at ContainerId(a) ContainerAddress(1,8080)";
        for line in [
            format!("[2022-04-15T06:04:44.166Z] [INFO] [#tid_x] [DockerContainer] running result: {sends}"),
            format!("[2022-04-15T06:04:44.166Z] [INFO] [#tid_x] [MessagingActiveAck] {sends}"),
            format!("[2022-04-15T06:04:44.166Z] [ERROR] [#tid_x] [DockerContainer] {sends}"),
            format!("[2022-04-15T06:04:44.166Z] [INFO] [x] [DockerContainer] {sends}"),
            format!("[INFO] [#tid_x] [DockerContainer] {sends}"),
            sends.into(),
            "[2022-04-15T06:04:44.166Z] [INFO] [#tid_x] [DockerContainer] sending arguments to  at ContainerId(a) ".into(),
            "[2022-04-15T06:04:44.166Z] [INFO] [#tid_x] [DockerContainer] sending arguments to /a/b at ContainerId(../a) ".into(),
            "[2022-04-15T06:04:44.166Z] [INFO] [#tid_x] [RuncClient] running runc pause".into(),
        ] {
            assert_eq!(InvokerLog::default().line(line.as_bytes()), None, "{line}");
        }
    }

    /// The line of a component that tells nothing, or of one that tells something, in a transaction called `id`.
    fn of_client(id: &str, component: &str, message: &str) -> String {
        format!("[2022-04-15T06:04:44.166Z] [INFO] [#tid_{id}] [{component}] {message}")
    }

    #[test]
    fn what_a_client_calls_its_transaction_tells_nothing() {
        let sends = "[DockerContainer] sending arguments to /victim/f at ContainerId(wskowdev-invoker-00-3-prewarm-nodejs20) ";
        let real = [
            ("MessagingActiveAck", "posted completion of activation 3c4e"),
            ("DockerClientWithFileAccess", " [marker:invoker_docker.run_finish:4600:357]"),
            ("DockerClientWithFileAccess", ""),
            ("DockerContainer", "sending initialization to ContainerId(c) ContainerAddress(1,8080)"),
            ("KubernetesContainer", "running result: ok [marker:invoker_activationRun_finish:5081:4]"),
        ];
        let pause = format!("x] [RuncClient] running runc pause {ID}");
        let remove = format!("x] [DockerClient] running docker rm -f {ID} [marker:x");
        let long = format!("x] {sends}{}", "x".repeat(MAX_LINE_BYTES));
        let forged = [
            format!("x] {sends}"),
            format!("x] {sends}[marker:a:1] "),
            format!("x] {sends} [marker:a:1"),
            format!("x] [#tid_y] {sends}"),
            format!("x] [] {sends}"),
            format!("x] [#tid_y] [] {sends}"),
            "x] [DockerContainer".into(),
            pause,
            remove,
            long,
        ];
        for id in &forged {
            for (component, message) in real {
                let line = of_client(id, component, message);
                assert_eq!(InvokerLog::default().line(line.as_bytes()), None, "{line}");
                let line = format!("2023-02-24T14:40:42.027812345Z stdout F {line}");
                assert_eq!(InvokerLog::default().line(line.as_bytes()), None, "{line}");
            }
        }
        // Nor can it keep a container from being named: the line of another transaction tells.
        let mut log = InvokerLog::default();
        assert_eq!(log.line(of_client(&forged[0], "MessagingActiveAck", "x").as_bytes()), None);
        assert_eq!(log.last_written(), Some(at("2022-04-15T06:04:44.166Z")), "a time is a time");
        let honest = of_client("y", "DockerContainer", "sending arguments to /g/a at ContainerId(c) x");
        assert!(log.line(honest.as_bytes()).is_some());
    }

    #[test]
    fn an_activation_that_another_has_begun_is_read() {
        let sends = "sending arguments to /guest/second at ContainerId(c) ContainerAddress(1,8080) [marker:invoker_activationRun_start:1211]";
        for (between, told) in [
            ("", true),
            ("[] ", true),
            ("[#tid_child] ", true),
            ("[#tid_a] [#tid_b] ", false),
            ("[x] ", false),
        ] {
            let line =
                format!("[2022-04-15T06:04:44.166Z] [INFO] [#tid_root] {between}[DockerContainer] {sends}");
            let fact = InvokerLog::default().line(line.as_bytes());
            let expected = told.then(|| LogTold::Runs("/guest/second".into()));
            assert_eq!(fact.map(|fact| fact.what), expected, "{line}");
        }
    }

    #[test]
    fn the_first_run_since_a_container_was_initialised_is_told_as_such() {
        let mut log = InvokerLog::default();
        let mut line = |message: &str| log.line(of_client("x", "KubernetesContainer", message).as_bytes());
        let runs = "sending arguments to /g/a at ContainerId(pod) x";
        assert_eq!(line(runs).map(|fact| fact.first), Some(false), "who knows since when");
        assert!(line("sending initialization to ContainerId(pod) x").is_none());
        assert_eq!(line(runs).map(|fact| fact.first), Some(true));
        assert_eq!(line(runs).map(|fact| fact.first), Some(false));
    }

    #[test]
    fn so_many_that_never_run_are_forgotten() {
        let mut log = InvokerLog::default();
        let line = |second: usize, id: usize| {
            format!(
                "[2022-04-15T06:{:02}:{:02}.000Z] [INFO] [#tid_x] [DockerContainer] sending initialization to ContainerId(c{id}) x",
                second / 60,
                second % 60
            )
        };
        for id in 0..3 * MAX_INITIALISED {
            assert_eq!(log.line(line(0, id).as_bytes()), None);
        }
        assert_eq!((log.initialised.len(), log.order.len()), (MAX_INITIALISED, MAX_INITIALISED));
        let runs = "[2022-04-15T06:00:02.000Z] [INFO] [#tid_x] [DockerContainer] sending arguments to /a/b at ContainerId(c0) x";
        assert_eq!(log.line(runs.as_bytes()).map(|fact| fact.at), Some(at("2022-04-15T06:00:02Z")));
    }

    proptest! {
        #[test]
        fn a_transaction_called_anything_makes_nobody_say_anything_else(
            id in prop::collection::vec(
                prop_oneof![
                    "[ -~]{0,8}",
                    prop::sample::select(vec![
                        "] ",
                        "[",
                        "[] ",
                        "[#tid_y] ",
                        "[DockerContainer] ",
                        "[RuncClient] ",
                        "sending arguments to /v/f at ContainerId(p) ",
                        "running runc pause p",
                        " [marker:a:1",
                    ]).prop_map(str::to_owned),
                ],
                0..8,
            ).prop_map(|parts| parts.concat()),
        ) {
            for (component, message, says) in [
                ("MessagingActiveAck", "posted completion", None),
                ("DockerClient", " [marker:invoker_docker.run_finish:4600:357]", None),
                ("RuncClient", "", None),
                (
                    "DockerContainer",
                    "sending arguments to /g/a at ContainerId(c) x [marker:a:1]",
                    Some(("c", LogTold::Runs("/g/a".into()))),
                ),
            ] {
                let fact = InvokerLog::default().line(of_client(&id, component, message).as_bytes());
                let told = fact.as_ref().map(|fact| (fact.container.as_str(), fact.what.clone()));
                prop_assert!(told.is_none() || told == says, "{told:?}");
            }
        }

        #[test]
        fn any_lines_give_bounded_facts(
            lines in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..200),
                    "(2022-04-15T06:04:44Z (stdout|stderr) [PF] )?\\[2022-04-15T06:04:4[0-9].1Z\\] \\[INFO\\] \\[#tid_x\\] \\[(DockerContainer|RuncClient|DockerClient)\\] (sending (arguments to /g/é|initialization to)|running runc (pause|rm|resume)) ?(at )?(ContainerId\\()?[ab\\-é]{0,3}\\)?".prop_map(String::into_bytes),
                ],
                0..40,
            )
        ) {
            let mut log = InvokerLog::default();
            for fact in lines.iter().filter_map(|line| log.line(line)) {
                prop_assert!(named(&fact.container).is_some() && fact.at <= fact.written);
                if let LogTold::Runs(action) = fact.what {
                    prop_assert!(action.starts_with('/') && action.len() <= MAX_ACTION);
                }
            }
            prop_assert!(log.initialised.len() <= MAX_INITIALISED && log.order.len() == log.initialised.len());
        }
    }
}
