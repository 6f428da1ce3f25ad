//! The format does not change under those who have data in it.

use super::*;

/// A log that the first version of this format wrote: every kind of record, each in a commit of its own, then all in one.
/// Written with `ENSYNC_WRITE_FORMAT=1`; never again, once anybody has data in this format.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/log/disk/tests/format-1");

#[tokio::test]
async fn a_kept_directory_of_the_first_format_is_read() {
    let place = Place::new();
    let all: Vec<_> = samples().into_iter().map(Arc::new).collect();
    if std::env::var_os("ENSYNC_WRITE_FORMAT").is_some() {
        let log = place.open();
        for record in &all {
            log.append(std::slice::from_ref(record)).await.unwrap();
        }
        drop(log);
        let log = place.open();
        log.append(&all).await.unwrap();
        drop(log);
        place.alter(&place.segment(1), |bytes| bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).unwrap() + 9));
        fs::create_dir_all(KEPT).unwrap();
        fs::copy(place.segment(1), Path::new(KEPT).join("0000000001.log")).unwrap();
    }
    _ = fs::remove_dir_all(place.path());
    fs::create_dir_all(place.path()).unwrap();
    fs::copy(Path::new(KEPT).join("0000000001.log"), place.segment(1)).unwrap();
    let log = place.open();
    assert_eq!(log.epoch(), 3);
    let found = scanned(&log, Position::START).await;
    assert!(found.iter().map(|(_, record)| record).eq(all.iter().chain(&all)));
    // Ids that clients have hold these.
    assert_eq!(found[0].0.as_u64(), 1 << 32 | 88);
    assert_eq!(log.read(found[20].0).await.unwrap().as_ref(), Some(&found[20].1));
    log.append(&all).await.unwrap();
    drop(log);
    assert_eq!(records(&place.open()).await.len(), 3 * all.len());
}

/// The bytes of the documentation, one by one.
#[test]
fn a_frame_is_laid_out_as_it_is_documented() {
    let mut out = Vec::new();
    let at = Position::new(1 << 32 | 64);
    let record = Record::Drop { event: EventRef { queue: 0x0403_0201, seq: 5 } };
    super::super::format::Frame::write(&mut out, &[7; 16], at, (9, 3, 6), |out| {
        super::super::record::encode(&record, out)
    });
    super::super::format::Frame::end_commit(&mut out, 0, &[7; 16], at);
    let mut summed = [[7; 16].as_slice(), &at.as_u64().to_le_bytes(), &[12, 0, 0, 0]].concat();
    let rest = [9, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 6, 1, 0xe5, 0xc1, 1, 2, 3, 4, 5, 0, 0, 0, 0, 0, 0, 0];
    summed.extend(rest);
    let crc = crc32c::crc32c(&summed).to_le_bytes();
    assert_eq!(out, [&[12, 0, 0, 0], &crc[..], &rest, &[0; 4]].concat());
    // RFC 3720, appendix B.4: 32 bytes of zeros.
    assert_eq!(crc32c::crc32c(&[0; 32]).to_le_bytes(), [0xaa, 0x36, 0x91, 0x8a]);
}
