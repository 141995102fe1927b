//! Parquet's encodings of small numbers: varints, bit packing, and the hybrid of runs and bit packing for
//! levels and dictionary keys (<https://parquet.apache.org/docs/file-format/data-pages/encodings/>).

/// Appends a number in groups of seven bits, the lowest group first.
pub(super) fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The number of bits that a number needs.
pub(super) fn width_of(number: u64) -> usize {
    (u64::BITS - number.leading_zeros()) as usize
}

/// Appends the lowest `width` bits of each number, and zero bits up to a whole byte.
pub(super) fn pack(numbers: impl ExactSizeIterator<Item = u64>, width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    let bytes = (numbers.len() * width).div_ceil(8);
    // Whole words are written. The surplus bytes are cut off at the end.
    out.resize(start + bytes.next_multiple_of(8), 0);
    let mut words = out[start..].chunks_exact_mut(8);
    let (mut word, mut filled) = (0, 0);
    for number in numbers {
        word |= number << filled;
        filled += width;
        if filled >= 64 {
            if let Some(to) = words.next() {
                to.copy_from_slice(&word.to_le_bytes());
            }
            filled -= 64;
            word = if filled == 0 { 0 } else { number >> (width - filled) };
        }
    }
    if let Some(to) = words.next() {
        to.copy_from_slice(&word.to_le_bytes());
    }
    out.truncate(start + bytes);
}

/// The number at `index` of numbers that were packed with `width` bits each.
pub(super) fn unpack(packed: &[u8], width: usize, index: usize) -> u64 {
    let (byte, bit) = (index * width / 8, index * width % 8);
    let mut window = [0; 16];
    let rest = &packed[byte..];
    let bytes = rest.len().min(9);
    window[..bytes].copy_from_slice(&rest[..bytes]);
    let number = u128::from_le_bytes(window) >> bit;
    number as u64 & u64::MAX.checked_shr(64 - width as u32).unwrap_or(0)
}

/// Reads what [`varint`] wrote at `at`, and moves `at` behind it.
pub(super) fn read_varint(bytes: &[u8], at: &mut usize) -> u64 {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = bytes[*at];
        *at += 1;
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return number;
        }
    }
}

/// Appends one run of equal numbers.
pub(super) fn run(number: u32, count: usize, width: usize, out: &mut Vec<u8>) {
    varint((count as u64) << 1, out);
    out.extend_from_slice(&number.to_le_bytes()[..width.div_ceil(8)]);
}

/// Appends the header of bit-packed numbers. They come in groups of eight; the caller fills the last group
/// with zeros.
pub(super) fn packed_header(count: usize, out: &mut Vec<u8>) {
    varint((count.div_ceil(8) as u64) << 1 | 1, out);
}

/// Appends keys of at most `width` bits: long runs of one key as runs, the others bit-packed.
pub(super) fn hybrid(keys: &[u32], width: usize, out: &mut Vec<u8>) {
    if width == 0 && !keys.is_empty() {
        // A run instead of bit packing: some readers expect a byte after its header.
        return run(0, keys.len(), 0, out);
    }
    // A run, with the header of the bit-packed keys after it, takes four bytes.
    let worth = (4 * 8_usize).div_ceil(width.max(1)).next_multiple_of(8);
    let (mut packed, mut at) = (0, 0);
    while at < keys.len() {
        let rest = &keys[at..];
        let key = rest[0];
        if rest.len() < worth || rest[..8].iter().any(|&next| next != key) {
            at += 8;
            continue;
        }
        let equal = rest.iter().take_while(|&&next| next == key).count();
        if equal < worth {
            at += equal / 8 * 8;
            continue;
        }
        packed_keys(&keys[packed..at], width, out);
        run(key, equal, width, out);
        at += equal;
        packed = at;
    }
    packed_keys(&keys[packed..], width, out);
}

fn packed_keys(keys: &[u32], width: usize, out: &mut Vec<u8>) {
    if keys.is_empty() {
        return;
    }
    packed_header(keys.len(), out);
    let end = out.len() + keys.len().div_ceil(8) * width;
    pack(keys.iter().map(|&key| u64::from(key)), width, out);
    out.resize(end, 0);
}
