//! The demonstration's functions as Docker containers that carry OpenFaaS's labels.
//!
//! By the `docker` command, as a person would: images are made from the example program alone, nothing is pulled.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};
use indicatif::ProgressBar;

use super::plan::Start;
use super::{Args, config, progress};
use crate::agent::{Agent, Role};
use crate::config::{Runtimes, Whether};

/// Name of the images; a tag for each revision.
const IMAGE: &str = "fnscope-demo/function";

pub(super) fn run(args: &Args, store: &Path, program: &Path, plan: &[Start]) -> anyhow::Result<()> {
    let docker = |arguments: &[&str]| {
        let mut command = Command::new("docker");
        command.arg("-H").arg(format!("unix://{}", args.docker_socket.display())).args(arguments);
        command
    };
    check(docker(&["version"]), "ask docker for its version; is it running?")?;
    for revision in [1, 2] {
        import(docker(&["import", "-", &format!("{IMAGE}:{revision}")]), program)?;
    }
    let config = crate::config::Config {
        runtimes: Runtimes { docker: Whether::At(args.docker_socket.clone()), ..Runtimes::off() },
        ..config(args, store)
    };
    let agent = Agent::start(&config, Role::Demo)?;
    let bar = progress(plan.len());
    let ran = run_all(&docker, plan, &bar);
    bar.finish_and_clear();
    agent.stop()?;
    let images = [1, 2].map(|revision| format!("{IMAGE}:{revision}"));
    check(docker(&["rmi", &images[0], &images[1]]), "remove the demonstration's images")?;
    ran
}

fn run_all(docker: &impl Fn(&[&str]) -> Command, plan: &[Start], bar: &ProgressBar) -> anyhow::Result<()> {
    let mut warm = Vec::new();
    for (n, start) in plan.iter().enumerate() {
        bar.set_message(format!("{}@{}", start.function, start.revision));
        let child = begin(docker, n, start)?;
        if start.warm {
            warm.push(child);
        } else {
            end(child, bar)?;
        }
    }
    bar.set_message("warm");
    warm.into_iter().try_for_each(|child| end(child, bar))
}

fn begin(docker: &impl Fn(&[&str]) -> Command, n: usize, start: &Start) -> anyhow::Result<Child> {
    let function = start.function;
    let task = format!("{function}.{n}.{:025x}", std::process::id());
    let labels = [
        format!("com.openfaas.function={function}"),
        "function=true".into(),
        format!("com.docker.swarm.service.name={function}"),
        format!("com.docker.swarm.task.name={task}"),
    ];
    let mut command = docker(&["run", "--rm", "--network", "none"]);
    labels.iter().for_each(|label| {
        command.args(["--label", label]);
    });
    command
        .args(["--name", &task, &format!("{IMAGE}:{}", start.revision), "/function"])
        .args(start.arguments());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().context("start the docker command")
}

fn end(child: Child, bar: &ProgressBar) -> anyhow::Result<()> {
    let output = child.wait_with_output().context("wait for a container")?;
    bar.inc(1);
    if !output.status.success() {
        bail!("a container of the demonstration ended with {}: {}", output.status, said(&output.stderr));
    }
    Ok(())
}

fn import(mut docker: Command, program: &Path) -> anyhow::Result<()> {
    let dir = program.parent().context("the program lies in a directory")?;
    let mut tar = Command::new("tar")
        .args(["-C".as_ref(), dir.as_os_str(), "-cf".as_ref(), "-".as_ref(), "function".as_ref()])
        .stdout(Stdio::piped())
        .spawn()
        .context("start tar")?;
    docker.stdin(tar.stdout.take().context("tar has an output")?);
    let imported = check(docker, "import an image");
    tar.wait().context("wait for tar")?;
    imported
}

fn check(mut command: Command, what: &str) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("{what}: start the docker command"))?;
    if !output.status.success() {
        bail!("{what}: {}", said(&output.stderr));
    }
    Ok(())
}

fn said(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    crate::render::escape::line(text.trim()).into_owned()
}
