//! The command line as a person meets it.

use clap::{CommandFactory as _, Parser as _};

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split(' '))
}

#[test]
fn the_description_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn lines_that_are_understood() {
    for line in [
        "fnscope ls",
        "fnscope ls --json --since 10m --until now --store /tmp/x",
        "fnscope instances",
        "fnscope instances pi --instance a --instance b",
        "fnscope top openfaas/demo/pi@2 -n 5 --phase all",
        "fnscope folded pi --phase runtime-init --since 2026-11-23T08:00:00Z",
        "fnscope flame pi -o x.svg --reverse --inverted --min-width 1",
        "fnscope export pi --format perf-script --since 10m -o x",
        "fnscope import - --name pi --hz 99 --namespace a --at 10m",
        "fnscope ls --by host --host a --host b --store /a --store /b",
        "fnscope top pi --by thread",
        "fnscope cold pi --frames -n 3",
        "fnscope diff pi@1 pi@2 --fail-if share(f)>10% --fail-if delta(total)>5% --svg x.svg --per start",
        "fnscope diff pi --a-since 2h --a-until 1h --b-since 1h --b-host x --a-instance y --b-store /z",
        "fnscope hosts",
        "fnscope health --live",
        "fnscope health --ready --json --address 127.0.0.1:80 --config /x",
        "fnscope agent --listen-health [::1]:9878",
        "fnscope throttled pi --since 1h",
        "fnscope doctor --store /a --docker-socket /b --json",
        "fnscope doctor pi@2 --since 1h --phase all --store /a --store /b --instance x --host y --json",
        "fnscope cost --by day,function --per-cpu-hour 0.04 --currency EUR",
        "fnscope completions zsh",
        "fnscope agent --attach per-cgroup --event cycles --no-sandbox --log-format json --listen-health [::1]:9878",
        "fnscope config check --json --config x --listen-health off --no-docker",
        "fnscope man",
        "fnscope man top",
        "fnscope man --dir /usr/local/share/man/man1",
    ] {
        assert!(parse(line).is_ok(), "{line}: {}", parse(line).expect_err("checked"));
    }
}

#[test]
fn lines_that_are_not() {
    for (line, says) in [
        ("fnscope", "Usage"),
        ("fnscope top", "<FUNCTION>"),
        ("fnscope top a//b", "a part of the name is empty"),
        ("fnscope top pi --since yesterday", "`10m`"),
        ("fnscope top pi --phase hot", "runtime-init"),
        ("fnscope export pi", "--format"),
        ("fnscope import x", "--name"),
        ("fnscope import x --name a --hz 9 --period 9", "cannot be used with"),
        ("fnscope completions tcsh", "bash"),
        ("fnscope health", "--ready"),
        ("fnscope health --json", "--ready"),
        ("fnscope health --live --ready", "cannot be used with"),
        ("fnscope doctor pi --docker-socket /x", "cannot be used with"),
        ("fnscope lss", "ls"),
    ] {
        let error = parse(line).expect_err(line).to_string();
        assert!(error.contains(says), "{line}: {error}");
    }
}

#[test]
fn every_question_has_examples_and_help_lists_exit_codes() {
    for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
        let help = command.clone().render_help().to_string();
        assert!(help.contains("Examples:"), "{help}");
    }
    assert!(Cli::command().render_help().to_string().contains("64 wrong usage"));
}

#[test]
fn examples_are_understood() {
    let mut count = 0;
    for command in Cli::command().get_subcommands() {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let examples = help.lines().filter_map(|line| line.strip_prefix("  "));
        for example in examples.map(|line| line.strip_prefix("sudo ").unwrap_or(line)) {
            // Words that a shell would have a say in are not for this test.
            if !example.starts_with("fnscope ") || example.contains(['\'', '"', '$', '(']) {
                continue;
            }
            let ends = ["  ", " | ", " > ", " && "].iter().filter_map(|end| example.find(end));
            let line = &example[..ends.min().unwrap_or(example.len())];
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).expect_err("checked"));
            count += 1;
        }
    }
    assert!(count > 30, "{count}");
}

#[test]
fn what_happened_decides_the_exit_code() {
    let code = |result| format!("{:?}", finish(result));
    let number = |code: u8| format!("{:?}", ExitCode::from(code));
    let ambiguous = QueryError::Ambiguous { wanted: "pi".into(), candidates: vec![] };
    let missing = QueryError::NoInstance { wanted: "x".into() };
    let pipe = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
    assert_eq!(code(Ok(Outcome::Done)), number(0));
    assert_eq!(code(Ok(Outcome::Nothing)), number(1));
    assert_eq!(code(Err(missing.into())), number(1));
    assert_eq!(code(Err(ambiguous.into())), number(2));
    assert_eq!(code(Err(anyhow::anyhow!("disk on fire"))), number(2));
    assert_eq!(code(Err(anyhow::Error::from(pipe).context("write to stdout"))), number(0));
    assert_eq!(code(Err(parse("fnscope lss").expect_err("no command").into())), number(64));
}
