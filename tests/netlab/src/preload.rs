//! How does something stand between a daemon and the C library? A small library of ours, compiled where it is needed and loaded by
//! LD_PRELOAD.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, ensure};

use crate::{Host, binary};

/// A script that runs `meshd` with the library `name`, whose C source is given; what it is to do stands in a file, which a
/// variable of the environment names.
pub(crate) fn script(
    host: &Host,
    (name, source): (&str, &str),
    (variable, file): (&str, &Path),
) -> Result<PathBuf> {
    let [code, library, script] =
        [".c", ".so", "-meshd"].map(|end| host.dir().join(format!("{name}{end}")));
    fs::write(&code, source)?;
    let mut cc = host.command("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]);
    cc.arg(&library).arg(&code).arg("-ldl");
    let compiled = host.run_command(cc, Duration::from_secs(60))?;
    ensure!(compiled.status.success(), "cc: {}", compiled.stderr);
    let text = format!(
        "#!/bin/sh\nexport LD_PRELOAD={} {variable}={}\nexec {} \"$@\"\n",
        library.display(),
        file.display(),
        binary("meshd")?.display()
    );
    fs::write(&script, text)?;
    fs::set_permissions(&script, Permissions::from_mode(0o755))?;
    Ok(script)
}
