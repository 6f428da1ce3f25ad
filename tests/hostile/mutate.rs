//! Bytes that nobody wrote on purpose.

use fastrand::Rng;

/// What parsers trip over.
const WORDS: &[&[u8]] = &[
    b"",
    b"\0",
    b"\xff\xff\xff\xff",
    b"\x80",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b";",
    b"=:",
    b"{",
    b"\"",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    b"-1",
    b"0",
    b"1e999",
    b"18446744073709551616",
    b"9223372036854775808",
    b"undefined",
    b"null",
    b"\r\n",
    b"\r\n\r\n",
    b"%s%n",
    b"../../etc/passwd",
    "\u{202e}\u{0}é".as_bytes(),
];

/// A few changes: bits, bytes, cuts, repeats, words.
pub fn mutate(rng: &mut Rng, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.usize(1..4) {
        let at = rng.usize(0..=bytes.len());
        match rng.u8(0..7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(0..8),
            1 if at < bytes.len() => bytes[at] = rng.u8(..),
            2 => bytes.truncate(at),
            3 => {
                let end = rng.usize(at..=bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let end = rng.usize(at..=bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part.repeat(rng.usize(1..5)));
            }
            _ => drop(bytes.splice(at..at, WORDS[rng.usize(0..WORDS.len())].iter().copied())),
        }
    }
    bytes
}

pub fn random(rng: &mut Rng, most: usize) -> Vec<u8> {
    let length = rng.usize(0..most);
    std::iter::repeat_with(|| rng.u8(..)).take(length).collect()
}

/// JSON that is nested deeper than any stack.
pub fn deep_json(rng: &mut Rng) -> String {
    let (open, close) = if rng.bool() { ("[", "]") } else { ("{\"a\":", "}") };
    let depth = rng.usize(100..20_000);
    let close = if rng.bool() { close.repeat(depth) } else { String::new() };
    format!("{{\"headers\":{}1{close}}}", open.repeat(depth))
}

/// A WebSocket frame, mostly as RFC 6455 section 5.2 has it.
pub fn web_socket_frame(rng: &mut Rng, payload: &[u8]) -> Vec<u8> {
    let first = match rng.u8(0..20) {
        0 => rng.u8(..),
        1 => 0x01,
        2 => 0x80,
        3 => 0x82,
        4 => 0x88,
        5 => 0x89,
        _ => 0x81,
    };
    let length = match rng.u8(0..20) {
        0 => rng.u64(..),
        1 => payload.len() as u64 + 1,
        2 => 16 << 20,
        3 => u64::MAX,
        _ => payload.len() as u64,
    };
    let masked = if rng.u8(0..20) == 0 { 0 } else { 0x80 };
    let mut frame = vec![first];
    match length {
        0..126 => frame.push(length as u8 | masked),
        126..0x1_0000 => frame.extend([&[126 | masked], &(length as u16).to_be_bytes()[..]].concat()),
        _ => frame.extend([&[127 | masked], &length.to_be_bytes()[..]].concat()),
    }
    let mask = if rng.bool() { [0; 4] } else { [rng.u8(..), rng.u8(..), rng.u8(..), rng.u8(..)] };
    if masked != 0 {
        frame.extend(mask);
    }
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// An HTTP/2 frame: RFC 9113 section 4.1.
pub fn http2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block without compression: RFC 7541 section 6.2.2.
pub fn header_block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // One byte says lengths below 127.
            block.push(text.len().min(126) as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}
