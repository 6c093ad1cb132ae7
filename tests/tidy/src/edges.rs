//! Do the crates depend on each other in the allowed directions only, and are the pure ones pure?

use serde_json::Value;

use crate::Violation;

/// Each production crate and those of ours that it may depend on, for building and for its tests alike.
const ALLOWED: [(&str, &[&str]); 6] = [
    ("mesh-wire", &[]),
    ("mesh-core", &["mesh-wire"]),
    ("platform", &[]),
    ("sharing", &["mesh-wire", "platform"]),
    ("discovery-server", &["mesh-wire", "platform"]),
    (
        "meshd",
        &[
            "mesh-core",
            "mesh-wire",
            "platform",
            "sharing",
            "discovery-server",
        ],
    ),
];

const PURE: [&str; 2] = ["mesh-wire", "mesh-core"];

/// Crates that open sockets, read clocks or run tasks.
const IMPURE: [&str; 12] = [
    "tokio",
    "tokio-util",
    "socket2",
    "libc",
    "rustix",
    "nix",
    "quinn-udp",
    "hyper",
    "hyper-util",
    "axum",
    "reqwest",
    "sqlx",
];

/// What is wrong in the output of `cargo metadata --no-deps --format-version 1`.
///
/// # Errors
/// A text, when the output does not have the documented form.
pub fn check(metadata: &str) -> Result<Vec<Violation>, String> {
    let packages = packages(metadata)?;
    let mut found = Vec::new();
    for package in &packages {
        if !package.is_test && !ALLOWED.iter().any(|(name, _)| *name == package.name) {
            found.push(package.violation(
                "",
                "unknown crate: add it and its edges to the list of this check",
            ));
        }
        for dependency in &package.dependencies {
            let target = packages.iter().find(|other| other.name == *dependency);
            if let Some(what) = target.and_then(|target| forbidden(package, target)) {
                found.push(package.violation(dependency, &what));
            }
            if PURE.contains(&package.name.as_str()) && IMPURE.contains(&dependency.as_str()) {
                let what = format!(
                    "{} is pure and must not depend on {dependency}",
                    package.name
                );
                found.push(package.violation(dependency, &what));
            }
        }
    }
    Ok(found)
}

struct Package {
    name: String,
    manifest: String,
    /// The manifest's path relative to the root.
    path: String,
    is_test: bool,
    dependencies: Vec<String>,
}

impl Package {
    fn violation(&self, dependency: &str, what: &str) -> Violation {
        // Without the file the violation still stands, only its line is unknown.
        let text = std::fs::read_to_string(&self.manifest).unwrap_or_default();
        let line = (1..)
            .zip(text.lines())
            .find(|(_, line)| names(line, dependency));
        Violation::new(&self.path, line.map_or(0, |(number, _)| number), what)
    }
}

/// Does a manifest line begin with that dependency (`name = ..` or `name.workspace = ..`)?
fn names(line: &str, dependency: &str) -> bool {
    !dependency.is_empty()
        && line
            .strip_prefix(dependency)
            .is_some_and(|rest| rest.starts_with([' ', '.', '=']))
}

fn forbidden(from: &Package, to: &Package) -> Option<String> {
    if from.is_test {
        return None;
    }
    if to.is_test {
        return Some(format!(
            "{} depends on {}, and only tests may depend on tests",
            from.name, to.name
        ));
    }
    let (_, allowed) = ALLOWED.iter().find(|(name, _)| *name == from.name)?;
    if allowed.contains(&to.name.as_str()) {
        return None;
    }
    Some(format!(
        "{} depends on {}; allowed: {}",
        from.name,
        to.name,
        allowed.join(", ")
    ))
}

fn packages(metadata: &str) -> Result<Vec<Package>, String> {
    let value: Value =
        serde_json::from_str(metadata).map_err(|e| format!("cargo metadata: {e}"))?;
    let root = text(&value, "workspace_root")?;
    list(&value, "packages")?
        .iter()
        .map(|package| parse(package, &root))
        .collect()
}

