//! What does `${VAR}` mean?
//!
//! `${VAR}` is the variable's value, `${VAR:-text}` is `text` where the variable is unset or empty, `$${` is a
//! literal `${`. This happens to scalars after the YAML was read, quoted or not: whatever the value contains, it
//! stays one string. A value is not expanded again.

use super::{
    place::{Finding, Place},
    raw::RawConfig,
};

/// Where variables are looked up; `None` for one that is not set.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What expansion could not do.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// Line and name of each variable that is not set.
    pub missing: Vec<(u64, String)>,
    /// References that cannot be read.
    pub malformed: Vec<Finding>,
}

/// Expands every scalar in place; what fails is left as it was and listed.
pub(super) fn expand_all(raw: &mut RawConfig, lookup: Lookup<'_>) -> Failures {
    let mut failures = Failures::default();
    raw.each_text(&mut |text| match expand(&text.value, lookup) {
        Ok(expanded) => text.value = expanded,
        Err(Failure::Missing(name)) => failures.missing.push((text.line(), name)),
        Err(Failure::Malformed) => failures.malformed.push(Finding::new(
            Place::Line(text.line()),
            "",
            "has a `${` that is not followed by a name and `}`; write `$${` for the characters themselves",
        )),
    });
    failures.missing.sort();
    failures
}

#[derive(Debug, PartialEq, Eq)]
enum Failure {
    Missing(String),
    Malformed,
}

fn expand(text: &str, lookup: Lookup<'_>) -> Result<String, Failure> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at(at);
        if let Some(escaped) = before.strip_suffix('$') {
            expanded.push_str(escaped);
            expanded.push_str("${");
            rest = reference.get(2..).unwrap_or_default();
            continue;
        }
        expanded.push_str(before);
        let inner = reference.get(2..).ok_or(Failure::Malformed)?;
        let (body, after) = inner.split_once('}').ok_or(Failure::Malformed)?;
        expanded.push_str(&resolve(body, lookup)?);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn resolve(body: &str, lookup: Lookup<'_>) -> Result<String, Failure> {
    let (name, default) = match body.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (body, None),
    };
    if !is_name(name) {
        return Err(Failure::Malformed);
    }
    match (lookup(name), default) {
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Failure::Missing(name.to_owned())),
    }
}

/// A name as POSIX shells write it.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, Failure> {
        expand(text, &|name| match name {
            "USER" => Some("ann".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("a: [\"${USER}\", #'\n- b".to_owned()),
            _ => None,
        })
    }

    #[test]
    fn a_reference_becomes_the_variables_value() {
        assert_eq!(expanded("${USER}").unwrap(), "ann");
        assert_eq!(expanded("a-${USER}-${USER}!").unwrap(), "a-ann-ann!");
        assert_eq!(expanded("plain $USER {x}").unwrap(), "plain $USER {x}");
    }

    #[test]
    fn a_default_stands_in_for_an_unset_or_empty_variable() {
        assert_eq!(expanded("${NONE:-x y}").unwrap(), "x y");
        assert_eq!(expanded("${EMPTY:-x}").unwrap(), "x");
        assert_eq!(expanded("${USER:-x}").unwrap(), "ann");
        assert_eq!(expanded("${NONE:-}").unwrap(), "");
        assert_eq!(expanded("${EMPTY}").unwrap(), "");
    }

    #[test]
    fn a_doubled_dollar_keeps_the_characters() {
        assert_eq!(expanded("$${USER}").unwrap(), "${USER}");
        assert_eq!(expanded("a$${ b").unwrap(), "a${ b");
        assert_eq!(expanded("$${USER} ${USER}").unwrap(), "${USER} ann");
        assert_eq!(expanded("$${{x").unwrap(), "${{x");
    }

    #[test]
    fn a_value_is_taken_as_it_is_and_not_expanded_again() {
        assert_eq!(expanded("${TRICK}").unwrap(), "a: [\"${USER}\", #'\n- b");
    }

    #[test]
    fn an_unset_variable_is_missing_by_name() {
        assert_eq!(
            expanded("x${NONE}"),
            Err(Failure::Missing("NONE".to_owned()))
        );
    }

    #[test]
    fn a_reference_without_a_name_or_an_end_is_malformed() {
        for text in ["${}", "${USER", "${1A}", "${A B}", "${:-x}", "${é}"] {
            assert_eq!(expanded(text), Err(Failure::Malformed), "{text}");
        }
    }
}
