//! The state of a training: refused, or with a configuration that makes sense.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skein_model::train::StateFile;

fuzz_target!(|data: &[u8]| {
    let file = data.to_vec();
    if let Ok(state) = StateFile::open(&file) {
        state.config().check().expect("an opened state has a checked configuration");
        let _ = (state.step(), state.position(), state.notes());
    }
});
