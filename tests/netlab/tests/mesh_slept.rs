//! Does a machine that slept notice, whatever its daemon has to do? How soon streams go on after it is in `mesh_roam.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, time::Duration};

use netlab::{Lab, SleepClock, wait_until};

/// A daemon with nothing to do looks at the clock every 20 s.
const LIMIT: Duration = Duration::from_secs(30);
const NIGHT: Duration = Duration::from_secs(8 * 3600);

/// Nobody was ever there, and its only server, which is its own, has no STUN and no TURN for it.
#[test]
fn a_machine_that_is_alone_notices_each_sleep_once_however_many_data_threads_there_are() {
    let lab = Lab::new("slept").unwrap();
    let host = lab.internet().public_host("alone").unwrap();
    let file = host.dir().join("mesh.yaml");
    fs::write(&file, "mesh: {device: {threads: 3}}").unwrap();
    let arguments = ["--config", file.to_str().unwrap(), "--name", "alone"];
    let (mut clock, alone) = SleepClock::start_with(&host, &arguments).unwrap();
    wait_until("it is connected", LIMIT, || alone.is_connected()).unwrap();
    for nights in 1..=2 {
        clock.jump(NIGHT).unwrap();
        let told = || {
            let log = alone.process.log();
            log.matches("this machine was asleep").count()
        };
        wait_until("it notices", LIMIT, || Ok(told() >= nights)).unwrap();
        // As long as the last thread may take.
        std::thread::sleep(Duration::from_secs(21));
        assert_eq!(told(), nights, "{}", alone.process.log());
    }
    wait_until("it is connected", LIMIT, || alone.is_connected()).unwrap();
}
