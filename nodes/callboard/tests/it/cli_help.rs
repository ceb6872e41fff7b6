//! What `--help` says, for every command: a change of it is a change of the product.

use callboard::cli::args::Cli;
use clap::{Command, CommandFactory};

/// Every command that a person can call, by its words.
fn commands(command: &Command, words: &str, found: &mut Vec<(String, Command)>) {
    let subcommands: Vec<_> = command.get_subcommands().filter(|c| c.get_name() != "help").collect();
    found.push((words.to_owned(), command.clone()));
    for sub in subcommands {
        commands(sub, format!("{words} {}", sub.get_name()).trim(), found);
    }
}

fn all() -> Vec<(String, Command)> {
    let mut root = Cli::command().term_width(100);
    root.build();
    let mut found = Vec::new();
    commands(&root, "", &mut found);
    found
}

#[test]
fn every_help_is_as_it_was_agreed() {
    let text: Vec<_> = all()
        .into_iter()
        .map(|(words, mut command)| {
            // The global options are the same everywhere: once is enough.
            if !words.is_empty() {
                for id in ["addr", "output", "color"] {
                    command = command.mut_arg(id, |arg| arg.hide(true));
                }
            }
            let help = command.term_width(100).render_help().to_string();
            format!("$ callboard {words} -h\n{}", help.trim_end()).replace("callboard  -h", "callboard -h")
        })
        .collect();
    insta::assert_snapshot!(text.join("\n\n"));
}

#[test]
fn every_help_has_an_example_that_names_its_command() {
    for (words, command) in all() {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("Examples:\n"), "`{words}` has no example");
        assert!(help.contains(&format!("callboard {words}")), "no example of `{words}` calls it");
    }
}

#[test]
fn every_example_parses() {
    for (words, command) in all() {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let examples =
            help.lines().filter_map(|line| line.strip_prefix("  ")).filter(|l| l.contains("callboard "));
        for example in examples {
            let from = example.find("callboard ").unwrap();
            let words_of_it = shell_words(&example[from..]);
            let parsed = Cli::command().try_get_matches_from(&words_of_it);
            assert!(parsed.is_ok(), "example of `{words}`: {example}\n{}", parsed.unwrap_err());
        }
    }
}

/// The words of a simple shell command, up to a pipe, a redirection or a list.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            '|' | '>' | '&' if !quoted => break,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
