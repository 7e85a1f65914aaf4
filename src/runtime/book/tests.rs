//! The order of what is told, against every order of what is heard.

mod unanswered;

use super::*;

fn id(name: &str) -> ContainerId {
    ContainerId(name.into())
}

fn container(name: &str, env: &[&str]) -> Container {
    Container {
        runtime: "docker".into(),
        id: name.into(),
        env: env.iter().map(ToString::to_string).collect(),
        ..Container::default()
    }
}

fn event(name: &str, action: Action, at_us: i64) -> Event {
    let exit_code = (action == Action::Die).then_some(7);
    let described = container(name, &[]);
    Event {
        id: id(name),
        action,
        at: Timestamp(at_us),
        time_ns: at_us * 1000,
        pid: None,
        exit_code,
        described,
        is_sketch: false,
    }
}

/// A container with environment that runs since 15, as pid 42.
fn running(name: &str) -> Inspected {
    Inspected {
        container: container(name, &["FN_FN_ID=1"]),
        running: true,
        pid: Some(Pid(42)),
        started_at: Some(Timestamp(15)),
        ..Inspected::default()
    }
}

/// The same after it ended at 25 with status 3.
fn ended(name: &str) -> Inspected {
    Inspected {
        running: false,
        pid: None,
        finished_at: Some(Timestamp(25)),
        exit_code: Some(3),
        ..running(name)
    }
}

fn listed(name: &str, life: Life) -> Listed {
    Listed { id: id(name), container: container(name, &[]), life, inspected: None }
}

/// A book, and what it told in short.
#[derive(Default)]
struct Scene {
    book: Book,
    told: Vec<String>,
}

impl Scene {
    fn event(&mut self, name: &str, action: Action, at_us: i64) -> &mut Scene {
        self.hear(event(name, action, at_us))
    }

    fn hear(&mut self, event: Event) -> &mut Scene {
        self.book.event(event, &mut |event| self.told.push(short(&event)));
        self
    }

    fn list(&mut self, list: &[Listed], mark: Mark) -> &mut Scene {
        self.book.listed(list.to_vec(), mark, &mut |event| self.told.push(short(&event)));
        self
    }

    fn asks(&mut self) -> Vec<Ask> {
        std::iter::from_fn(|| self.book.next_ask()).collect()
    }

    fn answer(&mut self, ask: &Ask, answer: &Answer) -> &mut Scene {
        self.book.answered(ask, answer.clone(), &mut |event| self.told.push(short(&event)));
        self
    }

    fn answer_all(&mut self, answer: &Answer) -> &mut Scene {
        for ask in self.asks() {
            self.answer(&ask, answer);
        }
        self
    }

    fn break_off(&mut self) -> &mut Scene {
        self.book.broke(&mut |event| self.told.push(short(&event)));
        self
    }

    fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }
}

fn short(event: &ContainerEvent) -> String {
    match event {
        ContainerEvent::Known(container) => {
            format!("{} known{}", container.id, ["", "+env"][container.env.len().min(1)])
        }
        ContainerEvent::Started { id, pid, at } => {
            format!("{id} started {:?} {:?}", pid.map(|p| p.0), at.map(|t| t.0))
        }
        ContainerEvent::Exited { id, exit_code, oom, at } => {
            format!("{id} exited {exit_code:?}{} {:?}", if *oom { " oom" } else { "" }, at.map(|t| t.0))
        }
        ContainerEvent::Ready { id, at } => format!("{id} ready {}", at.0),
        ContainerEvent::Paused { id, at, paused } => format!("{id} paused {paused} {}", at.0),
        ContainerEvent::Gone { id, .. } => format!("{id} gone"),
        _ => unreachable!("not the book's to tell"),
    }
}

fn inspected(inspected: Inspected) -> Answer {
    Answer::Inspected(Box::new(inspected))
}

#[test]
fn a_life_is_told_in_order_and_an_end_waits_for_nothing_but_its_own_answer() {
    let mut scene = Scene::default();
    assert_eq!(scene.event("a", Action::Create, 10).told(), ["a known"]);
    scene.answer_all(&inspected(Inspected { running: false, ..running("a") }));
    assert_eq!(scene.told(), ["a known+env"]);
    scene.event("a", Action::Start, 20).answer_all(&inspected(running("a")));
    assert_eq!(scene.told(), ["a started Some(42) Some(15)"]);
    scene.event("a", Action::Die, 30).answer_all(&inspected(ended("a")));
    assert_eq!(scene.told(), ["a exited Some(3) Some(25)"]);
    assert_eq!(scene.event("a", Action::Destroy, 40).told(), ["a gone"]);
    assert!(scene.book.entries.is_empty());
}

