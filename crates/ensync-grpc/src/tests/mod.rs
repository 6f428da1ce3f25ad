//! Both halves against each other, and each against a peer made by hand. Nothing here sleeps: what must have happened is awaited.

mod budget;
pub(crate) mod fake;
mod foreign;
mod generations;
mod given_up;
mod link;
mod login;
mod moving;
mod odd;
mod peers;
mod sessions;
mod wire;
