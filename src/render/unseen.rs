//! In words: why nothing is seen of an instance, and what to do.

use super::{escape, time};
use crate::model::Isolation;
use crate::query::Unseen;

/// Most names that are told.
const MOST: usize = 3;

/// Why the stacks of one instance cannot be seen.
pub fn why(isolation: Isolation) -> String {
    format!(
        "it runs in {}: what the host samples of it is {}, not the function",
        isolation.title(),
        isolation.in_its_place()
    )
}

/// The same, and what to do.
pub fn in_full(isolation: Isolation) -> String {
    format!("{}; {}", why(isolation), advice(isolation))
}

/// What to do about it.
pub fn advice(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::Gvisor => {
            "to see it, run it on runc (docker run --runtime runc; a pod without this runtimeClassName), or profile it \
             with its language's own profiler from inside"
        }
        Isolation::Kata | Isolation::Firecracker | Isolation::Vm => {
            "to see it, run it on runc (docker run --runtime runc; a pod without this runtimeClassName), or run fnscope \
             in the virtual machine"
        }
    }
}

/// The same of a selection, for whoever asked for stacks.
pub fn of_stacks(unseen: &Unseen) -> String {
    let Some((isolation, _)) = unseen.by.iter().max_by_key(|(_, count)| **count) else {
        return String::new();
    };
    let count = unseen.count();
    let titles: Vec<&str> = unseen.by.keys().map(|isolation| isolation.title()).collect();
    let instances = match (count, unseen.instances) {
        (1, 1) => "its one instance runs".into(),
        (count, all) if count == all => format!("all {} instances run", time::count(all)),
        (1, all) => format!("1 of {} instances runs", time::count(all)),
        (count, all) => format!("{} of {} instances run", time::count(count), time::count(all)),
    };
    let (in_place, advice) = (isolation.in_its_place(), advice(*isolation));
    format!(
        "{instances} in {}{}: what the host samples there is {in_place}, not the function, and is left out; {advice}",
        titles.join(" and "),
        handlers(unseen)
    )
}

/// The same below a list of functions or instances.
pub fn of_list(unseen: &Unseen) -> String {
    let titles: Vec<&str> = unseen.by.keys().map(|isolation| isolation.title()).collect();
    let count = unseen.count();
    format!(
        "the stacks of {} {} cannot be seen from the host: {} in {}{}; `fnscope top FUNCTION` says what to do",
        time::count(count),
        if count == 1 { "instance" } else { "instances" },
        some(unseen.functions.iter().map(|function| format!("`{}`", escape::line(function)))),
        titles.join(" and "),
        handlers(unseen)
    )
}

fn handlers(unseen: &Unseen) -> String {
    let handlers = some(unseen.handlers.iter().map(|handler| escape::line(handler).into_owned()));
    if handlers.is_empty() { handlers } else { format!(" (handler {handlers})") }
}

fn some(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(MOST);
    let told: Vec<String> = names.take(MOST).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    told.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_how_many_of_which_and_what_to_do() {
        let unseen = |count, instances, isolation| Unseen {
            by: [(isolation, count)].into(),
            handlers: ["runsc".into(), "a\u{1b}[2J".into()].into(),
            functions: ["a", "b", "c", "d"].map(String::from).into(),
            instances,
        };
        for (unseen, says) in [
            (
                unseen(1, 1, Isolation::Gvisor),
                &["its one instance runs in gVisor", "runsc", "runtime runc"][..],
            ),
            (unseen(2, 2, Isolation::Kata), &["all 2 instances run in Kata", "in the virtual machine"]),
            (unseen(1, 7, Isolation::Vm), &["1 of 7 instances runs in a virtual machine"]),
            (unseen(2, 7, Isolation::Firecracker), &["2 of 7 instances run in Firecracker", "monitor"]),
        ] {
            let text = of_stacks(&unseen);
            assert!(says.iter().all(|word| text.contains(word)), "{text}");
            assert!(!text.contains('\u{1b}') && !of_list(&unseen).contains('\u{1b}'), "{text}");
        }
        let list = of_list(&unseen(3, 9, Isolation::Gvisor));
        assert!(list.contains("of 3 instances") && list.contains("`a`, `b`, `c` and 1 more"), "{list}");
    }
}
