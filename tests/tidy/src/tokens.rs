//! What in a Rust file is code, and what only looks like it?
//!
//! Comments vanish, and a string or character becomes one opaque token, so no rule is fooled by `"fn {"` in a text.
//! This is far less than Rust's grammar: words, punctuation and line numbers are all that the rules need.

/// One token; `line` counts from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    pub text: &'a str,
    pub line: usize,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An identifier, keyword or number.
    Word,
    /// A string, byte string or character; the text is not looked into.
    Literal,
    /// `'name`.
    Lifetime,
    /// One character, or one of `->`, `=>` and `::`.
    Punctuation,
}

impl Token<'_> {
    /// Is this that keyword, identifier or punctuation (not a string of that content)?
    pub fn is(&self, text: &str) -> bool {
        self.text == text && matches!(self.kind, Kind::Word | Kind::Punctuation)
    }
}

/// The tokens of a file. Malformed text gives odd tokens, never a panic.
pub fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut lexer = Lexer {
        text,
        at: 0,
        line: 1,
    };
    let mut found = Vec::new();
    while let Some(token) = lexer.next_token() {
        found.push(token);
    }
    found
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Lexer<'a> {
    fn next_token(&mut self) -> Option<Token<'a>> {
        self.skip_blank_and_comments();
        let (start, line) = (self.at, self.line);
        let kind = match self.byte(0)? {
            b'"' => self.skip_string(false, 0),
            b'\'' => self.skip_quote(),
            byte if is_word(byte) => self.skip_word_or_prefixed_literal(),
            _ => {
                let rest = &self.text[self.at..];
                let pair = ["->", "=>", "::"].iter().any(|pair| rest.starts_with(pair));
                self.advance(if pair { 2 } else { 1 });
                Kind::Punctuation
            }
        };
        Some(Token {
            text: &self.text[start..self.at],
            line,
            kind,
        })
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    fn advance(&mut self, bytes: usize) {
        let end = (self.at + bytes).min(self.text.len());
        self.line += self.text.as_bytes()[self.at..end]
            .iter()
            .filter(|b| **b == b'\n')
            .count();
        self.at = end;
    }

    fn skip_blank_and_comments(&mut self) {
        while let Some(byte) = self.byte(0) {
            match (byte, self.byte(1)) {
                (b'/', Some(b'/')) => {
                    let rest = &self.text[self.at..];
                    self.advance(rest.find('\n').unwrap_or(rest.len()));
                }
                (b'/', Some(b'*')) => self.skip_block_comment(),
                _ if byte.is_ascii_whitespace() => self.advance(1),
                _ => return,
            }
        }
    }

    fn skip_block_comment(&mut self) {
        let mut depth = 0;
        while let Some(byte) = self.byte(0) {
            match (byte, self.byte(1)) {
                (b'/', Some(b'*')) => {
                    depth += 1;
                    self.advance(2);
                }
                (b'*', Some(b'/')) => {
                    depth -= 1;
                    self.advance(2);
                    if depth == 0 {
                        return;
                    }
                }
                _ => self.advance(1),
            }
        }
    }

    /// Skips a string from its opening quote; a raw one ends with a quote and `hashes` number signs.
    fn skip_string(&mut self, raw: bool, hashes: usize) -> Kind {
        let end = format!("\"{}", "#".repeat(hashes));
        self.advance(1);
        self.skip_to(&end, !raw);
        Kind::Literal
    }

    fn skip_to(&mut self, end: &str, escapes: bool) {
        while let Some(byte) = self.byte(0) {
            if escapes && byte == b'\\' {
                self.advance(2);
            } else if self.text.as_bytes()[self.at..].starts_with(end.as_bytes()) {
                return self.advance(end.len());
            } else {
                self.advance(1);
            }
        }
    }

    /// A character literal or a lifetime.
    fn skip_quote(&mut self) -> Kind {
        self.advance(1);
        let first = self.text[self.at..]
            .chars()
            .next()
            .map_or(0, char::len_utf8);
        if self.byte(0) == Some(b'\\') || self.byte(first) == Some(b'\'') {
            self.skip_to("'", true);
            return Kind::Literal;
        }
        self.skip_word();
        Kind::Lifetime
    }

    fn skip_word_or_prefixed_literal(&mut self) -> Kind {
        let start = self.at;
        self.skip_word();
        let word = &self.text[start..self.at];
        let hashes = self.text[self.at..]
            .bytes()
            .take_while(|b| *b == b'#')
            .count();
        match (word, self.byte(hashes)) {
            ("r" | "br" | "cr", Some(b'"')) => {
                self.advance(hashes);
                self.skip_string(true, hashes)
            }
            ("b" | "c", Some(b'"')) if hashes == 0 => self.skip_string(false, 0),
            ("b", Some(b'\'')) if hashes == 0 => self.skip_quote(),
            ("r", Some(byte)) if hashes == 1 && is_word(byte) => {
                self.advance(1);
                self.skip_word();
                Kind::Word
            }
            _ => Kind::Word,
        }
    }

    fn skip_word(&mut self) {
        let length = self.text[self.at..]
            .bytes()
            .take_while(|b| is_word(*b))
            .count();
        self.advance(length);
    }
}

/// Bytes above ASCII belong to words, so that a token never begins or ends within a character.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(code: &str) -> Vec<&str> {
        tokens(code).iter().map(|t| t.text).collect()
    }

    #[test]
    fn comments_are_no_tokens_and_may_nest() {
        assert_eq!(texts("a // fn b\n/* c /* d */ e */ f"), ["a", "f"]);
    }

    #[test]
    fn braces_in_strings_and_characters_are_no_braces() {
        let code = r###"x("{", r#"}""#, b"{\"", '{', b'}', '\'', "\\") }"###;
        let braces = tokens(code)
            .iter()
            .filter(|t| t.is("{") || t.is("}"))
            .count();
        assert_eq!(braces, 1);
    }

    #[test]
    fn a_lifetime_is_not_an_open_character() {
        assert_eq!(
            texts("&'a str, 'b', 'ä', x"),
            ["&", "'a", "str", ",", "'b'", ",", "'ä'", ",", "x"]
        );
    }

    #[test]
    fn lines_are_counted_through_strings_and_comments() {
        let code = "\"a\n\n\" /*\n*/ end";
        assert_eq!(
            tokens(code).last().map(|t| (t.text, t.line)),
            Some(("end", 4))
        );
    }

    #[test]
    fn unfinished_text_ends_the_tokens_without_a_panic() {
        for code in ["\"abc", "r#\"abc", "/* abc", "'", "'\\", "b'", "r#", "\\"] {
            assert!(tokens(code).len() <= 3, "{code}");
        }
    }
}
