//! `fnscope identify`: which function is this container, by which rule, and what was looked at.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::{Outcome, output};
use crate::identity::row::{self, Row};
use crate::identity::{self, Functions, Identified, IdentityConfig};
use crate::model::Container;
use crate::render::{self, Column, escape};
use crate::runtime::docker::{self, DockerOptions};

/// Explains a container.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exits with 1 if it is no function.

Examples:
  sudo fnscope identify thirsty_euler
  docker inspect $(docker ps -q) | fnscope identify --file - --json")]
pub struct Args {
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
pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let functions = if args.functions == "all" { Functions::All } else { Functions::Labelled };
    let config = IdentityConfig { functions };
    match (&args.file, &args.container) {
        (Some(file), _) => from_file(file, config, args.json),
        (None, Some(name)) => one(&inspect(args, name)?, config, args.json),
        (None, None) => bail!("give a container or --file"),
    }
}

fn inspect(args: &Args, name: &str) -> anyhow::Result<Container> {
    let reactor =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("make the event loop")?;
    reactor.block_on(docker::inspect(&DockerOptions::new(Some(&args.docker_socket), None)?, name))
}

fn one(container: &Container, config: IdentityConfig, json: bool) -> anyhow::Result<Outcome> {
    let answer = identity::identify(container, &config);
    let is_function = answer.identity.function_container;
    if json {
        let row = Identified::new(&container.id, &container.id, answer.clone());
        output::print_json(&serde_json::to_value(row).context("write the answer")?)?;
    } else {
        let show =
            |name: &Option<String>| name.as_deref().map_or("-".into(), |n| escape::line(n).into_owned());
        let identity = &answer.identity;
        let verdict = if is_function { "a function" } else { "not a function" };
        let mut text = format!("{} is {verdict}, by rule {}\n", escape::line(&container.id), identity.rule);
        for (what, value) in [
            ("platform", &identity.platform),
            ("namespace", &identity.namespace),
            ("function", &identity.function),
            ("revision", &identity.revision),
            ("instance", &identity.instance_name),
        ] {
            let _ = writeln!(text, "  {what:<10} {}", show(value));
        }
        let columns = [
            Column::fixed(""),
            Column::text("RULE", 20),
            Column::text("LOOKED AT", 24),
            Column::text("FOUND", 24),
        ];
        let rows = answer.looked_at.iter().map(|looked| {
            let mark = if looked.matched { "*" } else { "" };
            vec![mark.into(), looked.rule.into(), looked.looked_at.into(), looked.why.clone()]
        });
        text.push_str(&render::table(&columns, &rows.collect::<Vec<_>>(), output::terminal_width()));
        output::print(&text)?;
    }
    Ok(if is_function { Outcome::Done } else { Outcome::Nothing })
}

fn from_file(file: &Path, config: IdentityConfig, json: bool) -> anyhow::Result<Outcome> {
    let text = read(file)?;
    let elements = identity::parse(&text).with_context(|| format!("read {}", file.display()))?;
    let rows = row::rows(&elements, &config);
    if json {
        output::print_json(&serde_json::to_value(&rows).context("write the answers")?)?;
    } else {
        rows.iter().try_for_each(|row| output::print(&format!("{}\n", escape::line(&line(row)))))?;
    }
    for (at, row) in rows.iter().enumerate() {
        if let Row::Failed { error, .. } = row {
            output::tell(&format!("fnscope: element {at} of {}: {}", file.display(), escape::line(error)));
        }
    }
    if rows.iter().any(|row| matches!(row, Row::Failed { .. })) {
        bail!("some elements of {} could not be read", file.display());
    }
    let any = rows.iter().any(|row| matches!(row, Row::Identified(row) if row.function_container));
    Ok(if any { Outcome::Done } else { Outcome::Nothing })
}

fn line(row: &Row) -> String {
    let row = match row {
        Row::Identified(row) => row,
        Row::Failed { id, error } => return format!("{}  {error}", id.as_deref().unwrap_or("-")),
    };
    let text = |name: &Option<String>| name.clone().unwrap_or("-".into());
    let verdict = if row.function_container { "function" } else { "not a function" };
    let [platform, namespace, function, revision] =
        [&row.platform, &row.namespace, &row.function, &row.revision].map(text);
    format!("{}  {verdict}  {platform}/{namespace}/{function}@{revision}  by {}", row.id, row.rule)
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
