//! Checks that README, `docs/OPERATIONS.md` and `docs/DOCKER.md` mention only commands, options, settings and
//! metrics that exist, and that rules and dashboard in `monitoring/` do so too.

use std::collections::BTreeSet;
use std::path::Path;

use clap::{CommandFactory, Parser};

use super::Cli;
use crate::message::SourceName;
use crate::metrics::Metrics;
use crate::source::PoolUse;

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect(name)
}

/// README and the manuals.
fn pages() -> [String; 3] {
    ["README.md", "docs/OPERATIONS.md", "docs/DOCKER.md"].map(read)
}

/// The code blocks of a language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let begin = format!("\n```{language}\n");
    let rests: Vec<&str> = page.split(begin.as_str()).skip(1).collect();
    rests.into_iter().filter_map(|rest| rest.split("\n```").next()).collect()
}

/// The code spans within the text.
fn spans(page: &str) -> Vec<&str> {
    let text = page.split("```").step_by(2);
    text.flat_map(|t| t.split('`').skip(1).step_by(2)).collect()
}

/// The words of a command line as a shell splits it, without comments.
fn words(line: &str) -> Vec<String> {
    let line = line.split(" #").next().unwrap_or_default();
    line.split_whitespace().map(|word| word.replace('\'', "")).collect()
}

#[test]
fn documented_commands_and_options_are_understood() {
    let mut lines = 0;
    for page in pages() {
        for line in blocks(&page, "sh").join("\n").lines().filter(|l| l.starts_with("adu-export ")) {
            if let Err(error) = Cli::try_parse_from(words(line)) {
                panic!("{line}: {error}");
            }
            lines += 1;
        }
        for span in spans(&page).into_iter().filter_map(|s| s.strip_prefix("adu-export ")) {
            let name = span.split_whitespace().next().unwrap_or_default();
            assert!(Cli::command().find_subcommand(name).is_some(), "adu-export {span}");
        }
    }
    assert!(lines >= 10, "the pages have examples: {lines}");
}

/// Whether the sample configuration has this setting in this section.
fn is_setting(sample: &str, section: &str, key: &str) -> bool {
    let begin = format!("\n[{section}]\n");
    let Some((_, rest)) = sample.split_once(begin.as_str()) else { return false };
    let own = rest.split("\n[").next().unwrap_or_default();
    own.lines().any(|line| line.trim_start_matches(['#', ' ']).starts_with(&format!("{key} = ")))
}

#[test]
fn documented_settings_are_in_the_sample() {
    let sample = read("config/adu-export.toml");
    let mut settings = 0;
    for page in pages() {
        let dotted = spans(&page).into_iter().filter_map(|s| s.split(['=', ' ']).next()?.split_once('.'));
        for (section, key) in
            dotted.filter(|(s, _)| ["broker", "export", "http", "log", "timing"].contains(s))
        {
            assert!(is_setting(&sample, section, key), "{section}.{key}");
            settings += 1;
        }
        for block in blocks(&page, "toml") {
            let mut section = "";
            for line in block.lines() {
                if let Some(name) = line.strip_prefix('[') {
                    section = name.trim_end_matches(']');
                } else if let Some((key, _)) = line.split_once(" = ") {
                    assert!(is_setting(&sample, section, key), "[{section}] {key}");
                    settings += 1;
                }
            }
        }
    }
    assert!(settings >= 10, "the pages have settings: {settings}");
}

#[test]
fn documented_metrics_are_there() {
    let metrics = Metrics::new();
    metrics.add_source(&SourceName::parse("warehouse").expect("valid"));
    let text = metrics.render();
    let mut names = 0;
    for page in pages() {
        for rest in page.split("adu_export_").skip(1) {
            let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(rest.len());
            assert!(
                text.contains(&format!("# TYPE adu_export_{} ", &rest[..end])),
                "adu_export_{}",
                &rest[..end]
            );
            names += 1;
        }
    }
    assert!(names >= 3, "the pages have metrics: {names}");
}

#[test]
fn users_of_the_stack_may_do_what_the_manual_says() {
    let manual = read("docs/OPERATIONS.md");
    let definitions = read("docker/rabbitmq/definitions.json");
    let definitions: serde_json::Value = serde_json::from_str(&definitions).expect("JSON");
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    let (_, commands) = manual.split_once("### Permissions").expect("the section");
    // As one line, without line breaks.
    let commands = commands.replace("\\\n", " ").split_whitespace().collect::<Vec<_>>().join(" ");
    let permissions = definitions["permissions"].as_array().expect("a list");
    for p in permissions {
        let rights = ["configure", "write", "read"].map(|right| format!("'{}'", text(&p[right])));
        let command = format!("rabbitmqctl set_permissions -p / {} {}", text(&p["user"]), rights.join(" "));
        assert!(commands.contains(&command), "{command}");
    }
    assert_eq!(permissions.len(), commands.matches("set_permissions -p / adu-").count());
    let policy = &definitions["policies"][0];
    let (_, said) = commands
        .split_once(&format!("set_policy -p / {} '{}' '", text(&policy["name"]), text(&policy["pattern"])))
        .expect("the policy");
    let said: serde_json::Value =
        serde_json::from_str(said.split_once('\'').expect("its end").0).expect("JSON");
    assert_eq!(said, policy["definition"]);
}

#[test]
fn rules_and_dashboard_have_metrics_that_are_there_and_alerts_their_sections() {
    let metrics = Metrics::new();
    let source = SourceName::parse("warehouse").expect("valid");
    metrics.add_source(&source);
    metrics.set_pool(&source, PoolUse::default());
    metrics.set_jobs([("running", 1)]);
    let text = metrics.render();
    let rules = read("monitoring/prometheus/adu-export.rules.yml");
    for file in [&rules, &read("monitoring/grafana/dashboards/adu-export.json")] {
        let names = file.split("adu_export_").skip(1);
        let names: Vec<&str> = names
            .map(|rest| rest.split(|c: char| !c.is_ascii_lowercase() && c != '_').next().unwrap_or(rest))
            .collect();
        assert!(names.len() >= 10, "it has metrics: {}", names.len());
        for name in names {
            let family = name.strip_suffix("_bucket").unwrap_or(name);
            assert!(text.contains(&format!("# TYPE adu_export_{family} ")), "adu_export_{family}");
        }
    }
    let manual = read("docs/OPERATIONS.md");
    let sections = manual.lines().filter_map(|line| line.strip_prefix("### Alert "));
    let sections: BTreeSet<String> =
        sections.map(|title| format!("#alert-{}", title.to_lowercase().replace(' ', "-"))).collect();
    let links = rules.lines().filter_map(|line| line.trim().strip_prefix("runbook_url: "));
    let links: Vec<&str> =
        links.filter_map(|url| url.strip_prefix("/usr/share/doc/adu-export/OPERATIONS.md")).collect();
    assert_eq!(links.len(), rules.matches("- alert: ").count(), "every alert has a runbook");
    assert_eq!(links.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), sections);
}
