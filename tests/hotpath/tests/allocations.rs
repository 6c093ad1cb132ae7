//! Does a packet cost memory? After the buffers of a busy moment exist, no walk may allocate.
#![allow(
    unsafe_code,
    reason = "an allocator that counts can only be written as an unsafe implementation"
)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use hotpath::{
    frames::{datagram, super_packet},
    pair::{Line, Pair},
};

/// The system's allocator; counts what the current thread asks for.
struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more, and measures nothing.
    let _ending = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; the pointer came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `work` asked for memory.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

/// One batch of everything: bulk, small packets, a lone acknowledgement. 112 packets.
fn frames(source: u8, destination: u8) -> Vec<Vec<u8>> {
    let mut frames = vec![super_packet(source, destination, 45)];
    frames.extend(vec![datagram(source, destination, 92); 64]);
    frames.push(super_packet(source, destination, 2));
    frames.push(datagram(source, destination, 52));
    frames
}

/// Packets out and in, counted after a first batch.
fn out_and_in(gcm: bool) -> [u64; 2] {
    let mut pair = Pair::linked(gcm);
    let mut frames = frames(1, 2);
    let mut received = Vec::with_capacity(1 << 20);
    let mut counted = [0, 0];
    for batch in 0..100 {
        let out = allocations(|| {
            for frame in &mut frames {
                let transmit = &mut pair.a.transmit;
                pair.a.node.handle_tun(frame, pair.now, transmit);
            }
        });
        let mut packets = 0;
        let mut back = 0;
        for train in pair.a.transmit.trains() {
            received.clear();
            received.extend_from_slice(train.contents());
            let stride = train.segment_size();
            back += allocations(|| pair.b.receive(1, (&mut received, stride), pair.now));
            packets += pair.b.packets.len();
            pair.b.packets.clear();
        }
        pair.a.transmit.clear();
        assert_eq!(packets, 112, "all came out");
        if batch > 0 {
            counted[0] += out;
            counted[1] += back;
        }
    }
    counted
}

#[test]
fn ten_thousand_packets_out_and_in_allocate_nothing() {
    assert_eq!(out_and_in(false), [0, 0]);
}

#[test]
fn nor_do_they_under_the_other_cipher() {
    assert_eq!(out_and_in(true), [0, 0]);
}

#[test]
fn nor_do_they_on_their_way_through_a_relay() {
    let mut line = Line::linked();
    let mut counted = 0;
    for batch in 0..200 {
        for len in [1432, 128] {
            for _ in 0..40 {
                line.send(len);
            }
        }
        for train in line.a.transmit.trains() {
            let (mut bytes, stride) = (train.contents().to_vec(), train.segment_size());
            let carried = allocations(|| line.relay.receive(1, (&mut bytes, stride), line.now));
            counted += if batch > 0 { carried } else { 0 };
        }
        let trains = line.relay.transmit.trains().iter();
        assert_eq!(
            trains.map(|train| train.datagrams().count()).sum::<usize>(),
            80
        );
        line.a.transmit.clear();
        line.relay.transmit.clear();
    }
    assert_eq!(counted, 0);
}

#[test]
fn the_count_sees_an_allocation() {
    assert_eq!(
        allocations(|| drop(std::hint::black_box(vec![1_u8; 100]))),
        1
    );
}
