use super::*;
use crate::config::KEYS;

fn read_text(text: &str) -> Result<RawConfig, Problem> {
    let variable = |name: &str| match name {
        "TRICK" => Some("x\", 'y': [&a, *b]\n- # {".to_owned()),
        "NUMBER" => Some("7090".to_owned()),
        _ => None,
    };
    parse_text(Path::new("m.yaml"), text, &variable)
}

fn problem_of(text: &str) -> Problem {
    read_text(text).expect_err(text)
}

#[test]
fn an_empty_file_and_an_empty_section_say_nothing() {
    for text in [
        "",
        "# only a comment\n",
        "---\n",
        "mesh:\n",
        "mesh:\n  device:\n",
        "shares:\n",
        "mesh: {}\n",
    ] {
        let raw = read_text(text).expect(text);
        assert!(raw.mesh.device.name.is_none() && raw.shares.is_empty());
    }
}

#[test]
fn a_scalar_keeps_its_spelling_and_its_line() {
    let raw = read_text("mesh:\n  network_id: 007\n  listen_port: \"7081\"\n").unwrap();
    let id = raw.mesh.network_id.unwrap();
    assert_eq!((id.value.as_str(), id.line()), ("007", 2));
    let port = raw.mesh.listen_port.unwrap();
    assert_eq!((port.value.as_str(), port.line()), ("7081", 3));
}

#[test]
fn a_misspelt_key_names_its_line_and_the_nearest_key() {
    for (text, line, key, nearest) in [
        (
            "mesh:\n  conection:\n    direct_connect: true\n",
            2,
            "conection",
            "`connection`",
        ),
        (
            "mesh:\n  enabled: true\n  listen-port: 1\n",
            3,
            "listen-port",
            "`listen_port`",
        ),
        ("mesh:\n  device:\n    nmae: mesh1\n", 3, "nmae", "`name`"),
        ("mehs:\n", 1, "mehs", "`mesh`"),
        (
            "mesh:\n  turn:\n    servers:\n      - uri: turn:a\n",
            4,
            "uri",
            "`url`",
        ),
        (
            "shares:\n  - name: a\n    paths: /a\n",
            3,
            "paths",
            "`path`",
        ),
    ] {
        let problem = problem_of(text);
        assert_eq!(problem.code, "config-unknown-key", "{problem}");
        assert!(
            problem.title.contains(&format!("line {line}:")),
            "{problem}"
        );
        assert!(problem.title.contains(&format!("`{key}`")), "{problem}");
        assert!(problem.fix.contains(nearest), "{problem}");
    }
}

#[test]
fn a_key_at_the_wrong_level_is_told_its_section() {
    let problem = problem_of("mesh:\nenabled: true\n");
    assert!(problem.title.contains("line 2:"), "{problem}");
    assert!(problem.fix.contains("`mesh`"), "{problem}");
    let problem = problem_of("mesh:\n  heartbeat_interval: 30s\n");
    assert!(problem.fix.contains("`mesh.discovery`"), "{problem}");
    let problem = problem_of("mesh:\n  log:\n    level: info\n");
    assert!(problem.fix.contains("top level"), "{problem}");
}

#[test]
fn a_key_like_no_other_gets_no_guess() {
    let problem = problem_of("mesh:\n  zzzzzzzz: 1\n");
    assert!(!problem.fix.contains("did you mean"), "{problem}");
}

#[test]
fn a_key_that_stands_twice_is_refused_with_its_line() {
    let problem = problem_of("mesh:\n  listen_port: 1\n  listen_port: 2\n");
    assert_eq!(problem.code, "config-invalid");
    assert!(problem.detail.starts_with("line 3:"), "{problem}");
    assert!(problem.detail.contains("`listen_port`"), "{problem}");
}

#[test]
fn a_value_of_the_wrong_shape_is_refused_with_its_line_and_not_shown() {
    for (text, line, shape) in [
        ("mesh:\n  device: hunter2\n", 2, "a section"),
        ("mesh: [hunter2]\n", 1, "a section"),
        ("mesh:\n  stun:\n    servers: hunter2\n", 3, "a list"),
        ("mesh:\n  network_id: [hunter2]\n", 2, "a single value"),
        (
            "mesh:\n  network_id:\n    hunter2: 1\n",
            3,
            "a single value",
        ),
    ] {
        let problem = problem_of(text);
        assert_eq!(problem.code, "config-invalid", "{problem}");
        assert!(
            problem.detail.starts_with(&format!("line {line}:")),
            "{text}{problem}"
        );
        assert!(problem.detail.contains(shape), "{text}{problem}");
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }
}

#[test]
fn broken_yaml_is_refused_with_its_line() {
    for (text, line) in [
        ("mesh:\n  enabled: \"true\n", 3),
        ("mesh: {enabled: true\n", 1),
        ("mesh:\n\tenabled: true\n", 2),
        ("mesh: *nobody\n", 1),
    ] {
        let problem = problem_of(text);
        assert_eq!(problem.code, "config-invalid", "{problem}");
        assert!(
            problem.detail.starts_with(&format!("line {line}:")),
            "{text}{problem}"
        );
    }
}

#[test]
fn a_missing_variable_names_its_line_and_itself_and_all_are_listed() {
    let problem = problem_of(
        "mesh:\n  network_id: ${NET}\n  turn:\n    servers:\n      - password: \"${PASS}\"\n",
    );
    assert_eq!(problem.code, "config-missing-variable");
    assert!(
        problem
            .detail
            .contains("line 2: the environment variable NET"),
        "{problem}"
    );
    assert!(
        problem
            .detail
            .contains("line 5: the environment variable PASS"),
        "{problem}"
    );
}

