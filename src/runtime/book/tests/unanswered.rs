//! What is asked in vain, or answered too little: how it is told all the same, and which run it was.

use super::*;

fn sketch(name: &str, action: Action, at_us: i64) -> Event {
    Event { is_sketch: true, ..event(name, action, at_us) }
}

/// The list's word on a container that it describes whole.
fn whole(name: &str, life: Life, inspected: Inspected) -> Listed {
    Listed { inspected: Some(Box::new(inspected)), ..listed(name, life) }
}

#[test]
fn what_was_asked_in_vain_wants_a_list_and_is_told_by_it() {
    let seconds = Duration::from_secs;
    let mut scene = Scene::default();
    scene.book.tick(seconds(7));
    scene.hear(sketch("a", Action::Create, 10));
    assert_eq!((scene.book.unknown_since(), scene.book.has_missed()), (Some(seconds(7)), false));
    let early = scene.book.mark();
    scene.book.tick(seconds(9));
    scene.hear(sketch("a", Action::Start, 11)).answer_all(&Answer::Failed);
    assert_eq!(scene.told(), ["a started None Some(11)"]);
    assert_eq!((scene.book.unknown_since(), scene.book.has_missed()), (Some(seconds(7)), true));
    // A list that was asked for before cannot know of it.
    assert!(scene.list(&[], early).told().is_empty() && scene.book.has_missed());
    let mark = scene.book.mark();
    scene.list(&[whole("a", Life::Running, running("a"))], mark);
    assert_eq!(scene.told(), ["a known+env"]);
    assert_eq!((scene.book.unknown_since(), scene.book.has_missed()), (None, false));
    assert!(scene.asks().is_empty() && scene.book.is_settled());
}

#[test]
fn what_is_known_by_another_answer_waits_no_more() {
    let mut scene = Scene::default();
    scene.hear(sketch("a", Action::Create, 10)).hear(sketch("a", Action::Start, 11));
    scene.book.tick(Duration::from_secs(1));
    scene.hear(sketch("b", Action::Create, 12));
    let asks = scene.asks();
    assert_eq!(scene.book.unknown_since(), Some(Duration::ZERO));
    scene.answer(&asks[0], &inspected(running("a")));
    assert_eq!(scene.book.unknown_since(), Some(Duration::from_secs(1)), "that of b");
    scene.answer(&asks[2], &Answer::Missing).answer(&asks[1], &Answer::Failed);
    assert_eq!((scene.book.unknown_since(), scene.book.has_missed()), (None, false));
    assert!(scene.book.unknown.is_empty());
}

#[test]
fn what_is_gone_and_was_asked_for_in_vain_is_told_by_its_events() {
    let mut scene = Scene::default();
    // Its end is heard before the failure, after it, and not at all.
    scene.hear(sketch("a", Action::Create, 10)).hear(sketch("a", Action::Start, 11));
    scene.hear(sketch("a", Action::Destroy, 12)).answer_all(&Answer::Failed);
    assert_eq!(scene.told(), ["a known", "a started None Some(11)", "a gone"]);
    scene.hear(sketch("b", Action::Create, 20)).answer_all(&Answer::Failed);
    scene.hear(sketch("b", Action::Destroy, 21));
    assert_eq!(scene.told(), ["b known", "b gone"]);
    scene.hear(sketch("c", Action::Create, 30)).answer_all(&Answer::Failed);
    let mark = scene.book.mark();
    assert_eq!(scene.list(&[], mark).told(), ["c known", "c gone"]);
    assert!(scene.book.entries.is_empty() && !scene.book.has_missed());
}

#[test]
fn what_could_not_be_asked_for_wants_a_list() {
    let mut scene = Scene::default();
    for n in 0..MAX_WAITING {
        scene.hear(sketch(&format!("c{n}"), Action::Create, 10));
    }
    assert!(!scene.book.has_missed());
    scene.hear(sketch("one", Action::Create, 11));
    assert!(scene.book.has_missed());
    assert_eq!(scene.book.take_refused(), 1);
    let mark = scene.book.mark();
    scene.list(&[whole("one", Life::Running, running("one"))], mark);
    assert_eq!(scene.told(), ["one known+env", "one started Some(42) Some(15)"]);
}

