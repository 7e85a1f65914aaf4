//! The book by its own words: what is told, asked and forgotten.

use proptest::prelude::*;

use super::*;

const NO_TIME: Duration = Duration::ZERO;

fn id(name: &str) -> ContainerId {
    ContainerId(name.into())
}

fn named(name: &str) -> Container {
    Container { runtime: "cri".into(), id: name.into(), ..Container::default() }
}

fn status(name: &str, life: Life) -> Answer {
    Answer::Found(Box::new(Status {
        container: named(name),
        life,
        pid: Some(Pid(7)),
        started_at: Some(Timestamp(1)),
        finished_at: Some(Timestamp(2)),
        exit_code: (life == Life::Ended).then_some(3),
        oom: false,
    }))
}

fn listed(name: &str, life: Life) -> Listed {
    Listed { id: id(name), container: None, life }
}

/// What is told, in few letters.
fn word(event: &ContainerEvent) -> String {
    match event {
        ContainerEvent::Known(container) => format!("known {}", container.id),
        ContainerEvent::Started { id, pid, .. } => {
            format!("started {id}{}", if pid.is_some() { "" } else { " -" })
        }
        ContainerEvent::Exited { id, exit_code, .. } => format!("exited {id} {exit_code:?}"),
        ContainerEvent::Gone { id, .. } => format!("gone {id}"),
        other => format!("{other:?}"),
    }
}

/// A book and what it has told since it was asked last.
#[derive(Default)]
struct Read {
    book: Book,
    told: Vec<String>,
}

impl Read {
    fn list(&mut self, list: Vec<Listed>) -> usize {
        let mark = self.book.mark();
        self.list_at(mark, list)
    }

    fn list_at(&mut self, mark: Mark, list: Vec<Listed>) -> usize {
        let Read { book, told } = self;
        book.listed(list, mark, NO_TIME, &mut |event| told.push(word(&event)))
    }

    /// A list that cannot be had.
    fn unlisted(&mut self) {
        let Read { book, told } = self;
        let mark = book.mark();
        book.unlisted(mark, NO_TIME, &mut |event| told.push(word(&event)));
    }

    fn answer(&mut self, ask: Ask, answer: Answer) -> Outcome {
        let Read { book, told } = self;
        book.answered(ask, answer, NO_TIME, &mut |event| told.push(word(&event)))
    }

    fn ask(&mut self) -> Ask {
        self.book.next_ask(NO_TIME).expect("something is to be asked")
    }

    fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }
}

#[test]
fn one_that_is_wanted_is_asked_for_and_told() {
    let mut read = Read::default();
    assert!(read.book.wanted(id("a"), NO_TIME));
    assert!(read.book.wanted(id("a"), NO_TIME), "twice is once");
    let ask = read.ask();
    assert_eq!((read.book.next_ask(NO_TIME), read.book.next_due()), (None, None));
    assert_eq!(read.answer(ask, status("a", Life::Running)), Outcome::Told);
    assert_eq!(read.told(), ["known a", "started a"]);
    read.book.wanted(id("a"), NO_TIME);
    assert_eq!(read.book.next_ask(NO_TIME), None, "all is known of it");
}

#[test]
fn one_that_is_unknown_is_asked_for_later_and_later_and_then_left_to_the_list() {
    let mut read = Read::default();
    read.book.wanted(id("a"), NO_TIME);
    let mut now = NO_TIME;
    for wait in RETRIES {
        let ask = read.book.next_ask(now).expect("it is due");
        let Read { book, told } = &mut read;
        let outcome = book.answered(ask, Answer::Missing, now, &mut |event| told.push(word(&event)));
        assert_eq!((outcome, book.next_due()), (Outcome::Again, Some(now + wait)));
        assert_eq!(book.next_ask(now + wait - Duration::from_millis(1)), None);
        now += wait;
    }
    let ask = read.book.next_ask(now).expect("it is due for the last time");
    assert_eq!(ask.attempt, RETRIES.len());
    assert_eq!(read.answer(ask, Answer::Missing), Outcome::GivenUp);
    assert_eq!(read.book.next_due(), None);
    assert!(now < Duration::from_secs(10), "before it counts as nobody's");
    read.list(vec![listed("a", Life::Running)]);
    let ask = read.ask();
    read.answer(ask, status("a", Life::Running));
    assert_eq!(read.told(), ["known a", "started a"]);
}

