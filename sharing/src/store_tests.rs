use mesh_wire::NodeId;

use super::*;

const BOB: Grantee = Grantee::Peer(NodeId::from_bytes([1; 32]));

async fn store(folder: &Path) -> ShareStore {
    ShareStore::open(&folder.join("shares.db")).await.unwrap()
}

#[tokio::test]
async fn shares_and_rights_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let grants = [Grant {
        peer: Grantee::All,
        rw: false,
    }];
    let before = {
        let store = store(folder.path()).await;
        store.add("Docs", folder.path(), &grants).await.unwrap();
        store
            .grant(
                "docs",
                Grant {
                    peer: BOB,
                    rw: true,
                },
            )
            .await
            .unwrap();
        store.list()
    };
    assert_eq!(before[0].name, "Docs");
    assert_eq!(before[0].grants.len(), 2);
    assert_eq!(store(folder.path()).await.list(), before);
}

#[tokio::test]
async fn a_name_is_taken_in_any_case_and_free_again_after_removal() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path()).await;
    store.add("Docs", folder.path(), &[]).await.unwrap();
    let error = store.add("dOCs", folder.path(), &[]).await.unwrap_err();
    assert!(matches!(error, StoreError::NameTaken(_)), "{error}");
    store.remove("DOCS").await.unwrap();
    assert!(matches!(
        store.remove("docs").await,
        Err(StoreError::NoSuchShare(_))
    ));
    store.add("dOCs", folder.path(), &[]).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_shared_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path()).await;
    let file = folder.path().join("shares.db");
    for path in [folder.path().join("absent"), file] {
        let error = store.add("x", &path, &[]).await.unwrap_err();
        assert!(
            matches!(error, StoreError::NoSuchDirectory { .. }),
            "{error}"
        );
        assert!(
            error.to_string().contains(&path.display().to_string()),
            "{error}"
        );
        let is_there = path.exists();
        assert_eq!(
            error.to_string().contains("it is not a directory"),
            is_there,
            "{error}"
        );
    }
    let error = store.add(".mesh", folder.path(), &[]).await.unwrap_err();
    assert!(matches!(error, StoreError::BadName { .. }), "{error}");
    assert!(store.list().is_empty());
}

#[tokio::test]
async fn nobody_else_on_the_machine_reads_who_shares_what() {
    let folder = tempfile::tempdir().unwrap();
    // Of a time when others could.
    std::fs::write(folder.path().join("shares.db"), []).unwrap();
    let store = store(folder.path()).await;
    store.add("a", folder.path(), &[]).await.unwrap();
    let mut beside = 0;
    for entry in folder.path().read_dir().unwrap() {
        platform::files::check_secret_mode(&entry.unwrap().path()).unwrap();
        beside += 1;
    }
    assert!(beside >= 2, "the file and its log");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_told_from_one_that_cannot_be_opened() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shares.db");
    std::fs::write(&file, [0xa5; 8192]).unwrap();
    let error = ShareStore::open(&file).await.unwrap_err();
    assert!(error.is_damage(), "{error}");
    let error = ShareStore::open(&folder.path().join("absent/shares.db"))
        .await
        .unwrap_err();
    assert!(!error.is_damage(), "{error}");
}

#[tokio::test]
async fn a_grant_is_replaced_not_doubled_and_goes_with_its_share() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path()).await;
    store
        .add(
            "a",
            folder.path(),
            &[Grant {
                peer: BOB,
                rw: true,
            }],
        )
        .await
        .unwrap();
    let info = store
        .grant(
            "A",
            Grant {
                peer: BOB,
                rw: false,
            },
        )
        .await
        .unwrap();
    assert_eq!(
        info.grants,
        [Grant {
            peer: BOB,
            rw: false
        }]
    );
    store.remove("a").await.unwrap();
    let info = store.add("a", folder.path(), &[]).await.unwrap();
    assert_eq!(info.grants, []);
    let error = store.revoke("a", BOB).await.unwrap_err();
    assert!(matches!(error, StoreError::NoSuchGrant { .. }), "{error}");
}

#[tokio::test]
async fn a_vanished_directory_is_a_problem_until_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let shared = folder.path().join("usb");
    std::fs::create_dir(&shared).unwrap();
    let store = store(folder.path()).await;
    store.add("stick", &shared, &[]).await.unwrap();
    assert_eq!(store.problems().await, []);
    std::fs::remove_dir(&shared).unwrap();
    assert_eq!(store.problems().await[0].share, "stick");
    std::fs::create_dir(&shared).unwrap();
    assert_eq!(store.problems().await, []);
}

#[tokio::test]
async fn no_share_shows_the_private_directory_under_any_of_its_names() {
    let root = tempfile::tempdir().unwrap();
    let state = root.path().join("state");
    for folder in ["state/discovery", "state-of-the-art", "docs"] {
        std::fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    let link = root.path().join("link");
    std::os::unix::fs::symlink(&state, &link).unwrap();
    let store = store(&state).await.keeping_private(&link);
    let refused = [
        Path::new("/").to_owned(),
        root.path().to_owned(),
        state.clone(),
        state.join("discovery"),
        link.clone(),
        link.join("discovery"),
        root.path().join("docs/../state"),
    ];
    for path in refused {
        let error = store.add("it", &path, &[]).await.unwrap_err();
        assert!(matches!(error, StoreError::Private { .. }), "{error}");
    }
    for (name, folder) in [("art", "state-of-the-art"), ("docs", "docs")] {
        store
            .add(name, &root.path().join(folder), &[])
            .await
            .unwrap();
    }
}
