//! Everything in the proto files has a comment above it that is a sentence.
//!
//! A small reader of our own: it knows comments, strings and braces, and takes what stands between them
//! as a statement. It does not validate; the compiler of the proto files does that.

use super::Problems;
use crate::workspace::File;

/// Looks at every `.proto` file.
pub(super) fn check(files: &[File]) -> Problems {
    files.iter().filter(|file| file.path.ends_with(".proto")).flat_map(problems).collect()
}

fn problems(file: &File) -> Problems {
    let mut problems = Vec::new();
    for declaration in declarations(&file.text) {
        let comment = declaration.comment.as_str();
        let wrong = if comment.is_empty() {
            "has no comment above it"
        } else if !is_sentence(comment) {
            "has a comment that is no sentence (a capital at its start, a full stop at its end)"
        } else {
            continue;
        };
        problems.push(format!("{}:{}: {} {wrong}", file.path, declaration.line, declaration.what));
    }
    problems
}

fn is_sentence(comment: &str) -> bool {
    comment.starts_with(|first: char| first.is_uppercase() || first.is_numeric() || first == '"')
        && comment.ends_with('.')
}

/// Something that must have a comment.
struct Declaration {
    /// What it is, for a person: `message Task`, `field Task.id`.
    what: String,
    /// The line it starts on, from 1.
    line: usize,
    /// The text of the comment lines directly above it, joined.
    comment: String,
}

/// What a pair of braces encloses, with its name.
enum Block {
    Message(String),
    Enum(String),
    Service,
    /// An option's value or an rpc's options: nothing in it needs a comment.
    Other,
}

/// A statement: the text up to its `;`, `{` or `}`, without comments.
#[derive(Default)]
struct Statement {
    text: String,
    line: usize,
    comment: String,
}

fn declarations(source: &str) -> Vec<Declaration> {
    let mut reader = Reader::default();
    for (index, line) in source.lines().enumerate() {
        reader.line(index + 1, line);
    }
    reader.found
}

#[derive(Default)]
struct Reader {
    found: Vec<Declaration>,
    blocks: Vec<Block>,
    statement: Statement,
    /// The comment lines directly above the next line.
    comment: Vec<String>,
    /// How many `[` are open: what they enclose belongs to the statement.
    brackets: usize,
    in_block_comment: bool,
}

impl Reader {
    fn line(&mut self, number: usize, line: &str) {
        let trimmed = line.trim();
        if self.statement.text.is_empty() && !self.in_block_comment {
            if let Some(comment) = trimmed.strip_prefix("//") {
                self.comment.push(comment.trim().to_owned());
                return;
            }
            if trimmed.is_empty() {
                // A blank line parts a comment from what follows.
                self.comment.clear();
                return;
            }
        }
        self.code(number, trimmed);
        self.comment.clear();
        if !self.statement.text.is_empty() {
            self.statement.text.push(' ');
        }
    }

    fn code(&mut self, number: usize, line: &str) {
        let mut quote = None;
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            if self.in_block_comment {
                if c == '*' && chars.next_if_eq(&'/').is_some() {
                    self.in_block_comment = false;
                }
                continue;
            }
            match (quote, c) {
                (Some(_), '\\') => {
                    chars.next();
                }
                (Some(open), _) if c == open => quote = None,
                (Some(_), _) => {}
                (None, '"' | '\'') => quote = Some(c),
                (None, '/') if chars.peek() == Some(&'/') => break,
                (None, '/') if chars.next_if_eq(&'*').is_some() => {
                    self.in_block_comment = true;
                    continue;
                }
                (None, '[') => self.brackets += 1,
                (None, ']') => self.brackets = self.brackets.saturating_sub(1),
                (None, ';' | '{' | '}') if self.brackets == 0 => {
                    self.end(c);
                    continue;
                }
                (None, _) => {}
            }
            if self.statement.text.is_empty() {
                if c.is_whitespace() {
                    continue;
                }
                self.statement.line = number;
                // Taken, so that a second statement on the line does not share it.
                self.statement.comment = std::mem::take(&mut self.comment).join(" ").trim().to_owned();
            }
            self.statement.text.push(c);
        }
    }

    /// Ends the statement at `;`, `{` or `}`.
    fn end(&mut self, by: char) {
        let statement = std::mem::take(&mut self.statement);
        let mut words = statement.text.split_whitespace();
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let name = second.split(['(', '=']).next().unwrap_or_default().to_owned();
        let what = match (first, self.blocks.last()) {
            (_, Some(Block::Other)) | ("" | "syntax" | "edition" | "package" | "import" | "option", _) => {
                None
            }
            ("reserved" | "extensions", _) => None,
            ("message" | "enum" | "service" | "oneof" | "rpc" | "extend", _)
                if by != ';' || first == "rpc" =>
            {
                Some(format!("{first} {name}"))
            }
            (_, Some(Block::Message(parent))) => {
                Some(format!("field {parent}.{}", field_name(&statement.text)))
            }
            (_, Some(Block::Enum(parent))) => Some(format!("value {parent}.{}", field_name(&statement.text))),
            _ => None,
        };
        match by {
            '{' => {
                let block = match (first, self.blocks.last()) {
                    ("message" | "extend", _) => Block::Message(name),
                    ("enum", _) => Block::Enum(name),
                    ("service", _) => Block::Service,
                    // The fields of a oneof are fields of its message.
                    ("oneof", Some(Block::Message(parent))) => Block::Message(parent.clone()),
                    _ => Block::Other,
                };
                self.blocks.push(block);
            }
            '}' => {
                self.blocks.pop();
            }
            _ => {}
        }
        if let Some(what) = what {
            self.found.push(Declaration { what, line: statement.line, comment: statement.comment });
        }
    }
}

