//! Commands and settings from `docs/OPERATIONS.md`, with the names of one site.

use std::path::Path;
use std::process::Command;

use super::services::{Services, project, python};

/// The code blocks of a language in the section with this heading, changed to these names on the broker.
#[track_caller]
pub(crate) fn blocks(heading: &str, language: &str, prefix: &str) -> Vec<String> {
    let text = std::fs::read_to_string(project().join("docs/OPERATIONS.md")).expect("read OPERATIONS.md");
    let (_, section) = text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("{heading}"));
    let section = section.split("\n## ").next().and_then(|s| s.split("\n### ").next()).expect("a section");
    let begin = format!("```{language}\n");
    let blocks = section.split(begin.as_str()).skip(1);
    blocks.filter_map(|rest| rest.split("```").next()).map(|block| named(block, prefix)).collect()
}

/// A file of the project, changed to these names on the broker.
#[track_caller]
pub(crate) fn file(path: &str, prefix: &str) -> String {
    named(&std::fs::read_to_string(project().join(path)).expect(path), prefix)
}

fn named(text: &str, prefix: &str) -> String {
    text.replace(r"adu\.export", &prefix.replace('.', r"\.")).replace("adu.export", prefix)
}

impl Services {
    /// Runs an operator's commands in a directory. `rabbitmqctl` talks to this broker.
    #[track_caller]
    pub(crate) fn operate(&self, directory: &Path, commands: &str) {
        let script = project().join("scripts/services.sh");
        let ctl = format!("'{}' ctl '{}'", script.display(), self.directory.display());
        let commands = format!("rabbitmqctl() {{ {ctl} \"$@\"; }}\n{commands}");
        let bash = Command::new("bash").args(["-euc", &commands]).current_dir(directory).output();
        let output = bash.expect("run bash");
        assert!(output.status.success(), "{commands}\n{}", super::said(&output));
    }

    /// The URL of the broker for one of its users.
    pub(crate) fn url_of(&self, user: &str, password: &str) -> String {
        format!("amqp://{user}:{password}@127.0.0.1:{}/%2f", self.amqp)
    }
}

/// Runs Python code to its end and returns its output.
#[track_caller]
pub(crate) fn run_python(code: &str, directory: &Path) -> String {
    let output = Command::new(python()).args(["-c", code]).current_dir(directory).output();
    let output = output.expect("run Python");
    assert!(output.status.success(), "{code}\n{}", super::said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
