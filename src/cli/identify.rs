//! `fnscope identify`: which function is this container, by which rule, and what was looked at.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::{Outcome, output};
use crate::config::keys::CONFIG_VARIABLE;
use crate::config::{DEFAULT_DOCKER_SOCKET, Sources};
use crate::identity::row::{self, Row};
use crate::identity::{self, Answer, Functions, Identified, IdentityConfig};
use crate::model::Container;
use crate::render::{self, Column, escape};
use crate::runtime::docker::{self, DockerOptions};

/// Explains a container.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exits with 1 if it is no function.

Examples:
  sudo fnscope identify thirsty_euler                                  every rule, and why
  sudo fnscope identify thirsty_euler --config /etc/fnscope.toml       with rules of your own
  docker inspect $(docker ps -q) | fnscope identify --file -           a line for each
  docker inspect $(docker ps -q) | fnscope identify --file - --json    the same for programs
  (crictl inspect $ID; crictl inspectp $POD) | jq -s . | fnscope identify --file - --explain

A pod's labels are on its sandbox: give both to --file, in one array.

Rules of your own, in the configuration file:
  [identity]
  env = [\"TEAM\"]                     # variables that rules may read
  allow_namespaces = [\"team-*\"]      # none but these
  deny_namespaces = [\"team-test\"]
  keep_labels = [\"team\", \"app.*\"]  # labels that are stored with each instance
  [[identity.rules]]
  labels = { kind = \"function\" }     # also: image, container, env; * stands for any text
  platform = \"ours\"
  namespace = \"${env:TEAM}\"
  function = \"${label:name}\"         # also: ${image}, ${image.repo}, ${image.tag}, ${name}
  revision = \"${image.tag}\"")]
pub struct Args {
    /// Name or id of a Docker container
    #[arg(value_name = "CONTAINER", required_unless_present = "file", conflicts_with = "file")]
    container: Option<String>,
    /// Read `docker inspect` or `crictl inspect` output instead, or an array of recorded containers; `-` for stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// With --file: tell of each container every rule that was looked at, not a line
    #[arg(long, requires = "file", conflicts_with = "json")]
    explain: bool,
    /// The agent's configuration file, for its rules and namespaces
    #[arg(long, value_name = "FILE", env = CONFIG_VARIABLE, value_hint = clap::ValueHint::FilePath)]
    config: Option<PathBuf>,
    /// Which containers are functions: those that a platform or a label marks, or all [default: labelled]
    #[arg(long, value_name = "WHICH")]
    functions: Option<Functions>,
    /// Docker's socket
    #[arg(long, value_name = "PATH", default_value = DEFAULT_DOCKER_SOCKET)]
    docker_socket: PathBuf,
    /// Print JSON: an object for a container, an array for a file
    #[arg(long)]
    json: bool,
}

/// Most bytes of a file that are read.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Prints the answer.
pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let config = configured(args)?;
    match (&args.file, &args.container) {
        (Some(file), _) => from_file(file, &config, args),
        (None, Some(name)) => one(&inspect(args, name, &config)?, &config, args.json),
        (None, None) => bail!("give a container or --file"),
    }
}

fn configured(args: &Args) -> anyhow::Result<IdentityConfig> {
    let sources = Sources { file: args.config.clone(), flags: Vec::new() };
    let mut config = sources.load()?.config.identity();
    config.functions = args.functions.unwrap_or(config.functions);
    Ok(config)
}

fn inspect(args: &Args, name: &str, config: &IdentityConfig) -> anyhow::Result<Container> {
    let reactor = super::reactor()?;
    let options =
        DockerOptions { keys: config.keys().into(), ..DockerOptions::new(Some(&args.docker_socket), None)? };
    reactor.block_on(docker::inspect(&options, name))
}

fn one(container: &Container, config: &IdentityConfig, json: bool) -> anyhow::Result<Outcome> {
    let answer = identity::identify(container, config);
    let is_function = answer.identity.function_container;
    if json {
        let row = Identified::new(&container.id, &container.id, answer.clone());
        output::print_json(&serde_json::to_value(row).context("write the answer")?)?;
    } else {
        output::print(&explained(&container.id, &answer))?;
    }
    Ok(if is_function { Outcome::Done } else { Outcome::Nothing })
}

/// What `answer` is, and every rule that was looked at for it.
fn explained(id: &str, answer: &Answer) -> String {
    let show = |name: &Option<String>| name.as_deref().map_or("-".into(), |n| escape::line(n).into_owned());
    let identity = &answer.identity;
    let verdict = if identity.function_container { "a function" } else { "not a function" };
    let mut text = format!("{} is {verdict}, by rule {}\n", escape::line(id), escape::line(&identity.rule));
    for (what, value) in [
        ("platform", &identity.platform),
        ("namespace", &identity.namespace),
        ("function", &identity.function),
        ("revision", &identity.revision),
        ("instance", &identity.instance_name),
        ("waits for", &answer.runtime_kind),
        ("otherwise", &answer.fallback_name),
    ] {
        if value.is_some() || !["waits for", "otherwise"].contains(&what) {
            let _ = writeln!(text, "  {what:<10} {}", show(value));
        }
    }
    let columns = [
        Column::fixed(""),
        Column::text("RULE", 20),
        Column::text("LOOKED AT", 24),
        Column::text("FOUND", 24),
    ];
    let rows = answer.looked_at.iter().map(|looked| {
        let mark = if looked.matched { "*" } else { "" };
        vec![mark.into(), looked.rule.to_string(), looked.looked_at.into(), looked.why.clone()]
    });
    text.push_str(&render::table(&columns, &rows.collect::<Vec<_>>(), output::terminal_width()));
    text
}

fn from_file(file: &Path, config: &IdentityConfig, args: &Args) -> anyhow::Result<Outcome> {
    let text = read(file)?;
    let elements =
        identity::parse(&text, &config.keys()).with_context(|| format!("read {}", file.display()))?;
    let rows = row::rows(&elements, config);
    if args.json {
        output::print_json(&serde_json::to_value(&rows).context("write the answers")?)?;
    } else {
        for (element, row) in elements.iter().zip(&rows) {
            output::print(&match (&element.container, args.explain) {
                (Ok(container), true) => {
                    let id = element.id.as_deref().unwrap_or(&container.id);
                    explained(id, &row::answer(container, &element.later, config)) + "\n"
                }
                _ => format!("{}\n", escape::line(&line(row))),
            })?;
        }
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
