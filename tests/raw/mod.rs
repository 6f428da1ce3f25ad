//! Both wires, spoken by hand: what no client of ours would say.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod grpc;
pub mod proto;
pub mod ws;