#[test]
fn answers_may_come_in_any_order() {
    let mut scene = Scene::default();
    scene.event("a", Action::Create, 10).event("a", Action::Start, 20).event("a", Action::Die, 30);
    scene.event("a", Action::Destroy, 40).event("b", Action::Create, 41);
    let asks = scene.asks();
    scene.answer(&asks[2], &inspected(ended("a"))).answer(&asks[1], &inspected(running("a")));
    assert_eq!(scene.told(), ["a known", "b known"]);
    scene.answer(&asks[3], &inspected(running("b")));
    assert_eq!(scene.told(), ["b known+env"]);
    scene.answer(&asks[0], &Answer::Failed);
    let told = ["a known+env", "a started Some(42) Some(15)", "a exited Some(3) Some(25)", "a gone"];
    assert_eq!(scene.told(), told);
}

#[test]
fn what_is_gone_before_it_is_asked_is_told_by_its_events() {
    let mut scene = Scene::default();
    scene.event("a", Action::Create, 10).event("a", Action::Start, 20).event("a", Action::Oom, 25);
    scene.event("a", Action::Die, 30).event("a", Action::Destroy, 40).answer_all(&Answer::Missing);
    let told = ["a known", "a started None Some(20)", "a exited Some(7) oom Some(30)", "a gone"];
    assert_eq!(scene.told(), told);
}

#[test]
fn an_inspection_of_another_run_is_not_taken_for_this_one() {
    let mut scene = Scene::default();
    // It was restarted before it could be asked about the first run.
    let again =
        Inspected { started_at: Some(Timestamp(50)), finished_at: Some(Timestamp(30)), ..running("a") };
    scene.event("a", Action::Start, 20).event("a", Action::Die, 31).event("a", Action::Start, 51);
    scene.answer_all(&inspected(again));
    let told = [
        "a known",
        "a known+env",
        "a started None Some(20)",
        "a exited Some(7) Some(31)",
        "a started Some(42) Some(50)",
    ];
    assert_eq!(scene.told(), told);
}

#[test]
fn an_exit_code_that_a_label_shadows_is_not_believed() {
    let mut scene = Scene::default();
    scene.hear(Event { exit_code: Some(99), ..event("a", Action::Create, 10) });
    scene.hear(Event { exit_code: Some(99), ..event("a", Action::Die, 30) }).answer_all(&Answer::Missing);
    assert_eq!(scene.told(), ["a known", "a exited None Some(30)"]);
    let forged = Inspected { forges_exit_code: true, ..running("b") };
    scene.event("b", Action::Start, 20).answer_all(&inspected(forged));
    scene.hear(Event { exit_code: Some(99), ..event("b", Action::Die, 30) }).answer_all(&Answer::Failed);
    assert_eq!(scene.told().last().map(String::as_str), Some("b exited None Some(30)"));
}

#[test]
fn an_event_that_is_delivered_twice_is_told_once() {
    let mut scene = Scene::default();
    scene.event("a", Action::Start, 20).event("a", Action::Start, 20).answer_all(&inspected(running("a")));
    assert_eq!(scene.told(), ["a known", "a known+env", "a started Some(42) Some(15)"]);
    scene.event("a", Action::Destroy, 40).event("a", Action::Destroy, 40);
    assert_eq!(scene.told(), ["a gone"]);
}

#[test]
fn the_list_tells_everything_that_exists() {
    let mut scene = Scene::default();
    let mark = scene.book.mark();
    let list = [
        listed("r", Life::Running),
        listed("e", Life::Ended),
        listed("c", Life::Unclear),
        listed("m", Life::Unclear),
    ];
    assert_eq!(scene.list(&list, mark).told(), ["e known"]);
    assert!(!scene.book.is_settled());
    for ask in scene.asks() {
        let answer = match &*ask.id.0 {
            "r" => inspected(running("r")),
            "c" => inspected(Inspected { started_at: None, ..ended("c") }),
            _ => Answer::Missing,
        };
        scene.answer(&ask, &answer);
    }
    assert!(scene.book.is_settled());
    assert_eq!(scene.told(), ["r known+env", "r started Some(42) Some(15)", "c known+env"]);
    // Nothing new: nothing to tell, and nothing to ask about what is known.
    let mark = scene.book.mark();
    scene.list(&[list[0].clone(), list[1].clone()], mark);
    assert_eq!((scene.told(), scene.asks()), (vec!["c gone".into()], vec![]));
}

