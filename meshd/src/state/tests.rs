use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
};

use ed25519_dalek::SigningKey;
use mesh_wire::{NodeId, psk::NetworkPsk, trust::Roles};
use tempfile::TempDir;

use super::*;
use crate::trust::{
    anchor::{Anchor, tests as anchor_tests},
    authority::{Authority, Offer},
};

fn fresh() -> (TempDir, StateDir) {
    let root = tempfile::tempdir().unwrap();
    let state = StateDir::open(&root.path().join("state")).unwrap();
    (root, state)
}

fn joined() -> JoinedNetwork {
    let creator_key = SigningKey::from_bytes(&[3; 32]);
    JoinedNetwork {
        id: "home".parse().unwrap(),
        cidr: "10.100.0.0/16".parse().unwrap(),
        server: "http://198.51.100.2:7080/".parse().unwrap(),
        others: vec!["https://b.example/".parse().unwrap()],
        embedded_server: false,
        created: true,
        anchor: Some(Anchor {
            network_key: NodeId::of(&creator_key),
            creator_key: Some(creator_key),
            capability: None,
            certificate: None,
        }),
        psk: NetworkPsk::from_bytes([6; 32]),
        name: "ann".to_owned(),
        virtual_ips: vec!["10.100.0.2".parse().unwrap()],
        seq: 0,
    }
}

fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn code<T: std::fmt::Debug>(result: Result<T, Problem>) -> String {
    result.unwrap_err().code
}

#[test]
fn a_fresh_directory_and_everything_in_it_belong_to_the_owner_alone() {
    let (_root, state) = fresh();
    state.identity().unwrap();
    state.api_token().unwrap();
    state.save_network(&joined()).unwrap();
    state
        .save_directory(&joined().id, &Directory::default())
        .unwrap();
    assert_eq!(mode_of(state.path()), 0o700);
    assert_eq!(mode_of(&state.discovery().unwrap()), 0o700);
    for file in [
        "identity.json",
        "api-token",
        "network.json",
        "directory.json",
        "lock",
    ] {
        assert_eq!(mode_of(&state.path().join(file)), 0o600, "{file}");
    }
}

#[test]
fn a_second_daemon_is_refused_until_the_first_has_gone() {
    let (_root, state) = fresh();
    let path = state.path().to_owned();
    assert_eq!(code(StateDir::open(&path)), "state-locked");
    drop(state);
    assert!(StateDir::open(&path).is_ok());
}

#[test]
fn the_identity_is_made_once_and_then_kept() {
    let (_root, state) = fresh();
    let first = state.identity().unwrap();
    let again = state.identity().unwrap();
    assert_eq!(first.node_id(), again.node_id());
    assert_eq!(first.wireguard_key(), again.wireguard_key());
    assert_eq!(first.wireguard_secret(), again.wireguard_secret());
    let other = Identity::generate().unwrap();
    assert_ne!(first.node_id(), other.node_id());
    assert_ne!(first.wireguard_key(), other.wireguard_key());
}

#[test]
fn the_wireguard_public_key_belongs_to_the_secret() {
    let [a, b] = [Identity::generate().unwrap(), Identity::generate().unwrap()];
    let shared = |own: &Identity, other: &Identity| {
        x25519_dalek::x25519(*own.wireguard_secret(), *other.wireguard_key().as_bytes())
    };
    assert_eq!(shared(&a, &b), shared(&b, &a));
}

#[test]
fn nothing_secret_is_in_debug_output() {
    let (_root, state) = fresh();
    let identity = state.identity().unwrap();
    let token = state.api_token().unwrap();
    let shown = format!("{identity:?} {token:?} {:?}", joined());
    for secret in [
        data_encoding::BASE64.encode(identity.wireguard_secret()),
        format!("{:?}", identity.wireguard_secret()),
        format!("{:?}", identity.signing_key().as_bytes()),
        token.expose().to_owned(),
        joined().psk.to_text(),
        format!("{:?}", [3_u8; 32]),
    ] {
        assert!(!shown.contains(&secret), "{shown}");
    }
    assert!(shown.contains(&identity.node_id().short()), "{shown}");
}

#[test]
fn a_file_with_secrets_that_others_may_read_is_refused_with_the_command_that_mends_it() {
    let (_root, state) = fresh();
    state.identity().unwrap();
    state.api_token().unwrap();
    state.save_network(&joined()).unwrap();
    for mode in [0o640, 0o604, 0o660, 0o606, 0o610] {
        for (file, load) in secret_files() {
            let path = state.path().join(file);
            set_mode(&path, mode);
            let problem = load(&state).unwrap_err();
            assert_eq!(problem.code, "key-file-mode", "{file} {mode:o}");
            let fix = format!("chmod 600 {}", path.display());
            assert!(problem.fix.starts_with(&fix), "{problem}");
            set_mode(&path, 0o600);
            assert!(load(&state).is_ok(), "{file}");
        }
    }
}

