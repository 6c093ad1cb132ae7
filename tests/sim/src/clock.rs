//! What time is it in the simulation, for code that asks the operating system?
//!
//! The WireGuard library and `std` read the clock and draw keys through libc. This crate exports the functions they
//! call: a thread that holds a [`VirtualClock`] gets virtual time and seeded bytes, every other one the real ones.
#![allow(
    unsafe_code,
    reason = "a C function is replaced, which cannot be said in safe Rust"
)]

use std::{
    cell::Cell,
    marker::PhantomData,
    sync::atomic::{AtomicPtr, Ordering},
    time::{Duration, Instant},
};

use libc::{c_int, c_long, c_void, clockid_t, timespec};

/// Where virtual monotonic time begins: far enough from zero that code may subtract minutes.
const EPOCH: Duration = Duration::from_secs(1_000_000);
/// 2026-01-01T00:00:00Z, what the wall clock says at the virtual epoch.
const WALL: Duration = Duration::from_secs(1_767_225_600);

#[derive(Clone, Copy)]
struct Virtual {
    since_epoch: Duration,
    random: u64,
}

thread_local! {
    static VIRTUAL: Cell<Option<Virtual>> = const { Cell::new(None) };
}

/// While it lives, time and randomness of this thread are virtual. One per thread.
pub struct VirtualClock {
    /// Keeps it on the thread that it changed.
    not_send: PhantomData<*const ()>,
}

impl VirtualClock {
    /// Stops this thread's clock and seeds its randomness.
    ///
    /// # Panics
    /// If the thread has one already.
    pub fn start(seed: u64) -> Self {
        assert!(
            VIRTUAL.get().is_none(),
            "one virtual clock per thread at a time"
        );
        VIRTUAL.set(Some(Virtual {
            since_epoch: Duration::ZERO,
            random: seed,
        }));
        // Transaction ids of the ICE library come from here.
        fastrand::seed(seed);
        Self {
            not_send: PhantomData,
        }
    }

    /// The time, as `std` shows it on this thread.
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// Lets virtual time pass.
    pub fn advance(&self, by: Duration) {
        if let Some(mut state) = VIRTUAL.get() {
            state.since_epoch += by;
            VIRTUAL.set(Some(state));
        }
    }
}

impl Drop for VirtualClock {
    fn drop(&mut self) {
        VIRTUAL.set(None);
    }
}

/// Replaces libc's function of this name in every binary that links this crate.
///
/// # Safety
/// As for the C function: `time` points to a writable `timespec`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    type Function = unsafe extern "C" fn(clockid_t, *mut timespec) -> c_int;
    static REAL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
    let (Some(state), false) = (VIRTUAL.get(), time.is_null()) else {
        // SAFETY: libc's `clock_gettime` has this signature, and the caller keeps its contract.
        return unsafe {
            std::mem::transmute::<*mut c_void, Function>(next(&REAL, c"clock_gettime"))(clock, time)
        };
    };
    let start = if clock == libc::CLOCK_REALTIME {
        WALL
    } else {
        EPOCH
    };
    let shown = start + state.since_epoch;
    // SAFETY: all-zero bytes are a `timespec`, which on some systems has padding that cannot be named.
    let mut value: timespec = unsafe { std::mem::zeroed() };
    value.tv_sec = shown.as_secs().try_into().unwrap_or(libc::time_t::MAX);
    value.tv_nsec = shown.subsec_nanos().into();
    // SAFETY: the caller promises that `time` is writable; it is not null.
    unsafe { time.write(value) };
    0
}

/// Defines `syscall` with a number and as many further arguments.
macro_rules! syscall_with {
    ($($argument:ident),*) => {
        /// Replaces libc's function of this name. Only `getrandom` is answered here, because the WireGuard library's
        /// random source comes this way; the rest is passed on. On the 64-bit Linux ABIs the integer arguments of a
        /// variadic C function travel as those of an ordinary one do.
        ///
        /// # Safety
        /// As for the C function.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn syscall(number: c_long, $($argument: c_long),*) -> c_long {
            type Function = unsafe extern "C" fn(c_long, $(syscall_with!(@long $argument)),*) -> c_long;
            static REAL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
            if number == libc::SYS_getrandom
                // SAFETY: the first two arguments of `getrandom` are a writable buffer and its length.
                && let Some(filled) = unsafe { fill_random([$($argument),*]) }
            {
                return filled;
            }
            // SAFETY: libc's `syscall` has this signature, and the caller keeps its contract.
            unsafe {
                std::mem::transmute::<*mut c_void, Function>(next(&REAL, c"syscall"))(number, $($argument),*)
            }
        }
    };
    (@long $argument:ident) => { c_long };
}

syscall_with!(a, b, c, d, e, f);

/// Fills the buffer with seeded bytes; `None` on a thread with a real clock.
///
/// # Safety
/// The first argument is the address of a writable buffer, the second its length.
unsafe fn fill_random([buffer, len, ..]: [c_long; 6]) -> Option<c_long> {
    let mut state = VIRTUAL.get()?;
    let size = usize::try_from(len).ok()?;
    if size == 0 {
        return Some(0);
    }
    // SAFETY: the caller's promise; the buffer is not empty, so its address is a real one.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer as *mut u8, size) };
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&split_mix(&mut state.random).to_le_bytes()[..chunk.len()]);
    }
    VIRTUAL.set(Some(state));
    Some(len)
}

/// The generator `splitmix64`: any seed is a good one, and its whole state is one number.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The next definition of a symbol behind ours: libc's own. Looked up once.
fn next(cache: &AtomicPtr<c_void>, name: &std::ffi::CStr) -> *mut c_void {
    let known = cache.load(Ordering::Relaxed);
    if !known.is_null() {
        return known;
    }
    // SAFETY: the name ends with a zero byte; `dlsym` has no other condition.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    if found.is_null() {
        // Nothing that could report it works without a clock.
        std::process::abort();
    }
    cache.store(found, Ordering::Relaxed);
    found
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn virtual_time_moves_only_when_told_and_only_on_its_thread() {
        let real = Instant::now();
        let clock = VirtualClock::start(1);
        let (start, wall) = (clock.now(), SystemTime::now());
        clock.advance(Duration::from_secs(400));
        assert_eq!(clock.now() - start, Duration::from_secs(400));
        assert_eq!(
            SystemTime::now().duration_since(wall).unwrap(),
            Duration::from_secs(400)
        );
        let other = std::thread::spawn(Instant::now).join().unwrap();
        assert!(other - real < Duration::from_secs(60));
        drop(clock);
        assert!(Instant::now() - real < Duration::from_secs(60));
    }

    #[test]
    fn random_bytes_repeat_with_the_seed() {
        let draw = |seed| {
            let _clock = VirtualClock::start(seed);
            let mut bytes = [0_u8; 13];
            // SAFETY: a writable buffer and its length.
            let filled =
                unsafe { libc::syscall(libc::SYS_getrandom, bytes.as_mut_ptr(), bytes.len(), 0) };
            assert_eq!(filled, 13);
            (bytes, fastrand::u64(..))
        };
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
    }
}
