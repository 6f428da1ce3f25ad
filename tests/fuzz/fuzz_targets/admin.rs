#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    ensync_fuzz::admin(input);
});
