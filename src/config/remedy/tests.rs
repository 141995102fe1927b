use clap::CommandFactory;

use super::*;
use crate::cli::Cli;

/// Words that mean nothing to a person who gave `--dsn`.
const OF_A_CONFIGURATION: [&str; 19] = [
    "sources.",
    "[export]",
    "configuration",
    "adu-export.toml",
    "of the source",
    "the source's",
    "pool_size",
    "max_parallel",
    "max_jobs",
    "chunk_workers",
    "lock_timeout",
    "stall_timeout",
    "password_file",
    "ca_file",
    "allow_where",
    "row_security",
    "max_snapshot_age",
    "min_free_bytes",
    "daemon",
];

#[test]
fn advice_for_a_dsn_names_flags_that_exist_and_no_configuration() {
    let mut command = Cli::command();
    command.build();
    let flags: Vec<String> = ["export", "plan"]
        .iter()
        .flat_map(|name| command.find_subcommand(name).expect("there").get_arguments())
        .filter_map(|argument| argument.get_long().map(|long| format!("--{long}")))
        .collect();
    for advice in Advice::ALL {
        let words = Remedy::from(advice).words(Origin::CommandLine);
        for forbidden in OF_A_CONFIGURATION {
            assert!(!words.contains(forbidden), "{advice:?} speaks of {forbidden}: {words}");
        }
        for flag in words.split([' ', ',', ')', '(', ';', ':', '?']).filter(|word| word.starts_with("--")) {
            assert!(flags.iter().any(|known| known == flag.trim_end_matches('.')), "{advice:?}: {flag}");
        }
        assert_ne!(advice.words(Origin::CommandLine), "");
        assert_ne!(advice.words(Origin::Configuration), "");
    }
}

#[test]
fn no_other_text_of_a_source_or_a_plan_names_the_configuration() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for room in ["source", "relation", "planning", "plan", "write", "worker"] {
        let mut rooms = vec![root.join(room)];
        while let Some(room) = rooms.pop() {
            for entry in std::fs::read_dir(&room).expect("a directory").flatten() {
                let path = entry.path();
                if path.is_dir() {
                    rooms.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path).expect("UTF-8");
                // Join literals that continue on the next line.
                let code = text.split("#[cfg(test)]").next().unwrap_or_default().replace("\\\n", " ");
                let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
                let named =
                    lines.filter(|line| line.contains("remedy") || line.contains('"')).filter(|line| {
                        let literals = line.split('"').skip(1).step_by(2);
                        literals
                            .into_iter()
                            .any(|text| SPOKEN_OF_ELSEWHERE.iter().any(|word| text.contains(word)))
                    });
                found.extend(named.map(|line| format!("{}: {}", path.display(), line.trim())));
            }
        }
    }
    found.retain(|line| !KNOWN.iter().any(|known| line.contains(known)));
    assert!(found.is_empty(), "make it an Advice: {}", found.join("\n"));
}

/// Words with which texts outside of this module would refer to a configuration.
const SPOKEN_OF_ELSEWHERE: [&str; 9] = [
    "[sources",
    "of the source",
    "[export]",
    "the configuration",
    "adu-export.toml",
    "the source's dsn",
    "pool_size of",
    "export.min_free_bytes",
    "source's section",
];

/// Texts that an export by `--dsn` never shows, or that are not remedies.
const KNOWN: [&str; 3] = [
    // Only configurations have `schemas`.
    "add it to `schemas` of the source in the configuration",
    // Texts of the daemon only.
    "the configuration has no source",
    "fewer bytes are free than export.min_free_bytes",
];
