//! Addresses of clients, as limits count them.

use std::net::{IpAddr, Ipv6Addr};

/// What is counted as one address: of IPv6 a /64, for that is what one subscriber has.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}
