//! Values that PostgreSQL compressed: pglz (`pg_lzcompress.c`) and LZ4 blocks. No more room is taken than the
//! compressed bytes can grow to, whatever size a value claims (invariant I8).

/// A byte of LZ4 stands for at most 255 bytes; one of pglz for fewer than 100.
const MOST_GROWTH: usize = 255;
/// Size of a copied piece at which another byte of length follows.
const LONG_COPY: usize = 18;

/// Appends a value to `out`. `info` is the word behind its header: its size, and how it is compressed. `None` if
/// the bytes are not such a value; then `out` may have a part of it.
pub(super) fn expand(info: u32, compressed: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let size = (info & 0x3fff_ffff) as usize;
    if size > compressed.len().saturating_mul(MOST_GROWTH) {
        return None;
    }
    match info >> 30 {
        0 => pglz(compressed, size, out),
        1 => lz4(compressed, size, out),
        _ => None,
    }
}

fn lz4(compressed: &[u8], size: usize, out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    out.resize(start + size, 0);
    let written = lz4_flex::block::decompress_into(compressed, &mut out[start..]).ok()?;
    (written == size).then_some(())
}

fn pglz(compressed: &[u8], size: usize, out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    let end = start + size;
    out.reserve(size);
    let mut rest = compressed.iter().copied();
    while out.len() < end {
        let mut control = rest.next()?;
        for _ in 0..8 {
            if out.len() == end {
                break;
            }
            if control & 1 == 0 {
                out.push(rest.next()?);
            } else {
                let (first, second) = (rest.next()?, rest.next()?);
                let mut length = usize::from(first & 0x0f) + 3;
                if length == LONG_COPY {
                    length += usize::from(rest.next()?);
                }
                let back = usize::from(first & 0xf0) << 4 | usize::from(second);
                copy(start, back, length.min(end - out.len()), out)?;
            }
            control >>= 1;
        }
    }
    rest.next().is_none().then_some(())
}

/// Appends `length` bytes again that begin `back` bytes before the end. The new bytes may be among them.
fn copy(start: usize, back: usize, length: usize, out: &mut Vec<u8>) -> Option<()> {
    let from = out.len().checked_sub(back).filter(|from| back > 0 && *from >= start)?;
    if back >= length {
        out.extend_from_within(from..from + length);
    } else {
        for at in from..from + length {
            out.push(out[at]);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_copy_may_reach_into_itself() {
        let mut out = b"before".to_vec();
        // A literal, then 12 bytes from one byte back.
        let compressed = [0b10, b'a', 0x09, 0x01];
        expand(13, &compressed, &mut out).expect("sound");
        assert_eq!(out, b"beforeaaaaaaaaaaaaa");
        assert_eq!(expand(12, &[0b10, b'a', 0x09, 0x02], &mut Vec::new()), None, "from before its start");
    }

    #[test]
    fn lz4_is_read_to_its_end() {
        let text = b"abcabcabcabcabcabcabcabcabcabcabcabcabcabc".repeat(20);
        let compressed = lz4_flex::block::compress(&text);
        let mut out = Vec::new();
        expand(1 << 30 | text.len() as u32, &compressed, &mut out).expect("sound");
        assert_eq!(out, text);
        assert_eq!(expand(1 << 30 | (text.len() as u32 + 1), &compressed, &mut Vec::new()), None);
    }

    proptest! {
        #[test]
        fn garbage_grows_no_further_than_it_can(info: u32, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut out = Vec::new();
            let _ = expand(info, &bytes, &mut out);
            prop_assert!(out.capacity() <= bytes.len() * MOST_GROWTH + 64);
        }
    }
}
