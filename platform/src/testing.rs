//! Network namespaces for tests: nothing that a test does to interfaces may touch the host.

use std::{net::IpAddr, thread};

/// Runs `test` on a thread of its own inside a fresh network namespace with `lo` up, on a
/// current-thread runtime. Panics (and so fails the test) without root.
pub(crate) fn in_namespace<F, T>(test: F) -> T
where
    F: AsyncFnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    thread::spawn(move || {
        enter_namespace();
        runtime().block_on(async move {
            set_up("lo").await;
            test().await
        })
    })
    .join()
    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Moves the calling thread into a fresh network namespace.
pub(crate) fn enter_namespace() {
    // SAFETY: unshare(2) touches no memory; CLONE_NEWNET affects the calling thread only.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    let error = std::io::Error::last_os_error();
    assert_eq!(
        result, 0,
        "unshare a network namespace (needs root): {error}"
    );
}

/// A runtime whose tasks stay on the calling thread, hence in its namespace.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// An rtnetlink handle in the current thread's namespace. Keep it until the answer is there: the
/// connection ends with its last handle.
pub(crate) fn netlink() -> rtnetlink::Handle {
    let (connection, handle, _) = rtnetlink::new_connection().expect("netlink");
    tokio::spawn(connection);
    handle
}

/// The index of an interface, if there is one of this name.
pub(crate) fn find(name: &str) -> Option<u32> {
    let name = std::ffi::CString::new(name).expect("no NUL in a name");
    // SAFETY: the name is a NUL-terminated string that outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// The index of an interface that exists.
pub(crate) fn index_of(name: &str) -> u32 {
    find(name).expect(name)
}

/// Sets an interface up.
pub(crate) async fn set_up(name: &str) {
    let link = rtnetlink::LinkUnspec::new_with_index(index_of(name));
    let netlink = netlink();
    let request = netlink.link().set(link.up().build());
    request.execute().await.expect("set up");
}

/// Adds an address to an interface.
pub(crate) async fn add_address(name: &str, address: &str, prefix: u8) {
    let address: IpAddr = address.parse().expect("an address");
    let netlink = netlink();
    let request = netlink.address().add(index_of(name), address, prefix);
    request.execute().await.expect("add address");
}