#[test]
fn a_file_cut_anywhere_is_a_problem_and_stays_as_it_is() {
    let (_root, state) = fresh();
    state.identity().unwrap();
    state.api_token().unwrap();
    state.save_network(&joined()).unwrap();
    for (file, load) in secret_files() {
        let path = state.path().join(file);
        let whole = fs::read(&path).unwrap();
        // Without its last byte, which is the line's end, each file still says everything.
        for length in 0..whole.len() - 1 {
            fs::write(&path, &whole[..length]).unwrap();
            let problem = load(&state).expect_err(file);
            assert_eq!(
                problem.code, "state-damaged",
                "{file} cut at {length}: {problem}"
            );
            assert_eq!(fs::read(&path).unwrap(), &whole[..length], "{file}");
        }
        fs::write(&path, &whole).unwrap();
        assert!(load(&state).is_ok(), "{file}");
    }
}

#[test]
fn a_damaged_file_is_not_quoted() {
    let (_root, state) = fresh();
    let path = state.path().join("identity.json");
    let text = r#"{"format": "hunter2", "identity_key": "hunter2", "wireguard_key": "hunter2"}"#;
    fs::write(&path, text).unwrap();
    set_mode(&path, 0o600);
    let problem = state.identity().unwrap_err();
    assert_eq!(problem.code, "state-damaged");
    assert!(!problem.to_string().contains("hunter2"), "{problem}");
}

#[test]
fn a_file_of_another_version_is_refused() {
    let (_root, state) = fresh();
    state.identity().unwrap();
    state.save_network(&joined()).unwrap();
    for (file, load) in secret_files()
        .into_iter()
        .filter(|(file, _)| file.ends_with("json"))
    {
        let path = state.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        let later = ["1", "2"].map(|format| format!("\"format\": {format}"));
        let text = later
            .iter()
            .fold(text, |text, of| text.replace(of, "\"format\": 9"));
        fs::write(&path, text).unwrap();
        assert_eq!(load(&state).unwrap_err().code, "state-damaged", "{file}");
    }
}

#[test]
fn a_network_survives_its_file() {
    let (_root, state) = fresh();
    assert_eq!(state.network().unwrap(), None);
    let mut network = joined();
    state.save_network(&network).unwrap();
    assert_eq!(state.network().unwrap().as_ref(), Some(&network));
    let anchor = network.anchor.as_mut().unwrap();
    let key = anchor.creator_key.clone().unwrap();
    let authority = Authority::of_network(anchor.root(&network.id), key);
    let own = anchor_tests::binding(2, Roles::default());
    anchor.creator_key = None;
    anchor.capability = Some(authority.invite(&Offer::default()).unwrap());
    anchor.certificate = Some(authority.certify(&own).unwrap());
    state.save_network(&network).unwrap();
    assert_eq!(state.network().unwrap().as_ref(), Some(&network));
    network.anchor = None;
    network.virtual_ips.clear();
    network.embedded_server = true;
    state.save_network(&network).unwrap();
    assert_eq!(state.network().unwrap(), Some(network));
}

#[test]
fn a_creator_key_of_another_network_is_damage() {
    let (_root, state) = fresh();
    let mut network = joined();
    network.anchor.as_mut().unwrap().network_key = NodeId::from_bytes([9; 32]);
    state.save_network(&network).unwrap();
    assert_eq!(code(state.network()), "state-damaged");
}

#[test]
fn an_altered_network_secret_is_damage() {
    let (_root, state) = fresh();
    state.save_network(&joined()).unwrap();
    let path = state.path().join("network.json");
    let text = fs::read_to_string(&path).unwrap();
    let psk = joined().psk.to_text();
    let altered = format!(
        "{}{}",
        if psk.starts_with('a') { "b" } else { "a" },
        &psk[1..]
    );
    fs::write(&path, text.replace(&psk, &altered)).unwrap();
    let problem = state.network().unwrap_err();
    assert!(problem.detail.contains("psk"), "{problem}");
}

#[test]
fn a_sequence_number_is_on_disk_before_it_is_used() {
    let (_root, state) = fresh();
    let mut network = joined();
    let mut last = 0;
    for _ in 0..5 {
        let seq = state.next_seq(&mut network).unwrap();
        assert!(seq > last);
        assert_eq!(network.seq, seq);
        assert_eq!(state.network().unwrap().unwrap().seq, seq);
        last = seq;
    }
}

#[test]
fn a_sequence_number_that_cannot_be_stored_is_not_used() {
    let (_root, state) = fresh();
    let mut network = joined();
    // A directory in the file's place: renaming a file over it fails, also for root.
    fs::create_dir_all(state.path().join("network.json/x")).unwrap();
    assert_eq!(code(state.next_seq(&mut network)), "state-unwritable");
    assert_eq!(network.seq, 0);
}

#[test]
fn a_lost_network_file_does_not_bring_old_sequence_numbers_back() {
    let (_root, state) = fresh();
    let before = state.next_seq(&mut joined()).unwrap();
    let after = state.next_seq(&mut joined()).unwrap();
    assert!(
        after >= before && before > 1_700_000_000,
        "{before} {after}"
    );
}