#[test]
fn how_one_ended_is_asked_for_until_the_runtime_knows() {
    let mut read = Read::default();
    read.book.wanted(id("a"), NO_TIME);
    let ask = read.ask();
    // Gone before the first answer has come.
    read.book.ended(id("a"), NO_TIME);
    read.answer(ask, status("a", Life::Waiting));
    assert_eq!(read.told(), ["known a"]);
    let ask = read.book.next_ask(RETRIES[0]).expect("it is due");
    assert_eq!(read.answer(ask, status("a", Life::Running)), Outcome::Told);
    let ask = read.book.next_ask(RETRIES[1]).expect("it still runs there");
    read.answer(ask, status("a", Life::Ended));
    assert_eq!(read.told(), ["started a", "exited a Some(3)"]);
    read.book.ended(id("a"), NO_TIME);
    read.book.ended(id("another runtime's"), NO_TIME);
    assert_eq!(read.book.next_due(), None);
}

#[test]
fn a_list_tells_what_is_new_what_ended_and_what_is_gone() {
    let mut read = Read::default();
    let sandbox = Container { sandbox: true, ..named("s") };
    let of_sandbox = |life| Listed { id: id("s"), container: Some(sandbox.clone()), life };
    read.list(vec![
        of_sandbox(Life::Running),
        listed("old", Life::Ended),
        listed("a", Life::Running),
        listed("new", Life::Waiting),
    ]);
    assert!(!read.book.is_settled());
    for (name, life) in [("a", Life::Running), ("new", Life::Waiting), ("old", Life::Ended)] {
        let ask = read.ask();
        assert_eq!(ask.id, id(name), "the living come first");
        read.answer(ask, status(name, life));
    }
    assert!(read.book.is_settled());
    assert_eq!(
        read.told(),
        ["known s", "known a", "started a", "known new", "known old", "started old -", "exited old Some(3)"]
    );
    read.list(vec![of_sandbox(Life::Ended), listed("a", Life::Ended), listed("new", Life::Waiting)]);
    assert_eq!(read.told(), ["gone old", "exited s None"]);
    let ask = read.ask();
    read.answer(ask, Answer::Missing);
    assert_eq!(read.told(), ["gone a"], "removed between the list and the question");
    assert_eq!(read.book.next_due(), None);
}

#[test]
fn what_came_after_the_list_was_asked_for_is_not_gone() {
    let mut read = Read::default();
    let mark = read.book.mark();
    read.book.wanted(id("a"), NO_TIME);
    let ask = read.ask();
    read.answer(ask, status("a", Life::Running));
    read.list_at(mark, vec![]);
    assert_eq!(read.told(), ["known a", "started a"]);
    read.list(vec![]);
    assert_eq!(read.told(), ["gone a"]);
}

#[test]
fn after_a_break_everything_is_told_again_and_what_vanished_is_gone() {
    let mut read = Read::default();
    read.list(vec![listed("a", Life::Running), listed("b", Life::Running)]);
    for _ in 0..2 {
        let ask = read.ask();
        read.answer(ask.clone(), status(&ask.id.0, Life::Running));
    }
    read.book.wanted(id("c"), NO_TIME);
    let late = read.ask();
    read.told();
    read.book.broke();
    assert!(read.book.is_settled());
    assert_eq!(read.answer(late, status("c", Life::Running)), Outcome::Late);
    read.list(vec![listed("b", Life::Running)]);
    let ask = read.ask();
    read.answer(ask, status("b", Life::Running));
    assert_eq!(read.told(), ["gone a", "known b", "started b"]);
}

#[test]
fn there_is_room_for_so_many_and_no_more() {
    let mut read = Read::default();
    let names: Vec<String> = (0..MAX_ENTRIES + 5).map(|number| format!("c{number}")).collect();
    let list = names.iter().map(|name| listed(name, Life::Running)).collect();
    assert_eq!(read.list(list), 5);
    assert!(!read.book.wanted(id("another"), NO_TIME) && read.book.wanted(id("c0"), NO_TIME));
}

