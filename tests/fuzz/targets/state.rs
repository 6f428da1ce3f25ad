//! The engine's state machine.

/// Takes the input for a history of clients, administrators, clocks and restarts, and lives through it. What must hold is stated with
/// the model in the engine, whose own tests live through random histories.
pub fn state(input: &[u8]) -> bool {
    ensync_engine::state::harness::history(input)
}