#[test]
fn the_directory_is_kept_for_its_network_only() {
    let (_root, state) = fresh();
    let home = joined().id;
    assert_eq!(state.directory(&home).unwrap(), None);
    let directory = Directory {
        revocations: Vec::new(),
        revision: 7,
        peers: Vec::new(),
    };
    state.save_directory(&home, &directory).unwrap();
    assert_eq!(state.directory(&home).unwrap(), Some(directory));
    assert_eq!(state.directory(&"work".parse().unwrap()).unwrap(), None);
    fs::write(state.path().join("directory.json"), "{").unwrap();
    assert_eq!(code(state.directory(&home)), "state-damaged");
}

#[test]
fn the_api_token_is_kept_and_compared_whole() {
    let (_root, state) = fresh();
    let token = state.api_token().unwrap();
    assert_eq!(token.expose().len(), 52);
    assert!(state.api_token().unwrap().matches(token.expose()));
    for wrong in ["", &token.expose()[..51], &format!("{}a", token.expose())] {
        assert!(!token.matches(wrong), "{wrong}");
    }
    assert!(!ApiToken::generate().unwrap().matches(token.expose()));
}

#[test]
fn a_key_file_is_never_made_through_somebody_elses_link() {
    let (root, state) = fresh();
    let target = root.path().join("elsewhere");
    symlink(&target, state.path().join("identity.json")).unwrap();
    assert!(state.identity().is_err());
    assert!(!target.exists());
}

#[test]
fn a_file_too_large_to_be_ours_is_damage() {
    let (_root, state) = fresh();
    let path = state.path().join("network.json");
    let file = fs::File::create(&path).unwrap();
    file.set_len(16 * 1024 * 1024 + 1).unwrap();
    set_mode(&path, 0o600);
    assert_eq!(code(state.network()), "state-damaged");
}

type Load = fn(&StateDir) -> Result<(), Problem>;

fn secret_files() -> [(&'static str, Load); 3] {
    [
        ("identity.json", |state| state.identity().map(drop)),
        ("api-token", |state| state.api_token().map(drop)),
        ("network.json", |state| state.network().map(drop)),
    ]
}

const CRASH_DIRECTORY: &str = "MESHD_TEST_CRASH_DIRECTORY";

#[test]
fn a_daemon_killed_while_it_writes_leaves_a_whole_file_and_no_lock() {
    if let Some(path) = std::env::var_os(CRASH_DIRECTORY) {
        write_until_killed(Path::new(&path));
    }
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("state");
    let mut seq = 0;
    for round in 0..20 {
        let mut writer = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "state::tests::a_daemon_killed_while_it_writes_leaves_a_whole_file_and_no_lock",
            ])
            .env(CRASH_DIRECTORY, &path)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while !grown_beyond(&path, seq) {
            assert_eq!(
                writer.try_wait().unwrap(),
                None,
                "the writer stopped by itself"
            );
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        // A different moment of the write each time.
        std::thread::sleep(std::time::Duration::from_micros(137 * round));
        writer.kill().unwrap();
        writer.wait().unwrap();
        let state = StateDir::open(&path).unwrap();
        let network = state.network().unwrap().unwrap();
        assert!(
            network.seq > seq,
            "round {round}: {} after {seq}",
            network.seq
        );
        seq = network.seq;
    }
}

fn write_until_killed(path: &Path) -> ! {
    let state = StateDir::open(path).unwrap();
    let mut network = state.network().unwrap().unwrap_or_else(joined);
    loop {
        state.next_seq(&mut network).unwrap();
    }
}

fn grown_beyond(path: &Path, seq: u64) -> bool {
    network::load(&path.join("network.json"))
        .unwrap()
        .is_some_and(|network| network.seq > seq)
}

#[test]
fn half_a_file_left_behind_by_a_crash_is_ignored() {
    let (_root, state) = fresh();
    state.save_network(&joined()).unwrap();
    for name in [
        "network.json.tmp",
        ".network.json.tmp",
        "network.tmp",
        "network.json~",
    ] {
        fs::write(state.path().join(name), "{\"format\": 1, \"id\"").unwrap();
    }
    assert_eq!(state.network().unwrap(), Some(joined()));
    let mut network = joined();
    state.next_seq(&mut network).unwrap();
    assert_eq!(state.network().unwrap(), Some(network));
}

#[test]
fn whom_links_have_let_in_is_kept_for_one_network_and_never_guessed() {
    let (_root, state) = fresh();
    let id = joined().id;
    assert_eq!(state.links(&id).unwrap(), Links::default());
    state.save_links(&id, &Links::default()).unwrap();
    assert_eq!(state.links(&id).unwrap(), Links::default());
    fs::write(
        state.path().join("links.json"),
        "{\"network\": \"home\", \"li",
    )
    .unwrap();
    assert_eq!(code(state.links(&id)), "state-damaged");
}