#[test]
fn after_a_break_the_list_tells_what_happened_meanwhile() {
    let mut scene = Scene::default();
    let mark = scene.book.mark();
    let names = ["same", "ended", "gone", "again"];
    scene.list(&names.map(|name| listed(name, Life::Running)), mark);
    for ask in scene.asks() {
        scene.answer(&ask, &inspected(running(&ask.id.0)));
    }
    scene.event("open", Action::Start, 20).told();
    scene.break_off();
    assert_eq!(scene.told(), ["open started None Some(20)"]);
    let mark = scene.book.mark();
    let list = [listed("same", Life::Running), listed("ended", Life::Ended), listed("again", Life::Running)];
    scene.list(&list, mark);
    let mut gone = scene.told();
    gone.sort();
    assert_eq!(gone, ["gone gone", "open gone"]);
    for ask in scene.asks() {
        let answer = match &*ask.id.0 {
            "ended" => ended("ended"),
            "again" => Inspected { started_at: Some(Timestamp(99)), pid: Some(Pid(43)), ..running("again") },
            other => running(other),
        };
        scene.answer(&ask, &inspected(answer));
    }
    let told = [
        "same known+env",
        "same started Some(42) Some(15)",
        "ended known+env",
        "ended exited Some(3) Some(25)",
        "again known+env",
        "again exited None None",
        "again started Some(43) Some(99)",
    ];
    assert_eq!(scene.told(), told);
}

#[test]
fn a_list_does_not_undo_what_happened_after_it_was_asked_for() {
    let mut scene = Scene::default();
    let mark = scene.book.mark();
    scene
        .event("new", Action::Create, 10)
        .answer_all(&inspected(Inspected { running: false, ..running("new") }));
    scene.event("old", Action::Start, 11).answer_all(&inspected(running("old")));
    scene.event("old", Action::Destroy, 12).told();
    scene.list(&[listed("old", Life::Running)], mark).answer_all(&Answer::Missing);
    assert_eq!(scene.told(), [""; 0]);
    assert!(scene.book.entries.contains_key(&id("new")) && !scene.book.entries.contains_key(&id("old")));
}

#[test]
fn questions_that_nobody_answers_are_bounded() {
    let mut scene = Scene::default();
    for n in 0..MAX_WAITING + 10 {
        scene.event(&format!("c{n}"), Action::Create, 10);
    }
    assert_eq!(scene.asks().len(), MAX_WAITING);
    assert_eq!(scene.told().len(), MAX_WAITING + 10);
}

#[test]
fn health_and_pauses_are_told_without_asking_and_in_order() {
    let mut scene = Scene::default();
    scene.event("a", Action::Create, 10).answer_all(&inspected(Inspected { running: false, ..running("a") }));
    scene.told();
    scene.event("a", Action::Start, 20).event("a", Action::Healthy, 25).event("a", Action::Pause, 26);
    assert_eq!(scene.told(), Vec::<String>::new(), "its start comes first");
    let asks = scene.asks();
    assert_eq!(asks.len(), 1);
    scene.answer(&asks[0], &Answer::Failed);
    assert_eq!(scene.told()[1..], ["a ready 25", "a paused true 26"]);
    assert_eq!(scene.event("a", Action::Unpause, 27).told(), ["a paused false 27"]);
}