#[test]
fn who_was_listed_and_not_inspected_is_asked_for_by_the_next_list() {
    let mut scene = Scene::default();
    let list = [listed("a", Life::Running)];
    let ask = |scene: &mut Scene, answer: &Answer| {
        let mark = scene.book.mark();
        scene.list(&list, mark).answer_all(answer).told()
    };
    assert_eq!(ask(&mut scene, &Answer::Failed), ["a known", "a started None None"]);
    assert!(ask(&mut scene, &Answer::Failed).is_empty());
    assert_eq!(ask(&mut scene, &inspected(running("a"))), ["a known+env"]);
    let mark = scene.book.mark();
    scene.list(&list, mark);
    assert!(scene.asks().is_empty());
}

#[test]
fn who_runs_and_has_no_task_in_the_list_is_asked_for() {
    let mut scene = Scene::default();
    let runs = [whole("a", Life::Running, running("a"))];
    let silent = [whole("a", Life::Unclear, Inspected { running: false, pid: None, ..running("a") })];
    let list = |scene: &mut Scene, list: &[Listed]| {
        let mark = scene.book.mark();
        scene.list(list, mark).told()
    };
    assert_eq!(list(&mut scene, &runs), ["a known+env", "a started Some(42) Some(15)"]);
    // Its shim was late, in the list and when it was asked.
    assert!(list(&mut scene, &silent).is_empty());
    assert_eq!(scene.answer_all(&Answer::Failed).told(), [""; 0]);
    // It was in time again; and it has ended.
    assert!(list(&mut scene, &silent).is_empty());
    assert_eq!(scene.answer_all(&inspected(running("a"))).told(), [""; 0]);
    assert!(list(&mut scene, &silent).is_empty());
    assert_eq!(scene.answer_all(&inspected(ended("a"))).told(), ["a exited Some(3) Some(25)"]);
}

/// What was told of a container's run, `-` where it has none.
fn runs(scene: &mut Scene, act: impl FnOnce(&mut Book, &mut dyn FnMut(ContainerEvent))) -> Vec<String> {
    let mut told = Vec::new();
    act(&mut scene.book, &mut |event| {
        if let ContainerEvent::Known(container) = event {
            told.push(container.task.unwrap_or_else(|| "-".into()));
        }
    });
    told
}

#[test]
fn a_run_is_told_to_its_end_whoever_told_of_it_and_the_next_one_is_another() {
    let mut scene = Scene::default();
    let of = |task: Option<&str>| {
        let container = Container { task: task.map(Into::into), ..container("f", &["A=1"]) };
        Inspected { container, running: task.is_some(), ..running("f") }
    };
    let told = runs(&mut scene, |book, mut tell| {
        let mark = book.mark();
        book.listed(vec![whole("f", Life::Running, of(Some("42+1")))], mark, &mut tell);
    });
    assert_eq!(told, ["42+1"], "no event told of it");
    let told = runs(&mut scene, |book, mut tell| {
        book.event(sketch("f", Action::Die, 30), &mut tell);
        let ask = book.next_ask().expect("its end is asked for");
        let renamed =
            Inspected { container: Container { name: Some("g".into()), ..of(None).container }, ..of(None) };
        book.answered(&ask, inspected(renamed), &mut tell);
    });
    assert_eq!(told, ["42+1"], "it has ended, and is still that run");
    // The next one in the same container, which nobody could be asked about.
    let told = runs(&mut scene, |book, mut tell| {
        let mut start = sketch("f", Action::Start, 40);
        start.described.task = Some("43+2".into());
        book.event(start, &mut tell);
        let ask = book.next_ask().expect("its start is asked for");
        book.answered(&ask, Answer::Failed, &mut tell);
    });
    assert_eq!(told, ["43+2"]);
}
