use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
    sync::Arc,
};

use sharing::{Grant, Grantee};

use crate::site::{BOB, Site, connect, members, node, noise};

/// Far more than socket buffers hold, so that most of it is unread when the change comes.
const SIZE: usize = 64 * 1024 * 1024;

/// Begins to download `big.bin`, lets `change` happen, reads on, and returns what came behind the header.
fn download_during(site: &Site, content: &[u8], change: impl FnOnce(&Path)) -> Vec<u8> {
    let path = site.file("big.bin", content);
    let mut stream = connect(BOB, site.mesh);
    write!(
        stream,
        "GET /docs/big.bin HTTP/1.1\r\nHost: {}\r\n\r\n",
        site.mesh
    )
    .unwrap();
    let mut got = vec![0; 64 * 1024];
    stream.read_exact(&mut got).unwrap();
    change(&path);
    // The server may end with a reset; what counts is what arrived.
    let _ = stream.read_to_end(&mut got);
    let header = got
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap();
    let text = String::from_utf8_lossy(&got[..header]).to_ascii_lowercase();
    assert!(text.contains(&format!("content-length: {SIZE}")), "{text}");
    got.split_off(header + 4)
}

/// A broken transfer: shorter than promised, and not one byte that was not in the old file.
fn assert_broken(got: &[u8], content: &[u8]) {
    assert!(got.len() < content.len(), "the whole length arrived");
    assert!(
        got == &content[..got.len()],
        "bytes of another version arrived"
    );
}

#[test]
fn a_file_rewritten_in_place_breaks_the_download() {
    let (site, content) = (Site::new(), noise(SIZE));
    let got = download_during(&site, &content, |path| {
        let mut file = File::options().write(true).open(path).unwrap();
        file.seek(SeekFrom::Start(SIZE as u64 / 2)).unwrap();
        file.write_all(&[0; 4096]).unwrap();
    });
    assert_broken(&got, &content);
}

#[test]
fn a_change_with_its_time_set_back_breaks_the_download_too() {
    let (site, content) = (Site::new(), noise(SIZE));
    let got = download_during(&site, &content, |path| {
        let mut file = File::options().write(true).open(path).unwrap();
        let before = file.metadata().unwrap().modified().unwrap();
        file.seek(SeekFrom::End(-4096)).unwrap();
        file.write_all(&[0; 4096]).unwrap();
        file.set_modified(before).unwrap();
    });
    assert_broken(&got, &content);
}

#[test]
fn a_truncated_file_breaks_the_download_and_is_never_padded() {
    let (site, content) = (Site::new(), noise(SIZE));
    let got = download_during(&site, &content, |path| {
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_len(1024)
            .unwrap();
    });
    assert_broken(&got, &content);
}

#[test]
fn an_appended_file_breaks_the_download() {
    let (site, content) = (Site::new(), noise(SIZE));
    let got = download_during(&site, &content, |path| {
        File::options()
            .append(true)
            .open(path)
            .unwrap()
            .write_all(b"more")
            .unwrap();
    });
    assert_broken(&got, &content);
}

#[test]
fn a_file_replaced_by_rename_never_mixes() {
    let (site, content) = (Site::new(), noise(SIZE));
    let got = download_during(&site, &content, |path| {
        let other = path.with_extension("new");
        std::fs::write(&other, vec![0; SIZE]).unwrap();
        std::fs::rename(&other, path).unwrap();
    });
    assert!(
        got == content[..got.len()],
        "bytes of another version arrived"
    );
}

#[test]
fn curl_reports_a_broken_transfer_as_an_error() {
    let (site, content) = (Site::new(), noise(SIZE));
    let path = site.file("big.bin", &content);
    let got = std::thread::scope(|scope| {
        let download = scope.spawn(|| site.curl("/docs/big.bin", &["--limit-rate", "16M"]));
        std::thread::sleep(std::time::Duration::from_millis(500));
        File::options()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"more")
            .unwrap();
        download.join().unwrap()
    });
    assert_eq!(
        (got.code, got.status),
        (18, 200),
        "18 is curl's partial file"
    );
    assert_broken(&got.body, &content);
}

#[test]
fn a_right_taken_back_ends_the_download() {
    let (site, content) = (Site::new(), noise(SIZE));
    let got = download_during(&site, &content, |_| {
        site.block_on(site.store.revoke("docs", Grantee::Peer(node(1))))
            .unwrap();
    });
    assert_broken(&got, &content);
}

#[test]
fn a_share_removed_ends_the_download() {
    let (site, content) = (Site::new(), noise(SIZE));
    let got = download_during(&site, &content, |_| {
        site.block_on(site.store.remove("docs")).unwrap()
    });
    assert_broken(&got, &content);
}

#[test]
fn an_address_that_changes_hands_ends_its_connections() {
    let (site, content) = (Site::new(), noise(SIZE));
    let everyone = Grant {
        peer: Grantee::All,
        rw: false,
    };
    site.block_on(site.store.grant("docs", everyone)).unwrap();
    let mut idle = connect(BOB, site.mesh);
    let request = format!("HEAD /docs/ HTTP/1.1\r\nHost: {}\r\n\r\n", site.mesh);
    idle.write_all(request.as_bytes()).unwrap();
    let mut answer = [0; 2048];
    assert!(idle.read(&mut answer).unwrap() > 0);
    let got = download_during(&site, &content, |_| {
        site.directory
            .send_replace(Arc::new(members(&[("carol", 3, BOB)])));
    });
    assert_broken(&got, &content);
    // A connection that was open before is closed without an answer; a new one is Carol's.
    let _ = idle.write_all(request.as_bytes());
    assert_eq!(idle.read(&mut answer).unwrap_or(0), 0);
    assert_eq!(site.curl("/docs/", &[]).status, 200);
}
