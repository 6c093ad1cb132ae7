//! Which functions, structs and test modules does a file define, and where do they begin and end?

use std::ops::RangeInclusive;

use crate::tokens::{Kind, Token};

/// A function, with or without a body. `lines` runs from `fn` to the closing brace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    pub lines: RangeInclusive<usize>,
    /// Without `self`.
    pub arguments: usize,
    /// Does `impl Trait for Type` fix the signature?
    pub imposed: bool,
}

/// A struct and the line of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Struct {
    pub name: String,
    pub line: usize,
    pub fields: usize,
}

/// All functions of a file, nested ones included.
pub fn functions(tokens: &[Token<'_>]) -> Vec<Function> {
    let imposed = trait_impls(tokens);
    definitions(tokens, "fn")
        .filter_map(|at| function(tokens, at, imposed.iter().any(|range| range.contains(&at))))
        .collect()
}

/// All structs of a file; a unit struct has no fields.
pub fn structs(tokens: &[Token<'_>]) -> Vec<Struct> {
    definitions(tokens, "struct")
        .filter_map(|at| struct_(tokens, at))
        .collect()
}

/// The lines of each `#[cfg(test)] mod name { .. }`, attributes included.
pub fn test_modules(tokens: &[Token<'_>]) -> Vec<RangeInclusive<usize>> {
    let mut ranges: Vec<RangeInclusive<usize>> = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let inside = ranges
            .last()
            .is_some_and(|range| range.contains(&token.line));
        if inside || !is_test_attribute(&tokens[at..]) {
            continue;
        }
        let mut next = at;
        while tokens.get(next).is_some_and(|t| t.is("#")) {
            next = closing(tokens, next + 1) + 1;
        }
        let word = (next..tokens.len())
            .find(|i| !is_visibility(tokens, *i))
            .unwrap_or(next);
        let is_block = tokens.get(word + 2).is_some_and(|t| t.is("{"));
        if tokens.get(word).is_some_and(|t| t.is("mod")) && is_block {
            ranges.push(token.line..=tokens[closing(tokens, word + 2)].line);
        }
    }
    ranges
}

/// The comma-separated parts of `tokens`, where commas inside brackets of any kind do not separate.
pub fn split_commas<'t, 'a>(tokens: &'t [Token<'a>]) -> Vec<&'t [Token<'a>]> {
    let mut open: Vec<&str> = Vec::new();
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, token) in tokens.iter().enumerate() {
        nest(&mut open, token);
        if token.is(",") && open.is_empty() {
            parts.push(&tokens[start..at]);
            start = at + 1;
        }
    }
    parts.push(&tokens[start..]);
    parts.retain(|part| !part.is_empty());
    parts
}

/// Index of the token that closes the `(`, `[` or `{` at `open`; the last index if nothing does.
pub fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let Some(first) = tokens.get(open) else {
        return tokens.len().saturating_sub(1);
    };
    let close = match first.text {
        "(" => ")",
        "[" => "]",
        _ => "}",
    };
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        if token.is(first.text) {
            depth += 1;
        } else if token.is(close) {
            depth -= 1;
            if depth == 0 {
                return at;
            }
        }
    }
    tokens.len() - 1
}

/// Indices of `keyword` where a name follows: `fn name`, not the pointer type `fn(u8)`.
fn definitions<'t>(tokens: &'t [Token<'_>], keyword: &'t str) -> impl Iterator<Item = usize> + 't {
    tokens
        .windows(2)
        .enumerate()
        .filter(move |(_, pair)| pair[0].is(keyword) && pair[1].kind == Kind::Word)
        .map(|(at, _)| at)
}

