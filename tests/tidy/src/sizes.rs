//! Is a file, function or struct small enough to be read in one go?

use std::ops::RangeInclusive;

use crate::Violation;
use crate::items::{functions, structs, test_modules};
use crate::tokens::tokens;
use crate::tree::{File, Role};

const PRODUCTION_FILE_LINES: usize = 400;
const TEST_FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 60;
const STRUCT_FIELDS: usize = 12;
const ARGUMENTS: usize = 6;

/// Whatever exceeds a cap in one Rust file. Inline test modules and test files beside production code are free.
pub fn check(file: &File) -> Vec<Violation> {
    let cap = match Role::of(&file.path) {
        Role::Production => PRODUCTION_FILE_LINES,
        Role::TestCrate => TEST_FILE_LINES,
        Role::Test => return Vec::new(),
    };
    let tokens = tokens(&file.text);
    let tests = test_modules(&tokens);
    let counts = |line: usize| !tests.iter().any(|range| range.contains(&line));
    let mut found = Vec::new();
    let mut exceeds = |line: usize, what: String, number: usize, cap: usize| {
        if number > cap && counts(line) {
            found.push(Violation::new(
                &file.path,
                line,
                format!("{what}: {number}, at most {cap}"),
            ));
        }
    };
    let test_lines: usize = tests.iter().map(length).sum();
    let lines = file.text.lines().count() - test_lines;
    exceeds(
        0,
        "lines of the file without its test module".to_owned(),
        lines,
        cap,
    );
    for function in functions(&tokens) {
        let line = *function.lines.start();
        let name = &function.name;
        exceeds(
            line,
            format!("lines of fn {name}"),
            length(&function.lines),
            FUNCTION_LINES,
        );
        if !function.imposed {
            exceeds(
                line,
                format!("arguments of fn {name}"),
                function.arguments,
                ARGUMENTS,
            );
        }
    }
    for item in structs(&tokens) {
        exceeds(
            item.line,
            format!("fields of struct {}", item.name),
            item.fields,
            STRUCT_FIELDS,
        );
    }
    found
}

fn length(lines: &RangeInclusive<usize>) -> usize {
    lines.end() - lines.start() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, text: String) -> Vec<String> {
        check(&File {
            path: path.to_owned(),
            text,
        })
        .iter()
        .map(ToString::to_string)
        .collect()
    }

    fn function_of(lines: usize) -> String {
        format!("fn long() {{\n{}}}\n", "    x();\n".repeat(lines - 2))
    }

    #[test]
    fn a_file_over_the_cap_is_named_with_its_length() {
        let text = "// line\n".repeat(401);
        assert_eq!(
            complaints("meshd/src/a.rs", text.clone()),
            ["meshd/src/a.rs:0: lines of the file without its test module: 401, at most 400"]
        );
        assert!(complaints("tests/sim/src/a.rs", text.clone()).is_empty());
        assert_eq!(complaints("tests/sim/src/a.rs", text.repeat(2)).len(), 1);
        assert!(complaints("meshd/src/tests.rs", text).is_empty());
    }

    #[test]
    fn an_inline_test_module_is_not_counted() {
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function_of(300));
        let text = "// line\n".repeat(400) + &tests;
        assert!(complaints("meshd/src/a.rs", text.clone()).is_empty());
        assert_eq!(
            complaints("meshd/src/a.rs", text + "// one more\n").len(),
            1
        );
    }

    #[test]
    fn a_long_function_is_named_with_its_first_line() {
        assert!(complaints("meshd/src/a.rs", function_of(60)).is_empty());
        assert_eq!(
            complaints("meshd/src/a.rs", "\n".to_owned() + &function_of(61)),
            ["meshd/src/a.rs:2: lines of fn long: 61, at most 60"]
        );
    }

    #[test]
    fn a_seventh_argument_is_one_too_many_unless_a_trait_wants_it() {
        let code = "fn f(&self, a: A, b: B, c: C, d: D, e: E, f: F, g: G) {}";
        assert_eq!(complaints("meshd/src/a.rs", code.to_owned()).len(), 1);
        assert!(complaints("meshd/src/a.rs", code.replace(", g: G", "")).is_empty());
        assert!(complaints("meshd/src/a.rs", format!("impl T for S {{ {code} }}")).is_empty());
    }

    #[test]
    fn a_thirteenth_field_is_one_too_many() {
        let fields: String = (0..13).map(|n| format!("f{n}: Map<K, V>,\n")).collect();
        assert_eq!(
            complaints("meshd/src/a.rs", format!("struct S {{\n{fields}}}")),
            ["meshd/src/a.rs:1: fields of struct S: 13, at most 12"]
        );
        let fields = fields.replace("f12: Map<K, V>,\n", "");
        assert!(complaints("meshd/src/a.rs", format!("struct S {{\n{fields}}}")).is_empty());
    }
}
