//! `fnscope identify`: which function is this container, by which rule, and what was looked at.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::identity::{self, Functions, Identified, IdentityConfig};
use crate::model::Container;
use crate::render::escape;
use crate::runtime::docker::{self, DockerOptions};

/// Explains a container.
#[derive(Debug, Args)]
#[command(after_help = "\
Exits with 1 if it is no function.

Examples:
  sudo fnscope identify thirsty_euler
  docker inspect $(docker ps -q) | fnscope identify --file - --json")]
pub struct Identify {
    /// Name or id of a Docker container
    #[arg(value_name = "CONTAINER", required_unless_present = "file", conflicts_with = "file")]
    container: Option<String>,
    /// Read `docker inspect` output instead, or an array of recorded containers; `-` for stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Which containers are functions: those a platform marks, or all
    #[arg(long, value_name = "WHICH", value_parser = ["labelled", "all"], default_value = "labelled")]
    functions: String,
    /// Docker's socket
    #[arg(long, value_name = "PATH", default_value = "/var/run/docker.sock")]
    docker_socket: PathBuf,
    /// Print JSON: an object for a container, an array for a file
    #[arg(long)]
    json: bool,
}

/// Most bytes of a file that are read.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Prints the answer.
pub(super) fn run(identify: &Identify) -> anyhow::Result<ExitCode> {
    let functions = if identify.functions == "all" { Functions::All } else { Functions::Labelled };
    let config = IdentityConfig { functions };
    match (&identify.file, &identify.container) {
        (Some(file), _) => from_file(file, config, identify.json),
        (None, Some(name)) => one(&inspect(identify, name)?, config, identify.json),
        (None, None) => bail!("give a container or --file"),
    }
}

fn inspect(identify: &Identify, name: &str) -> anyhow::Result<Container> {
    let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build().context("make the event loop")?;
    reactor.block_on(docker::inspect(&DockerOptions { socket: identify.docker_socket.clone() }, name))
}

fn one(container: &Container, config: IdentityConfig, json: bool) -> anyhow::Result<ExitCode> {
    let answer = identity::identify(container, &config);
    let is_function = answer.identity.function_container;
    if json {
        let row = Identified::new(container, &answer);
        println!("{}", serde_json::to_string_pretty(&row).context("write the answer")?);
    } else {
        let show = |name: &Option<String>| name.as_deref().map_or("-".into(), |n| escape::line(n).into_owned());
        let identity = &answer.identity;
        let verdict = if is_function { "a function" } else { "not a function" };
        println!("{} is {verdict}, by rule {}", escape::line(&container.id), identity.rule);
        for (what, value) in [
            ("platform", &identity.platform),
            ("namespace", &identity.namespace),
            ("function", &identity.function),
            ("revision", &identity.revision),
            ("instance", &identity.instance_name),
        ] {
            println!("  {what:<10} {}", show(value));
        }
        println!("looked at, in order:");
        for looked in &answer.looked_at {
            let mark = if looked.matched { "*" } else { " " };
            println!("{mark} {:<28} {:<40} {}", looked.rule, looked.looked_at, escape::line(&looked.why));
        }
    }
    Ok(if is_function { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn from_file(file: &Path, config: IdentityConfig, json: bool) -> anyhow::Result<ExitCode> {
    let text = read(file)?;
    let elements = identity::parse(&text).with_context(|| format!("read {}", file.display()))?;
    let mut faults = 0;
    let mut rows = Vec::new();
    for (at, element) in elements.into_iter().enumerate() {
        match element {
            Ok(container) => {
                let answer = identity::identify(&container, &config);
                let row = Identified::new(&container, &answer);
                rows.push(serde_json::to_value(row).context("write an answer")?);
            }
            Err(error) => {
                faults += 1;
                eprintln!("fnscope: element {at} of {}: {error}", file.display());
                rows.push(serde_json::Value::Null);
            }
        }
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&rows).context("write the answers")?);
    } else {
        rows.iter().for_each(|row| println!("{}", escape::line(&line(row))));
    }
    let any = rows.iter().any(|row| row.get("function_container") == Some(&true.into()));
    Ok(ExitCode::from(if faults > 0 { 2 } else { u8::from(!any) }))
}

fn line(row: &serde_json::Value) -> String {
    let text = |key: &str| row.get(key).and_then(|v| v.as_str()).unwrap_or("-").to_string();
    let is_function = row.get("function_container") == Some(&true.into());
    let verdict = if is_function { "function" } else { "not a function" };
    let name = format!("{}/{}/{}@{}", text("platform"), text("namespace"), text("function"), text("revision"));
    format!("{}  {verdict}  {name}  {} by {}", text("id"), text("confidence"), text("rule"))
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    let source: Box<dyn std::io::Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(file).with_context(|| format!("open {}", file.display()))?)
    };
    source.take(MAX_FILE_BYTES).read_to_end(&mut text).with_context(|| format!("read {}", file.display()))?;
    Ok(text)
}