proptest::proptest! {
    /// Whatever is heard in whatever order: a container is known before it starts and starts before it ends, as long
    /// as its events come in order; nothing panics; and an empty list after a break leaves nothing behind.
    #[test]
    fn the_order_holds_for_any_order_of_answers(moves in proptest::collection::vec((0..6u8, 0..3u8, 0..8usize), 0..120)) {
        let mut scene = Scene::default();
        let mut asks: Vec<Ask> = vec![];
        // Where each container's own life is: absent, created, running, ended.
        let mut lives = [0u8; 3];
        // Ids are never used again: a container of another life is another container.
        let mut generations = [0u32; 3];
        for (at, (kind, which, pick)) in moves.into_iter().enumerate() {
            let name = format!("{which}.{}", generations[usize::from(which)]);
            let name = name.as_str();
            let at = i64::try_from(at).expect("few moves") + 100;
            let life = &mut lives[usize::from(which)];
            match (kind, *life) {
                (0, 0) => { scene.event(name, Action::Create, at); *life = 1; }
                (0, 1 | 3) => { scene.event(name, Action::Start, at); *life = 2; }
                (0, 2) => { scene.event(name, Action::Die, at); *life = 3; }
                (1, 1 | 3) => { scene.event(name, Action::Destroy, at); *life = 0; generations[usize::from(which)] += 1; }
                (2, 1..) => { scene.event(name, Action::Rename, at); }
                (3 | 4, _) => {
                    asks.extend(scene.asks());
                    if !asks.is_empty() {
                        let ask = asks.swap_remove(pick % asks.len());
                        let answer = match pick % 3 {
                            0 => Answer::Missing,
                            1 => Answer::Failed,
                            _ => inspected(running(&ask.id.0)),
                        };
                        scene.answer(&ask, &answer);
                    }
                }
                (5, _) => { scene.break_off(); }
                _ => {}
            }
        }
        scene.break_off();
        let mut states: HashMap<&str, &str> = HashMap::new();
        for told in &scene.told {
            let (name, told) = told.split_once(' ').expect("a name and a verb");
            let (verb, _) = told.split_once([' ', '+']).unwrap_or((told, ""));
            let state = states.entry(name).or_default();
            let fits = matches!(
                (*state, verb),
                ("", "known") | ("known" | "exited", "known" | "started" | "gone") | ("started", "known" | "exited")
            );
            proptest::prop_assert!(fits, "{state} then {told} in {:?}", scene.told);
            if (*state, verb) != ("started", "known") {
                *state = verb;
            }
        }
        let mark = scene.book.mark();
        scene.list(&[], mark);
        proptest::prop_assert!(scene.book.entries.is_empty() && scene.book.is_settled());
    }
}

/// One that was made at `made_us` under a name that is used again; `tag` tells it from others.
fn made(tag: &str, made_us: i64) -> Inspected {
    let created_at = Some(Timestamp(made_us));
    Inspected {
        created_at,
        container: Container { image: Some(tag.into()), created_at, ..container("f", &["A=1"]) },
        started_at: None,
        ..running("f")
    }
}

/// What was told of images and ends, in order.
fn lives(scene: &mut Scene, act: impl FnOnce(&mut Book, &mut dyn FnMut(ContainerEvent))) -> Vec<String> {
    let mut told = Vec::new();
    act(&mut scene.book, &mut |event| {
        told.push(match &event {
            ContainerEvent::Known(container) => {
                let (image, made) = (container.image.clone().unwrap_or_default(), container.created_at);
                format!("{image}@{}", made.map_or(0, |made| made.0))
            }
            other => short(other),
        });
    });
    told
}

fn create(tag: &str, at_us: i64) -> Event {
    let mut event = event("f", Action::Create, at_us);
    event.described.image = Some(tag.into());
    event.described.created_at = Some(Timestamp(at_us));
    event
}

#[test]
fn a_name_that_is_used_again_is_another_container() {
    // All of the first life and the second one's begin are heard before anything is answered.
    let mut scene = Scene::default();
    let told = lives(&mut scene, |book, mut tell| {
        book.event(create("v1", 10), &mut tell);
        let start = Event { pid: Some(Pid(7)), ..event("f", Action::Start, 20) };
        book.event(start, &mut tell);
        book.event(event("f", Action::Die, 30), &mut tell);
        book.event(event("f", Action::Destroy, 40), &mut tell);
        book.event(create("v2", 50), &mut tell);
    });
    assert_eq!(told, ["v1@10"]);
    let asks = scene.asks();
    assert_eq!(asks.len(), 4);
    // Every answer is of the second: only its own question takes it.
    let mut told = Vec::new();
    for ask in &asks {
        told.extend(lives(&mut scene, |book, mut tell| {
            book.answered(ask, inspected(made("v2", 49)), &mut tell);
        }));
    }
    assert_eq!(told, ["f started Some(7) Some(20)", "f exited Some(7) Some(30)", "f gone", "v2@49"]);
    // The moment of its making is always the same, whoever tells it.
    let told = lives(&mut scene, |book, mut tell| {
        book.event(Event { pid: Some(Pid(8)), ..event("f", Action::Start, 60) }, &mut tell);
        let ask = book.next_ask().expect("its start is asked for");
        book.answered(&ask, inspected(Inspected { pid: Some(Pid(8)), ..made("v2", 49) }), &mut tell);
    });
    assert_eq!(told, ["f started Some(8) Some(60)"]);
}

