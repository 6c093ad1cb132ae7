//! How do the command line and the daemon of one machine find each other?
//!
//! By a Unix socket in the state directory that only its owner may open. Systems without Unix sockets in tokio
//! get an error that says so.

#[cfg(not(unix))]
pub use absent::{Listener, Stream, connect};
#[cfg(unix)]
pub use unix::{Listener, Stream, connect};

#[cfg(unix)]
mod unix {
    use std::{
        fs, io,
        os::unix::fs::{MetadataExt, PermissionsExt},
        path::{Path, PathBuf},
    };

    use tokio::net::{UnixListener, UnixStream};

    /// One connection.
    pub type Stream = UnixStream;

    /// A bound socket; its file goes when this is dropped.
    #[derive(Debug)]
    pub struct Listener {
        inner: UnixListener,
        path: PathBuf,
        owner: u32,
    }

    impl Listener {
        /// Binds `path` with mode 0600, in place of the file that a killed daemon may have left. The caller holds
        /// the lock of the state directory, so no live daemon listens there.
        pub fn bind(path: &Path) -> io::Result<Self> {
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

        /// The next connection and the user id of its other end.
        pub async fn accept(&self) -> io::Result<(Stream, u32)> {
            let (stream, _) = self.inner.accept().await?;
            let uid = stream.peer_cred()?.uid();
            Ok((stream, uid))
        }

        /// The user that the daemon runs as.
        pub fn owner(&self) -> u32 {
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

    /// Connects to the daemon that listens at `path`.
    pub async fn connect(path: &Path) -> io::Result<Stream> {
        UnixStream::connect(path).await
    }

    fn remove_if_there(path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

#[cfg(not(unix))]
mod absent {
    use std::{io, path::Path};

    /// One connection; there is none on this system.
    pub type Stream = tokio::net::TcpStream;

    /// A bound socket; there is none on this system.
    #[derive(Debug)]
    pub struct Listener(std::convert::Infallible);

    impl Listener {
        /// Fails: this system has no Unix sockets.
        pub fn bind(_: &Path) -> io::Result<Self> {
            Err(unsupported())
        }

        /// Never called: no listener exists.
        pub async fn accept(&self) -> io::Result<(Stream, u32)> {
            match self.0 {}
        }

        /// Never called: no listener exists.
        pub fn owner(&self) -> u32 {
            match self.0 {}
        }
    }

    /// Fails: this system has no Unix sockets.
    #[expect(clippy::unused_async, reason = "the same shape as on Unix")]
    pub async fn connect(_: &Path) -> io::Result<Stream> {
        Err(unsupported())
    }

    fn unsupported() -> io::Error {
        io::Error::new(
            io::ErrorKind::Unsupported,
            "this system has no Unix sockets",
        )
    }
}
