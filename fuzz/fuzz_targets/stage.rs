//! A message between stages: refused, or exactly what its own encoding is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skein_serving::wire::{decode, encode};

fuzz_target!(|data: &[u8]| {
    if let Ok(message) = decode(data) {
        assert_eq!(encode(&message), data);
    }
});