#[test]
fn a_list_that_says_it_all_asks_nothing_and_finds_what_was_missed() {
    let mut scene = Scene::default();
    let listed_as =
        |what: Inspected| Listed { inspected: Some(Box::new(what)), ..listed("f", Life::Running) };
    let list = |scene: &mut Scene, what: Inspected| {
        lives(scene, |book, mut tell| {
            let mark = book.mark();
            book.listed(vec![listed_as(what)], mark, &mut tell);
        })
    };
    assert_eq!(list(&mut scene, made("v1", 10)), ["v1@10", "f started Some(42) None"]);
    assert!(scene.asks().is_empty() && scene.book.is_settled());
    assert!(list(&mut scene, made("v1", 10)).is_empty(), "nothing is new");
    // Nobody heard of its end, nor of the next one's begin.
    assert_eq!(list(&mut scene, made("v2", 50)), ["f gone", "v2@50", "f started Some(42) None"]);
    // A new first process in the same container, found after the connection broke.
    scene.break_off();
    let again = Inspected { pid: Some(Pid(43)), ..made("v2", 50) };
    assert_eq!(list(&mut scene, again), ["v2@50", "f exited None None", "f started Some(43) None"]);
    // What has happened since the list was asked for is newer than what it says.
    let mark = scene.book.mark();
    scene.event("f", Action::Die, 60).answer_all(&Answer::Missing).told();
    let told = lives(&mut scene, |book, mut tell| {
        book.listed(vec![listed_as(made("v2", 50))], mark, &mut tell);
    });
    assert!(told.is_empty(), "{told:?}");
    assert_eq!(scene.asks().len(), 1, "it is asked for");
}

#[test]
fn a_sketch_is_told_where_nothing_better_will_come() {
    let sketch = |action, at_us| Event { is_sketch: true, ..event("f", action, at_us) };
    let mut scene = Scene::default();
    // Asked for, and known from then on.
    assert!(scene.hear(sketch(Action::Create, 10)).told().is_empty());
    scene.answer_all(&inspected(running("f")));
    assert_eq!(scene.told(), ["f known+env"]);
    assert_eq!(scene.hear(sketch(Action::Update, 11)).answer_all(&Answer::Missing).told(), [""; 0]);
    scene.hear(sketch(Action::Destroy, 12)).told();
    // Gone before it could be asked for.
    scene.hear(sketch(Action::Create, 20)).hear(sketch(Action::Start, 21)).answer_all(&Answer::Missing);
    assert_eq!(scene.told(), ["f known", "f started None Some(21)"]);
    scene.hear(sketch(Action::Destroy, 22)).told();
    // Its making was not heard.
    scene.hear(sketch(Action::Start, 30)).answer_all(&Answer::Missing);
    assert_eq!(scene.told(), ["f known", "f started None Some(30)"]);
    scene.hear(sketch(Action::Destroy, 31)).told();
    // Not answered is not gone: the next list tells.
    scene.hear(sketch(Action::Create, 40)).answer_all(&Answer::Failed);
    assert!(scene.told().is_empty());
}

#[test]
fn a_stream_goes_on_behind_the_last_event_by_the_clock_as_it_is_then() {
    const S: i64 = 1_000_000_000;
    let (mut book, mut told) = (Book::default(), Vec::new());
    assert_eq!(book.resume_ns(50 * S), None);
    book.tick(Duration::from_secs(10));
    book.event(event("a", Action::Start, 100 * 1_000_000), &mut |event| told.push(event));
    book.tick(Duration::from_secs(14));
    // Four seconds later (an event is heard of a moment after it happened), and where the clock was set on since.
    assert_eq!(book.resume_ns(104 * S + 2), Some(100 * S + 1));
    assert_eq!(book.resume_ns(9_000 * S), Some(100 * S + 1));
    // It was set back by an hour's worth: what happened in the four seconds bears times from 40 s on.
    assert_eq!(book.resume_ns(44 * S), Some(40 * S));
    // Behind what came since, not behind the latest time ever told.
    book.event(event("a", Action::Die, 43 * 1_000_000), &mut |event| told.push(event));
    assert_eq!(book.resume_ns(44 * S), Some(43 * S + 1));
}
