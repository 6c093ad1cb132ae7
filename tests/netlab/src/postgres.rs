//! How does a machine of the lab get a PostgreSQL server of its own?

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};

use crate::{Host, Process};

/// Making the database's directory takes a second or two on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A PostgreSQL server on the loopback interface of a machine.
#[derive(Debug)]
pub struct Postgres {
    pub process: Process,
    database: String,
}

impl Postgres {
    /// Starts one with its data in the machine's directory.
    pub fn start(host: &Host) -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/with-postgres.sh");
        let mut command = host.command(script);
        command
            .args([
                "sh",
                "-c",
                "echo \"at $MESHD_TEST_POSTGRES\"; exec sleep infinity",
            ])
            .env("TMPDIR", host.dir());
        let process = host.spawn_command(command)?;
        let line = process.wait_for_line("at postgres://", START_LIMIT)?;
        let url = line.strip_prefix("at ").context("no URL in the line")?;
        Ok(Self {
            process,
            database: format!("{url}/postgres"),
        })
    }

    /// The URL of a database that is there from the start.
    pub fn database(&self) -> &str {
        &self.database
    }
}
