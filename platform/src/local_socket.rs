//! How do a command and the daemon of one machine find each other, and as whom does the command come?
//!
//! By a Unix socket that only its owner may open. On a system without Unix sockets every call fails with
//! [`std::io::ErrorKind::Unsupported`].

#[cfg(not(unix))]
use absent as system;
#[cfg(unix)]
use unix as system;

use std::{io, path::Path};

/// One connection; `AsyncRead` and `AsyncWrite`.
pub type Stream = system::Stream;

/// A bound socket; its file goes when this is dropped.
#[derive(Debug)]
pub struct Listener(system::Listener);

impl Listener {
    /// Binds `path`, at most about 100 bytes long, with mode 0600, in place of the file that a killed daemon may have
    /// left. The caller holds the lock of the path's directory, so nobody alive listens there. Must be called inside a
    /// tokio runtime.
    pub fn bind(path: &Path) -> io::Result<Self> {
        system::Listener::bind(path).map(Self)
    }

    /// The next connection and the user id of its other end, as the kernel knows it.
    pub async fn accept(&self) -> io::Result<(Stream, u32)> {
        self.0.accept().await
    }

    /// The user id that this process runs as: the only one beside root that may connect.
    pub fn owner(&self) -> u32 {
        self.0.owner()
    }
}

/// Connects to whoever listens at `path`.
pub async fn connect(path: &Path) -> io::Result<Stream> {
    system::connect(path).await
}

#[cfg(unix)]
mod unix {
    use std::{
        fs, io,
        os::unix::fs::{MetadataExt, PermissionsExt},
        path::{Path, PathBuf},
    };

    use tokio::net::{UnixListener, UnixStream};

    pub(super) type Stream = UnixStream;

    #[derive(Debug)]
    pub(super) struct Listener {
        inner: UnixListener,
        path: PathBuf,
        owner: u32,
    }

    impl Listener {
        pub(super) fn bind(path: &Path) -> io::Result<Self> {
            // Bound under another name first: the final name never shows a socket with the wrong mode.
            let unready = path.with_extension("new");
            remove_if_there(&unready)?;
            let inner = UnixListener::bind(&unready)?;
            fs::set_permissions(&unready, fs::Permissions::from_mode(0o600))?;
            let owner = fs::metadata(&unready)?.uid();
            fs::rename(&unready, path)?;
            Ok(Self {
                inner,
                path: path.to_owned(),
                owner,
            })
        }

        pub(super) async fn accept(&self) -> io::Result<(Stream, u32)> {
            let (stream, _) = self.inner.accept().await?;
            let uid = stream.peer_cred()?.uid();
            Ok((stream, uid))
        }

        pub(super) fn owner(&self) -> u32 {
            self.owner
        }
    }

    impl Drop for Listener {
        fn drop(&mut self) {
            if let Err(error) = remove_if_there(&self.path) {
                tracing::warn!(%error, path = %self.path.display(), "cannot remove the socket");
            }
        }
    }

    pub(super) async fn connect(path: &Path) -> io::Result<Stream> {
        UnixStream::connect(path).await
    }

    fn remove_if_there(path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// The same shape where tokio has no Unix sockets. No listener and no connection of these types ever exists.
#[cfg(not(unix))]
mod absent {
    use std::{convert::Infallible, future, io, path::Path};

    pub(super) type Stream = tokio::net::TcpStream;

    #[derive(Debug)]
    pub(super) struct Listener(Infallible);

    impl Listener {
        pub(super) fn bind(_: &Path) -> io::Result<Self> {
            Err(unsupported())
        }

        pub(super) fn accept(&self) -> future::Ready<io::Result<(Stream, u32)>> {
            match self.0 {}
        }

        pub(super) fn owner(&self) -> u32 {
            match self.0 {}
        }
    }

    pub(super) fn connect(_: &Path) -> future::Ready<io::Result<Stream>> {
        future::ready(Err(unsupported()))
    }

    fn unsupported() -> io::Error {
        let text = "this system has no Unix sockets";
        io::Error::new(io::ErrorKind::Unsupported, text)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn both_ends_talk_and_the_listener_knows_who_came() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("it.sock");
        let listener = Listener::bind(&path).expect("bind");
        let (mut ours, accepted) = tokio::join!(connect(&path), listener.accept());
        let ours = ours.as_mut().expect("connect");
        let (mut theirs, uid) = accepted.expect("accept");
        let own = std::fs::metadata(directory.path()).expect("metadata").uid();
        assert_eq!((uid, listener.owner()), (own, own));
        ours.write_all(b"hello").await.expect("write");
        let mut bytes = [0; 5];
        theirs.read_exact(&mut bytes).await.expect("read");
        assert_eq!(&bytes, b"hello");
    }

    #[tokio::test]
    async fn a_socket_is_private_replaces_a_dead_one_and_goes_with_its_listener() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("it.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("dead socket"));
        let error = connect(&path).await.expect_err("nobody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let listener = Listener::bind(&path).expect("bind");
        let metadata = std::fs::metadata(&path).expect("metadata");
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.mode() & 0o777, 0o600);
        connect(&path).await.expect("connect");
        drop(listener);
        let left = std::fs::read_dir(directory.path()).expect("list").count();
        assert_eq!(left, 0);
    }
}
