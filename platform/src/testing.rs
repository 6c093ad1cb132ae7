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

/// Waits until `fd` can be read. A fresh registration tells what is there already.
pub(crate) async fn readable(fd: std::os::fd::BorrowedFd<'_>) {
    let wakes = tokio::io::Interest::READABLE.add(tokio::io::Interest::ERROR);
    // SAFETY: a borrowed descriptor is the same open one for as long as it is borrowed.
    let watched = unsafe { tokio::io::unix::AsyncFd::register_with_interest(fd, wakes) };
    let watched = watched.map_err(std::io::Error::from).expect("watch");
    let _ready = watched.ready(wakes).await.expect("wait");
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

/// Makes an interface with a link (to a nameless neighbour `NAME-far` that never answers).
pub(crate) async fn add_interface(name: &str) {
    let far = format!("{name}-far");
    let netlink = netlink();
    let pair = rtnetlink::LinkVeth::new(name, &far).build();
    let request = netlink.link().add(pair);
    request.execute().await.expect("add interface");
    set_up(&far).await;
    set_up(name).await;
}

/// Adds an IPv4 route through a gateway.
pub(crate) async fn add_route(network: &str, prefix: u8, gateway: &str) {
    let builder = rtnetlink::RouteMessageBuilder::<std::net::Ipv4Addr>::new()
        .destination_prefix(network.parse().expect("an address"), prefix)
        .gateway(gateway.parse().expect("an address"));
    let netlink = netlink();
    let request = netlink.route().add(builder.build());
    request.execute().await.expect("add route");
}

/// The calling thread's network namespace.
pub(crate) fn namespace() -> std::os::fd::OwnedFd {
    std::fs::File::open("/proc/thread-self/ns/net")
        .expect("open the namespace")
        .into()
}

/// Makes a cable from `name` here to `NAME-host` in the namespace `other`, both ends down.
pub(crate) async fn join_with(other: &std::os::fd::OwnedFd, name: &str) {
    use std::os::fd::AsRawFd;
    let far = format!("{name}-host");
    let netlink = netlink();
    let pair = rtnetlink::LinkVeth::new(name, &far).build();
    let request = netlink.link().add(pair);
    request.execute().await.expect("add a pair");
    let link = rtnetlink::LinkUnspec::new_with_index(index_of(&far));
    let moved = link.setns_by_fd(other.as_raw_fd()).build();
    netlink
        .link()
        .set(moved)
        .execute()
        .await
        .expect("move one end");
}

/// Takes CAP_NET_ADMIN from the calling thread only.
pub(crate) fn drop_net_admin() {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let mut sets = capabilities(None).expect("read capabilities");
    sets.effective.remove(CapabilitySet::NET_ADMIN);
    set_capabilities(None, sets).expect("drop CAP_NET_ADMIN");
}