#[test]
fn a_malformed_reference_names_its_line() {
    let problem = problem_of("mesh:\n  network_id: \"${\"\n");
    assert_eq!(problem.code, "config-invalid");
    assert!(problem.detail.starts_with("line 2:"), "{problem}");
}

#[test]
fn a_variable_with_yaml_in_its_value_stays_one_string() {
    for text in [
        "mesh:\n  network_id: ${TRICK}\n",
        "mesh:\n  network_id: \"${TRICK}\"\n",
        "mesh:\n  network_id: '${TRICK}'\n",
        "mesh: {network_id: \"${TRICK}\"}\n",
        "mesh:\n  network_id: |-\n    ${TRICK}\n",
    ] {
        let raw = read_text(text).expect(text);
        assert_eq!(
            raw.mesh.network_id.unwrap().value,
            "x\", 'y': [&a, *b]\n- # {"
        );
        assert!(raw.mesh.name.is_none());
    }
}

#[test]
fn a_variable_can_be_a_number() {
    let raw = read_text("mesh:\n  listen_port: ${NUMBER}\n").unwrap();
    assert_eq!(raw.mesh.listen_port.unwrap().value, "7090");
}

#[test]
fn every_key_expands_variables() {
    for key in KEYS {
        let text = yaml_with(key.path, "\"${NOWHERE}\"");
        let problem = read_text(&text).expect_err(&text);
        assert_eq!(problem.code, "config-missing-variable", "{text}{problem}");
    }
}

#[test]
fn the_key_table_and_the_reader_know_the_same_keys() {
    let mut levels: Vec<&str> = vec![""];
    for key in KEYS {
        let mut level = key.path;
        while let Some((parent, _)) = level.rsplit_once('.') {
            levels.push(parent);
            level = parent;
        }
    }
    levels.sort_unstable();
    levels.dedup();
    for level in levels {
        let probe = if level.is_empty() {
            "zzz".to_owned()
        } else {
            format!("{level}.zzz")
        };
        let text = yaml_with(&probe, "1");
        let error = serde_saphyr::from_str_with_options::<RawConfig>(&text, options()).unwrap_err();
        let Error::SerdeUnknownField { expected, .. } = error.without_snippet() else {
            panic!("{text}{error}");
        };
        let mut known: Vec<String> = expected.iter().map(|key| (*key).to_owned()).collect();
        let mut listed: Vec<String> = KEYS
            .iter()
            .filter_map(|key| child_of(level, key.path))
            .collect();
        known.sort();
        listed.dedup();
        listed.sort();
        listed.dedup();
        assert_eq!(known, listed, "below `{level}`");
    }
}

#[test]
fn a_password_is_not_in_the_debug_output() {
    let raw =
        read_text("mesh:\n  turn:\n    servers:\n      - url: turn:a\n        password: hunter2\n")
            .unwrap();
    let shown = format!("{raw:?}");
    assert!(
        shown.contains("turn:a") && !shown.contains("hunter2"),
        "{shown}"
    );
}

#[test]
fn a_file_of_more_than_a_mebibyte_is_refused_unread() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("big.yaml");
    std::fs::write(&path, vec![b'#'; 1024 * 1024 + 1]).unwrap();
    assert_eq!(load(&path).unwrap_err().code, "config-too-large");
    std::fs::write(&path, vec![b'#'; 1024 * 1024]).unwrap();
    assert!(load(&path).is_ok());
}

#[test]
fn a_file_that_is_not_utf8_is_refused_with_the_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("latin1.yaml");
    std::fs::write(&path, b"mesh:\n  name: \xe9\n").unwrap();
    let problem = load(&path).unwrap_err();
    assert!(problem.detail.starts_with("line 2:"), "{problem}");
}

#[test]
fn only_the_default_file_may_be_absent() {
    let nowhere = Path::new("/nonexistent/meshd.yaml");
    assert_eq!(load(nowhere).unwrap_err().code, "config-unreadable");
    assert!(load_if_present(nowhere).is_ok());
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(
        load_if_present(directory.path()).unwrap_err().code,
        "config-unreadable"
    );
}

/// A file that says only `path: value`; a list gets one item.
fn yaml_with(path: &str, value: &str) -> String {
    let mut text = String::new();
    let mut indent = 0;
    let mut item = false;
    for segment in path.split('.') {
        let name = segment.trim_end_matches("[]");
        let lead = if item {
            format!("{}- ", " ".repeat(indent - 2))
        } else {
            " ".repeat(indent)
        };
        text.push_str(&format!("{lead}{name}:\n"));
        item = segment.ends_with("[]");
        indent += if item { 4 } else { 2 };
    }
    let text = text.trim_end();
    let lists = ["mesh.discovery.servers", "mesh.stun.servers", "shares[].to"];
    if lists.contains(&path) {
        format!("{text} [{value}]\n")
    } else {
        format!("{text} {value}\n")
    }
}

fn child_of(level: &str, path: &str) -> Option<String> {
    let rest = if level.is_empty() {
        path
    } else {
        path.strip_prefix(level)?.strip_prefix('.')?
    };
    let first = rest.split('.').next()?;
    Some(first.trim_end_matches("[]").to_owned())
}