/// The word before the `=` of a field or value.
fn field_name(statement: &str) -> &str {
    statement.split('=').next().and_then(|left| left.split_whitespace().last()).unwrap_or(statement)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
syntax = "proto3";

// The package.
package a.v1;

import "b; { \" .proto";

// Does things.
service ThingService {
  // Does one thing.
  // And says so.
  rpc DoThing(DoThingRequest) returns (stream DoThingResponse);
  // Does another.
  rpc DoOther(DoThingRequest) returns (DoThingResponse) {
    option (http) = { get: "/v1/x" };
  }
}

// What it takes.
message DoThingRequest {}

// What it returns.
message DoThingResponse {
  reserved 7;
  // A map of things.
  map<string, uint64> things = 1 [deprecated = true, (x) = { a: 1; }];
  // One of two.
  oneof one {
    // The first way.
    string a = 2; // A trailing remark
    // The second way.
    google.protobuf.Timestamp
        b = 3;
  }
}

// A choice of ways.
enum Way {
  // Not a way.
  WAY_UNSPECIFIED = 0;
}
"#;

    fn found(text: &str) -> Problems {
        check(&[File { path: "a.proto".to_owned(), text: text.to_owned() }])
    }

    #[test]
    fn a_commented_file_passes_and_nothing_of_it_is_overlooked() {
        assert_eq!(found(GOOD), Problems::new());
        let seen: Vec<_> = declarations(GOOD).into_iter().map(|declaration| declaration.what).collect();
        assert_eq!(
            seen,
            [
                "service ThingService",
                "rpc DoThing",
                "rpc DoOther",
                "message DoThingRequest",
                "message DoThingResponse",
                "field DoThingResponse.things",
                "oneof one",
                "field DoThingResponse.a",
                "field DoThingResponse.b",
                "enum Way",
                "value Way.WAY_UNSPECIFIED",
            ]
        );
    }

    /// Every comment of the good file is needed: without any one of them something is found.
    #[test]
    fn every_missing_comment_is_found() {
        let lines: Vec<_> = GOOD.lines().collect();
        let comments = lines.iter().enumerate().filter(|(_, line)| {
            line.trim().starts_with("//") && !line.contains("The package") && !line.contains("And says so")
        });
        for (number, line) in comments {
            let mut without = lines.clone();
            without.remove(number);
            if line.contains("Does one thing") {
                // Its second line stands for it.
                continue;
            }
            assert_eq!(found(&without.join("\n")).len(), 1, "without `{line}`");
        }
    }

    #[test]
    fn a_comment_that_is_no_sentence_is_found() {
        for comment in ["the id", "Its id", "its id."] {
            let text = format!("// A thing.\nmessage A {{\n  // {comment}\n  string id = 1;\n}}\n");
            let found = found(&text);
            assert_eq!(found.len(), 1, "{comment}");
            assert!(
                found[0].starts_with("a.proto:4: field A.id has a comment that is no sentence"),
                "{found:?}"
            );
        }
    }

    #[test]
    fn a_comment_beside_or_apart_is_not_above() {
        let beside = "// A thing.\nmessage A {\n  string id = 1; // Its own id.\n}\n";
        let apart = "// A thing.\nmessage A {\n  // Its own id.\n\n  string id = 1;\n}\n";
        for text in [beside, apart] {
            assert_eq!(found(text).len(), 1, "{text}");
        }
    }

    #[test]
    fn two_statements_of_a_line_do_not_share_a_comment() {
        let found =
            found("// A thing.\nmessage A {\n  // Its own id.\n  string id = 1; string name = 2;\n}\n");
        assert_eq!(found, ["a.proto:4: field A.name has no comment above it"]);
    }

    #[test]
    fn code_in_a_block_comment_is_not_seen() {
        assert_eq!(found("/* message A {\n string id = 1; */\n// A thing.\nmessage B {}\n"), Problems::new());
    }
}
