//! Values that are made once, and are as they were for each use.
//!
//! A pair of hosts with a channel between them takes far longer to make than most programs of a fuzzer take to run, and
//! hosts cannot be cloned: there are keys in them. So what they allocate is in a region of its own, of which a copy is
//! put back.

#![allow(
    unsafe_code,
    reason = "memory is put back under living values; in nothing but fuzz targets"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

/// Bytes of the region. Most of what is freed is not given out again in the same use: one that needs more ends the
/// process, as one would that needs memory without end.
const REGION: usize = 256 << 20;

/// Where memory comes from: the region in a use of a kept value, and else the system.
struct Memory;

#[global_allocator]
static MEMORY: Memory = Memory;

thread_local! {
    static STATE: Cell<State> = const { Cell::new(State { base: ptr::null_mut(), used: 0, is_in_use: false }) };
}

/// The region of a thread.
#[derive(Clone, Copy)]
struct State {
    /// Null until the first value is kept.
    base: *mut u8,
    used: usize,
    is_in_use: bool,
}

impl State {
    fn holds(&self, pointer: *mut u8) -> bool {
        pointer.addr().wrapping_sub(self.base.addr()) < REGION && !self.base.is_null()
    }

    /// Offset of the byte behind the region's latest piece, if this is it.
    fn is_latest(&self, pointer: *mut u8, len: usize) -> bool {
        self.holds(pointer) && pointer.addr() - self.base.addr() + len == self.used
    }

    /// The next piece; null if there is no room.
    fn take(&mut self, layout: Layout) -> *mut u8 {
        let at = self.used.next_multiple_of(layout.align());
        match at.checked_add(layout.size()) {
            Some(end) if end <= REGION => {
                self.used = end;
                self.base.wrapping_add(at)
            }
            _ => ptr::null_mut(),
        }
    }
}

// SAFETY: each piece of the region is given out once in a use, aligned because the region is (`ALIGN` is the largest
// that is served), and lies within it; all else is the system's.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut state = STATE.get();
        if !state.is_in_use || layout.align() > ALIGN {
            // SAFETY: as the caller promises.
            return unsafe { System.alloc(layout) };
        }
        let piece = state.take(layout);
        STATE.set(state);
        piece
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let mut state = STATE.get();
        if state.is_latest(pointer, layout.size()) {
            state.used -= layout.size();
            STATE.set(state);
        } else if !state.holds(pointer) {
            // SAFETY: as the caller promises; it is of the system.
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let mut state = STATE.get();
        if !state.holds(pointer) {
            // SAFETY: as the caller promises; it is of the system.
            return unsafe { System.realloc(pointer, layout, size) };
        }
        if state.is_latest(pointer, layout.size()) && pointer.addr() - state.base.addr() + size <= REGION {
            state.used = pointer.addr() - state.base.addr() + size;
            STATE.set(state);
            return pointer;
        }
        // SAFETY: the caller promises that `size` is legal for this alignment; both pieces hold as many bytes.
        unsafe {
            let piece = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !piece.is_null() {
                ptr::copy_nonoverlapping(pointer, piece, size.min(layout.size()));
            }
            piece
        }
    }
}

/// Alignment of the region, in bytes.
const ALIGN: usize = 4096;

/// A value, and how it was when it was made.
pub struct Kept<T> {
    value: NonNull<T>,
    /// The region's beginning, then.
    region: Box<[MaybeUninit<u8>]>,
}

impl<T> Kept<T> {
    /// Makes a value, to be kept.
    ///
    /// # Safety
    /// Whatever `make`, and later uses of the value, allocate belongs to the value: what outlives a use, such as
    /// variables of the thread, does not point to it after the use. Uses are neither within one another nor on other
    /// threads.
    pub unsafe fn new(make: impl FnOnce() -> T) -> Self {
        let mut state = STATE.get();
        if state.base.is_null() {
            let layout = Layout::from_size_align(REGION, ALIGN).expect("a size that is no secret");
            // SAFETY: its size is not zero.
            state.base = unsafe { System.alloc(layout) };
            assert!(!state.base.is_null(), "no room for a region");
        }
        let value = Self::within(state, 0, || NonNull::from(Box::leak(Box::new(make()))));
        let mut region = Box::new_uninit_slice(STATE.get().used);
        // SAFETY: as many bytes of the region are in use.
        unsafe { ptr::copy_nonoverlapping(state.base.cast(), region.as_mut_ptr(), region.len()) };
        Self { value, region }
    }

    /// Uses the value as it was when it was made.
    pub fn with(&mut self, run: impl FnOnce(&mut T)) {
        let state = STATE.get();
        // SAFETY: the region has room for what came from there. What was there of other values, or of an earlier use,
        // is not used any more: `new` asks for that.
        unsafe { ptr::copy_nonoverlapping(self.region.as_ptr(), state.base.cast(), self.region.len()) };
        Self::within(state, self.region.len(), || {
            // SAFETY: it is there again, and nobody else has it.
            run(unsafe { self.value.as_mut() });
        });
    }

    /// Runs with the region's memory from an offset on.
    fn within<R>(state: State, used: usize, run: impl FnOnce() -> R) -> R {
        STATE.set(State {
            used,
            is_in_use: true,
            ..state
        });
        let result = run();
        STATE.set(State {
            is_in_use: false,
            ..STATE.get()
        });
        result
    }
}
