//! Line breaks for JSON, without reading it into values: the order of fields and every digit stay.

/// Valid JSON over several lines, indented by two spaces. What is no JSON comes out as nonsense, not as an
/// error.
#[must_use]
pub fn pretty(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0_usize;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => string(&mut out, &mut chars),
            '{' | '[' => {
                out.push(c);
                while chars.peek().is_some_and(|c| c.is_ascii_whitespace()) {
                    chars.next();
                }
                match chars.next_if(|next| matches!(next, '}' | ']')) {
                    Some(end) => out.push(end),
                    None => {
                        depth += 1;
                        line(&mut out, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

/// Copies the rest of a string, up to the quote that ends it.
fn string(out: &mut String, chars: &mut impl Iterator<Item = char>) {
    out.push('"');
    while let Some(c) = chars.next() {
        out.push(c);
        match c {
            '"' => return,
            '\\' => out.extend(chars.next()),
            _ => {}
        }
    }
}

fn line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use super::pretty;

    #[test]
    fn nothing_but_white_space_changes() {
        let text = r#"{"b": 12345678901234567890.10,"a":[1,{"x":[ ],"y":{ }}],"s":"a \"{,:}\" \\","n":null}"#;
        insta::assert_snapshot!(pretty(text), @r#"
        {
          "b": 12345678901234567890.10,
          "a": [
            1,
            {
              "x": [],
              "y": {}
            }
          ],
          "s": "a \"{,:}\" \\",
          "n": null
        }
        "#);
        let squeeze = |t: &str| t.replace([' ', '\n'], "");
        assert_eq!(squeeze(&pretty(text)), squeeze(text));
    }

    #[test]
    fn a_scalar_stays_as_it_is() {
        assert_eq!(pretty("\"a b\""), "\"a b\"");
        assert_eq!(pretty(" 7 "), "7");
    }
}
