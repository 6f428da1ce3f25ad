use super::aead::{KEY, TAG};
use super::header::Header;
use super::strict_json::Members;
use crate::crypto::json::{Object, malformed};
use crate::{ErrorKind, Result, encoding};

/// The length of a content key in its box, in bytes.
pub(super) const BOXED_KEY: usize = KEY + TAG;

/// A sealed envelope, read but not opened.
#[derive(Debug)]
pub(in crate::crypto) struct Envelope {
    pub(in crate::crypto) header: Header,
    /// The header's JSON as it was sent: the key depends on its bytes, not on what they mean.
    pub(super) header_bytes: Vec<u8>,
    pub(super) key: [u8; BOXED_KEY],
    pub(super) ciphertext: Vec<u8>,
    pub(super) signature: Option<[u8; 64]>,
}

impl Envelope {
    /// Reads an envelope's members strictly: step 1.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnsupportedEnvelope`] for another version, else [`ErrorKind::MalformedEnvelope`].
    pub(in crate::crypto) fn of(members: Object<'_>) -> Result<Self> {
        let members = Members::of(members, &["type", "header", "key", "ciphertext", "signature"]);
        let header_bytes = members.bytes("header", Header::MAX_BYTES)?;
        let header = Header::read(&header_bytes).map_err(|error| match error.kind() {
            ErrorKind::MalformedEnvelope => error.context("header"),
            _ => error,
        })?;
        members.finish()?;
        let key = members.array("key")?;
        let ciphertext = members.bytes("ciphertext", usize::MAX)?;
        if ciphertext.len() < TAG {
            return Err(malformed(format!("ciphertext holds {} bytes, its tag alone has {TAG}", ciphertext.len())));
        }
        let signature = members.optional_array("signature")?;
        if header.signed != signature.is_some() {
            return Err(malformed(match signature {
                Some(_) => "there is a signature, but the header does not say signed",
                None => "the header says signed, but there is no signature",
            }));
        }
        Ok(Self { header, header_bytes, key, ciphertext, signature })
    }

    /// The length of the plaintext, in bytes.
    pub(in crate::crypto) fn plaintext_bytes(&self) -> usize {
        self.ciphertext.len().saturating_sub(TAG)
    }
}

/// Writes the envelopes of one payload, which differ but for its ciphertext, in their form on the wire: base64 of their JSON.
pub(super) struct Writer {
    /// In base64, as the JSON holds it.
    ciphertext: Vec<u8>,
    /// Whether there is more than one copy to write.
    again: bool,
    /// The ciphertext once more in base64, as the wire holds it, from the offset on with which it was encoded last.
    encoded: Option<(usize, Vec<u8>)>,
}

impl Writer {
    pub(super) fn new(ciphertext: &[u8], again: bool) -> Self {
        Self { ciphertext: encoding::encode(ciphertext).into_bytes(), again, encoded: None }
    }

    /// ```text
    /// {"type":"sealed","header":…,"key":…,"ciphertext":…}     and before the end, where it is signed: ,"signature":…
    /// ```
    pub(super) fn write(&mut self, header: &str, key: &[u8; BOXED_KEY], signature: Option<&[u8; 64]>) -> Vec<u8> {
        let mut before = br#"{"type":"sealed","header":""#.to_vec();
        encoding::encode_to(&mut before, header.as_bytes());
        before.extend_from_slice(br#"","key":""#);
        encoding::encode_to(&mut before, key);
        before.extend_from_slice(br#"","ciphertext":""#);

        // Three bytes are four characters of base64. So where the ciphertext begins at the same offset of three in all copies, which
        // it does because their headers are of one length, what lies between two such offsets is encoded once for all.
        let skip = (3 - before.len() % 3) % 3;
        let (head, rest) = self.ciphertext.split_at(skip);
        let (middle, tail) = rest.split_at(rest.len() - rest.len() % 3);
        before.extend_from_slice(head);
        let mut after = tail.to_vec();
        if let Some(signature) = signature {
            after.extend_from_slice(br#"","signature":""#);
            encoding::encode_to(&mut after, signature);
        }
        after.extend_from_slice(br#""}"#);

        // One buffer of the right size: the whole is some 1.8 times as long as the payload.
        let mut wire = Vec::with_capacity((before.len() + middle.len() + after.len()).div_ceil(3) * 4);
        encoding::encode_to(&mut wire, &before);
        match &mut self.encoded {
            Some((offset, middle)) if *offset == skip => wire.extend_from_slice(middle),
            encoded => {
                let start = wire.len();
                encoding::encode_to(&mut wire, middle);
                if self.again {
                    *encoded = Some((skip, wire.get(start..).unwrap_or_default().to_vec()));
                }
            }
        }
        encoding::encode_to(&mut wire, &after);
        wire
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_join_to_the_base64_of_the_whole() {
        for length in TAG..TAG + 12 {
            let ciphertext: Vec<u8> = (0..length).map(|at| u8::try_from(at).unwrap()).collect();
            let mut writer = Writer::new(&ciphertext, length % 2 == 0);
            // Also where headers are of several lengths, which those of one payload are not.
            for header in ["{}", "{}", "{ }", "{ }", "{  }", "{   }", "{}"] {
                for signature in [None, Some([7; 64])] {
                    let [header64, key, text] = [header.as_bytes(), &[1; BOXED_KEY], &ciphertext].map(encoding::encode);
                    let end =
                        signature.map_or("\"}".into(), |s| format!("\",\"signature\":\"{}\"}}", encoding::encode(&s)));
                    let json =
                        format!(r#"{{"type":"sealed","header":"{header64}","key":"{key}","ciphertext":"{text}{end}"#);
                    let wire = writer.write(header, &[1; BOXED_KEY], signature.as_ref());
                    assert_eq!(wire, encoding::encode(json.as_bytes()).into_bytes(), "{length} {header:?}");
                }
            }
        }
    }
}