fn function(tokens: &[Token<'_>], at: usize, imposed: bool) -> Option<Function> {
    let open = after_generics(tokens, at + 2);
    tokens.get(open).filter(|t| t.is("("))?;
    let close = closing(tokens, open);
    let arguments = split_commas(&tokens[open + 1..close]);
    let end = body(tokens, close + 1).map_or(close, |brace| closing(tokens, brace));
    Some(Function {
        name: tokens[at + 1].text.to_owned(),
        lines: tokens[at].line..=tokens[end].line,
        arguments: arguments
            .iter()
            .filter(|argument| !is_self(argument))
            .count(),
        imposed,
    })
}

fn struct_(tokens: &[Token<'_>], at: usize) -> Option<Struct> {
    let after = after_generics(tokens, at + 2);
    let open = if tokens.get(after)?.is("(") {
        Some(after)
    } else {
        body(tokens, after)
    };
    let fields = open.map_or(0, |open| {
        split_commas(&tokens[open + 1..closing(tokens, open)]).len()
    });
    Some(Struct {
        name: tokens[at + 1].text.to_owned(),
        line: tokens[at].line,
        fields,
    })
}

/// Token ranges of `impl Trait for Type { .. }`.
fn trait_impls(tokens: &[Token<'_>]) -> Vec<RangeInclusive<usize>> {
    let mut ranges = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let begins_item = at == 0
            || ["}", ";", "{", "]", "unsafe"]
                .iter()
                .any(|t| tokens[at - 1].is(t));
        if !token.is("impl") || !begins_item {
            continue;
        }
        let start = after_generics(tokens, at + 1);
        let Some(brace) = body(tokens, start) else {
            continue;
        };
        // `for<'a>` inside a bound is not the `for` of the impl.
        let names_trait = tokens[start..brace]
            .windows(2)
            .any(|pair| pair[0].is("for") && !pair[1].is("<"));
        if names_trait {
            ranges.push(brace..=closing(tokens, brace));
        }
    }
    ranges
}

/// Index behind `<...>`, if that stands at `at`; else `at`.
fn after_generics(tokens: &[Token<'_>], at: usize) -> usize {
    if !tokens.get(at).is_some_and(|t| t.is("<")) {
        return at;
    }
    let mut open: Vec<&str> = Vec::new();
    for (index, token) in tokens.iter().enumerate().skip(at) {
        nest(&mut open, token);
        if open.is_empty() {
            return index + 1;
        }
    }
    tokens.len()
}

/// Index of the `{` of an item whose head goes on at `at`; `None` if it ends with `;`.
fn body(tokens: &[Token<'_>], mut at: usize) -> Option<usize> {
    while let Some(token) = tokens.get(at) {
        match token.text {
            "{" if token.kind == Kind::Punctuation => return Some(at),
            ";" if token.kind == Kind::Punctuation => return None,
            "(" | "[" => at = closing(tokens, at) + 1,
            _ => at += 1,
        }
    }
    None
}

/// Keeps the stack of open brackets. `<` opens only in types: not in `[u8; 1 << 4]`, and `->` is a token of its own.
fn nest<'a>(open: &mut Vec<&'a str>, token: &Token<'a>) {
    if token.kind != Kind::Punctuation {
        return;
    }
    match token.text {
        "(" | "[" | "{" => open.push(token.text),
        "<" if open.last() != Some(&"[") => open.push(token.text),
        ">" if open.last() == Some(&"<") => drop(open.pop()),
        ")" | "]" | "}" => drop(open.pop()),
        _ => {}
    }
}

/// `self`, `&'a mut self`, `self: Arc<Self>`; not `x: self::Type`.
fn is_self(argument: &[Token<'_>]) -> bool {
    argument
        .iter()
        .take_while(|t| !t.is(":"))
        .any(|t| t.is("self"))
}

fn is_test_attribute(tokens: &[Token<'_>]) -> bool {
    let starts = |words: &[&str]| {
        words.len() <= tokens.len() && words.iter().zip(tokens).all(|(word, token)| token.is(word))
    };
    starts(&["#", "[", "cfg", "(", "test", ")"])
        || starts(&["#", "[", "cfg", "(", "all", "(", "test"])
}

/// Is this token part of `pub` or `pub(crate)`?
fn is_visibility(tokens: &[Token<'_>], at: usize) -> bool {
    ["pub", "(", ")", "crate", "super"]
        .iter()
        .any(|t| tokens[at].is(t))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::tokens;

    #[test]
    fn a_function_runs_from_its_keyword_to_its_brace() {
        let found = functions(&tokens(
            "\nfn a(x: u8) -> [u8; 2] {\n  if x { \"}\" }\n}\nfn b();",
        ));
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].name.as_str(), &found[0].lines), ("a", &(2..=4)));
        assert_eq!(found[1].lines, 5..=5);
    }

    #[test]
    fn arguments_are_counted_without_self_and_within_brackets() {
        let code = "fn f<F: Fn(u8, u8) -> u8>(&mut self, a: (u8, u8), b: HashMap<K, V>, c: [u8; 1 << 4],) {}";
        assert_eq!(functions(&tokens(code))[0].arguments, 3);
        assert_eq!(
            functions(&tokens("fn f(self: Arc<Self>, x: self::T) {}"))[0].arguments,
            1
        );
        assert_eq!(functions(&tokens("fn f() {}"))[0].arguments, 0);
    }

    #[test]
    fn a_pointer_type_is_no_function() {
        assert!(functions(&tokens("type F = fn(u8) -> u8;")).is_empty());
    }

    #[test]
    fn a_trait_fixes_the_signatures_of_its_impls_only() {
        let code = "impl<T: Into<u8>> Foo for T where for<'a> T: X<'a> { fn a() {} }\n\
                    impl Foo<for<'a> fn(&'a u8)> { fn b() {} } fn c(x: impl Foo) {}";
        let imposed: Vec<bool> = functions(&tokens(code)).iter().map(|f| f.imposed).collect();
        assert_eq!(imposed, [true, false, false]);
    }

    #[test]
    fn fields_are_counted_in_each_form_of_struct() {
        let code = "struct A; struct B(u8, Vec<(u8, u8)>); struct C<T> where T: Fn(u8) { a: u8, #[x(1, 2)] b: T }";
        let fields: Vec<usize> = structs(&tokens(code)).iter().map(|s| s.fields).collect();
        assert_eq!(fields, [0, 2, 2]);
    }

    #[test]
    fn a_test_module_ends_where_its_brace_does() {
        let code =
            "fn a() {}\n#[cfg(test)]\n#[allow(x)]\npub(crate) mod tests {\n mod b {}\n}\nfn c() {}";
        assert_eq!(test_modules(&tokens(code)), [2..=6]);
        assert!(test_modules(&tokens("#[cfg(test)]\nmod tests;\nfn a() {}")).is_empty());
        assert!(test_modules(&tokens("#[cfg(test)]\nfn a() {}")).is_empty());
    }
}