#[test]
fn without_a_list_what_ended_makes_room_and_who_lives_is_asked_for() {
    let mut read = Read::default();
    for number in 0..MAX_ENTRIES {
        let name = format!("c{number}");
        assert!(read.book.wanted(id(&name), NO_TIME), "{name}");
        let ask = read.ask();
        read.answer(ask, status(&name, if number == 7 { Life::Running } else { Life::Ended }));
    }
    assert!(!read.book.wanted(id("another"), NO_TIME));
    read.told();
    read.unlisted();
    let told = read.told();
    assert_eq!(told.len(), MAX_ENTRIES - 1);
    assert!(told.iter().all(|said| said.starts_with("gone ") && said != "gone c7"));
    let ask = read.ask();
    assert_eq!((ask.id.clone(), read.book.next_due(), read.book.is_settled()), (id("c7"), None, false));
    read.answer(ask, status("c7", Life::Running));
    assert!(read.book.is_settled() && read.book.wanted(id("another"), NO_TIME));
    // Asked for since the list was: who is asked already is not asked twice.
    read.unlisted();
    assert_eq!([read.ask().id, read.ask().id], [id("another"), id("c7")]);
    assert_eq!((read.book.next_due(), read.told()), (None, vec![]));
}

#[test]
fn without_a_list_after_a_break_everything_is_told_again_and_what_vanished_is_gone() {
    let mut read = Read::default();
    for name in ["a", "b", "c"] {
        read.book.wanted(id(name), NO_TIME);
        let ask = read.ask();
        read.answer(ask, status(name, Life::Running));
    }
    read.book.broke();
    read.told();
    read.unlisted();
    let mut now = NO_TIME;
    for _ in 0..=RETRIES.len() {
        while let Some(ask) = read.book.next_ask(now) {
            let answer = match &*ask.id.0 {
                "a" => status("a", Life::Running),
                "b" => status("b", Life::Ended),
                _ => Answer::Missing,
            };
            let Read { book, told } = &mut read;
            book.answered(ask, answer, now, &mut |event| told.push(word(&event)));
        }
        now += RETRIES[RETRIES.len() - 1];
    }
    let mut told = read.told();
    told.sort_unstable();
    assert_eq!(told, ["exited b Some(3)", "gone c", "known a", "known b", "started a", "started b -"]);
    assert!(read.book.is_settled());
    read.unlisted();
    assert_eq!((read.told(), read.ask().id), (vec!["gone b".to_owned()], id("a")));
}

proptest! {
    /// Whatever comes in whatever order: `Known` first, `Gone` last, and no question for one that is asked for already.
    #[test]
    fn any_order_of_things_is_told_in_order(steps in proptest::collection::vec((0..8_u8, 0..3_u8, 0..3_u8), 0..60)) {
        let mut read = Read::default();
        let mut asks: Vec<Ask> = Vec::new();
        let lives = [Life::Waiting, Life::Running, Life::Ended];
        let mut now = NO_TIME;
        for (what, which, how) in steps {
            let name = format!("c{which}");
            let life = lives[usize::from(how)];
            match what {
                0 => { read.book.wanted(id(&name), now); }
                1 => read.book.ended(id(&name), now),
                2 => { read.list((0..=which).map(|n| listed(&format!("c{n}"), life)).collect()); }
                3 => read.book.broke(),
                4 => now += Duration::from_secs(1),
                5 => read.unlisted(),
                _ => if let Some(ask) = asks.pop() {
                    let name = ask.id.0.to_string();
                    let answer = match how { 0 => Answer::Missing, 1 => Answer::Failed, _ => status(&name, life) };
                    let Read { book, told } = &mut read;
                    book.answered(ask, answer, now, &mut |event| told.push(word(&event)));
                }
            }
            while let Some(ask) = read.book.next_ask(now) {
                asks.push(ask);
            }
        }
        let mut known = HashSet::new();
        for said in read.told() {
            let (word, name) = said.split_once(' ').expect("a word and a name");
            let name = name.split(' ').next().unwrap_or_default().to_owned();
            match word {
                "known" => { known.insert(name); }
                "gone" => prop_assert!(known.remove(&name), "{said}"),
                _ => prop_assert!(known.contains(&name), "{said}"),
            }
        }
    }
}
