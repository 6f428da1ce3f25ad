//! The format does not change under those who have data in it.

use super::super::format::RECORD;
use super::*;

/// The bytes of the documentation, one by one.
#[test]
fn a_frame_is_laid_out_as_it_is_documented() {
    let mut out = Vec::new();
    let at = Position::new(1 << 32 | 64);
    let record = Record::Drop { event: EventRef { queue: 0x0403_0201, seq: 5 } };
    super::super::format::Frame::write(&mut out, &[7; 16], at, (9, 3, RECORD), |out| {
        out.extend_from_slice(&Encoded::from(&record).to_bytes())
    });
    super::super::format::Frame::end_commit(&mut out, 0, &[7; 16], at);
    let mut summed = [[7; 16].as_slice(), &at.as_u64().to_le_bytes(), &[13, 0, 0, 0]].concat();
    let rest = [9, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 1, 0xe5, 0xc1, 6, 1, 2, 3, 4, 5, 0, 0, 0, 0, 0, 0, 0];
    summed.extend(rest);
    let crc = crc32c::crc32c(&summed).to_le_bytes();
    assert_eq!(out, [&[13, 0, 0, 0], &crc[..], &rest, &[0; 3]].concat());
    // RFC 3720, appendix B.4: 32 bytes of zeros.
    assert_eq!(crc32c::crc32c(&[0; 32]).to_le_bytes(), [0xaa, 0x36, 0x91, 0x8a]);
}
