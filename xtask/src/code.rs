//! Rust text without its comments and literals, and the files to look at.

use crate::run::{command, top};
use std::fs;

/// A file that the repository keeps.
pub(crate) struct Tracked {
    /// From the top of the repository.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Every tracked text file that still exists and whose path ends with `suffix`.
pub(crate) fn tracked(suffix: &str) -> Result<Vec<Tracked>, String> {
    let listed = command("git", &["ls-files", "-z"])
        .output()
        .map_err(|error| error.to_string())?;
    if !listed.status.success() {
        return Err("`git ls-files` failed: the checks need a git checkout".to_owned());
    }
    let paths = String::from_utf8_lossy(&listed.stdout).into_owned();
    let paths = paths
        .split('\0')
        .filter(|path| !path.is_empty() && path.ends_with(suffix));
    // What is not UTF-8 is not text; what is gone is about to be committed as gone.
    let read = |path: &str| {
        Some(Tracked {
            path: path.to_owned(),
            text: text_of(path)?,
        })
    };
    Ok(paths.filter_map(read).collect())
}

fn text_of(path: &str) -> Option<String> {
    fs::read_to_string(top().join(path)).ok()
}

/// Replaces comments, strings and character literals of Rust code by blanks; keeps the lines.
pub(crate) fn without_comments(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let skipped = literal_len(rest, code.chars().last());
        let (taken, after) = rest.split_at(if skipped > 0 {
            skipped
        } else {
            character.len_utf8()
        });
        match skipped {
            0 => code.push_str(taken),
            _ => code.extend(taken.chars().map(|c| if c == '\n' { '\n' } else { ' ' })),
        }
        rest = after;
    }
    code
}

/// The length of the comment or literal that `text` begins with; 0 if it begins with neither.
fn literal_len(text: &str, before: Option<char>) -> usize {
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return block_comment_len(text);
    }
    if text.starts_with('"') {
        return quoted_len(text, '"');
    }
    if text.starts_with('r') && !in_word {
        return raw_string_len(text);
    }
    if text.starts_with('\'') {
        return character_len(text);
    }
    0
}

fn block_comment_len(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

fn quoted_len(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of `r"…"`, `r#"…"#` and so on; 0 for a raw identifier or a word that begins with r.
fn raw_string_len(text: &str) -> usize {
    let hashes = text[1..].chars().take_while(|&c| c == '#').count();
    if !text[1 + hashes..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let body = 2 + hashes;
    text[body..]
        .find(&end)
        .map_or(text.len(), |at| body + at + end.len())
}

/// The length of a character literal; 0 for a lifetime.
fn character_len(text: &str) -> usize {
    let mut characters = text.chars().skip(1);
    match (characters.next(), characters.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted_len(text, '\''),
        _ => 0,
    }
}

/// Whether `word` occurs in `code` and is not part of a longer name.
pub(crate) fn has_word(code: &str, word: &str) -> bool {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|name| name == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_in_a_comment_or_literal_is_not_code() {
        let hidden = [
            "// unsafe",
            "/* unsafe /* unsafe */ unsafe */",
            "let a = \"unsafe \\\" unsafe\";",
            "let a = r#\"unsafe \" unsafe\"#;",
            "#![deny(unsafe_code)]",
            "let a = '\"'; // unsafe",
        ];
        for text in hidden {
            assert!(!has_word(&without_comments(text), "unsafe"), "{text}");
        }
    }

    #[test]
    fn code_behind_a_literal_is_seen() {
        for text in [
            "'a', unsafe",
            "&'a unsafe",
            "\"\" unsafe",
            "/**/unsafe",
            "b'\\'' unsafe {",
        ] {
            assert!(has_word(&without_comments(text), "unsafe"), "{text}");
        }
    }

    #[test]
    fn lines_stay_where_they_are() {
        let text = "a /* b\nc */ d\n\"e\nf\"\ng";
        let lines = |text: &str| text.matches('\n').count();
        assert_eq!(lines(&without_comments(text)), lines(text));
    }
}
