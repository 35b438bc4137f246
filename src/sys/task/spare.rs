//! The memory of tasks. That of a task that is freed is kept for the next one of its size.
//!
//! A program that spawns a task for each request frees one for each request as well. To free and
//! allocate one in malloc(3) takes glibc about 350 instructions, nearly as many as it takes to
//! spawn, poll and join a small task. To keep and reuse one takes about 40.
//!
//! **Invariant.** Blocks are kept only by a thread that has a loop, and are freed when that ends.

use std::cell::RefCell;
use std::mem::{self, MaybeUninit};

/// Memory for one task. As words and not bytes, so that it has the alignment of a task.
pub(super) type Block = Box<[MaybeUninit<u64>]>;

/// Larger blocks are never kept: their tasks do so much that malloc(3) hardly counts.
const MAX_WORDS: usize = 32;

/// Maximum number of blocks of one size that are kept, which is at most 256 KiB. A program whose
/// number of tasks varies by more gives some of their memory to malloc(3), for other uses.
///
/// AddressSanitizer notices the use of memory after it was freed, but not after it was kept.
const MAX_KEPT: usize = if cfg!(fahrenheit_no_spare) { 0 } else { 1_024 };

/// Blocks of memory that no task uses, by their size in words.
pub(super) struct Spare([RefCell<Vec<Block>>; MAX_WORDS + 1]);

impl Spare {
    pub(super) const fn new() -> Spare {
        Spare([const { RefCell::new(Vec::new()) }; MAX_WORDS + 1])
    }

    /// Returns memory of that size, which is not initialised.
    pub(super) fn take(&self, n_words: usize) -> Block {
        let kept = self.0.get(n_words);
        let kept = kept.and_then(|blocks| blocks.borrow_mut().pop());
        kept.unwrap_or_else(|| Box::new_uninit_slice(n_words))
    }

    /// Keeps `block`, unless there are enough of its size.
    pub(super) fn put(&self, block: Block) {
        if let Some(blocks) = self.0.get(block.len()) {
            let mut blocks = blocks.borrow_mut();
            if blocks.len() < MAX_KEPT {
                blocks.push(block);
            }
        }
    }

    /// Frees all blocks that are kept, whatever their size.
    pub(super) fn clear(&self) {
        for blocks in &self.0 {
            drop(mem::take(&mut *blocks.borrow_mut()));
        }
    }
}