fn parse(package: &Value, root: &str) -> Result<Package, String> {
    let manifest = text(package, "manifest_path")?;
    let path = manifest
        .strip_prefix(root)
        .unwrap_or(&manifest)
        .trim_start_matches('/')
        .to_owned();
    let dependencies = list(package, "dependencies")?
        .iter()
        .map(|d| text(d, "name"));
    Ok(Package {
        name: text(package, "name")?,
        is_test: path.starts_with("tests/"),
        path,
        manifest,
        dependencies: dependencies.collect::<Result<_, _>>()?,
    })
}

fn text(value: &Value, key: &str) -> Result<String, String> {
    let found = value.get(key).and_then(Value::as_str);
    found
        .map(str::to_owned)
        .ok_or_else(|| format!("cargo metadata: no text `{key}`"))
}

fn list<'v>(value: &'v Value, key: &str) -> Result<&'v Vec<Value>, String> {
    value
        .get(key)
        .and_then(Value::as_array)
        .ok_or_else(|| format!("cargo metadata: no list `{key}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What the check says of a workspace with these packages: directory, name, dependencies.
    fn complaints(packages: &[(&str, &str, &[&str])]) -> Vec<String> {
        let packages: Vec<Value> = packages
            .iter()
            .map(|(directory, name, dependencies)| {
                let dependencies: Vec<Value> =
                    dependencies.iter().map(|d| json!({"name": d})).collect();
                let manifest = format!("/w/{directory}/Cargo.toml");
                json!({"name": name, "manifest_path": manifest, "dependencies": dependencies})
            })
            .collect();
        let metadata = json!({"workspace_root": "/w", "packages": packages}).to_string();
        check(&metadata)
            .unwrap()
            .into_iter()
            .map(|v| v.what)
            .collect()
    }

    #[test]
    fn the_allowed_edges_pass() {
        let packages: [(&str, &str, &[&str]); 4] = [
            ("meshd/wire", "mesh-wire", &["serde"]),
            ("meshd/core", "mesh-core", &["mesh-wire"]),
            ("meshd", "meshd", &["mesh-core", "mesh-wire", "tokio"]),
            ("tests/sim", "sim", &["mesh-core", "libc"]),
        ];
        assert!(complaints(&packages).is_empty());
    }

    #[test]
    fn an_edge_against_the_direction_is_named() {
        let packages: [(&str, &str, &[&str]); 2] = [
            ("platform", "platform", &["mesh-wire"]),
            ("meshd/wire", "mesh-wire", &[]),
        ];
        assert_eq!(
            complaints(&packages),
            ["platform depends on mesh-wire; allowed: "]
        );
    }

    #[test]
    fn only_tests_may_depend_on_a_test_crate() {
        let packages: [(&str, &str, &[&str]); 3] = [
            ("tests/sim", "sim", &[]),
            ("tests/netlab", "netlab", &["sim"]),
            ("sharing", "sharing", &["sim"]),
        ];
        assert_eq!(
            complaints(&packages),
            ["sharing depends on sim, and only tests may depend on tests"]
        );
    }

    #[test]
    fn a_pure_crate_names_no_runtime() {
        for impure in IMPURE {
            assert_eq!(
                complaints(&[("meshd/core", "mesh-core", &[impure])]).len(),
                1
            );
        }
    }

    #[test]
    fn a_crate_that_the_list_does_not_know_is_named() {
        assert_eq!(complaints(&[("newcomer", "newcomer", &[])]).len(), 1);
    }

    #[test]
    fn a_dependency_is_found_in_its_manifest_line() {
        assert!(names("tokio.workspace = true", "tokio"));
        assert!(names("tokio = \"1\"", "tokio"));
        assert!(!names("tokio-util.workspace = true", "tokio"));
    }

    #[test]
    fn output_of_another_form_is_an_error() {
        assert!(check("{}").is_err());
        assert!(check("not JSON").is_err());
    }
}
