//! Header tables: pairs of a name and a typed value. Nested tables and arrays are walked without recursion,
//! because a publisher can nest 20,000 of them in one frame.

/// Reads bytes from the front. `None` means that there are not enough.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn short(&mut self) -> Option<&'a [u8]> {
        let [length] = self.array()?;
        self.take(length.into())
    }

    pub(super) fn long(&mut self) -> Option<&'a [u8]> {
        let length = u32::from_be_bytes(self.array()?);
        self.take(usize::try_from(length).ok()?)
    }
}

/// What is wrong with a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Broken<'a> {
    /// A name that is not UTF-8.
    Name(&'a [u8]),
    /// A type whose values have an unknown length.
    Type(u8),
    /// A value is longer than the table or array that contains it.
    Short,
}

/// Walks a table and everything nested in it. `seen` gets name, type and value of the table's own entries
/// only.
pub(super) fn walk<'a>(
    table: &'a [u8],
    mut seen: impl FnMut(&'a [u8], u8, &'a [u8]),
) -> Result<(), Broken<'a>> {
    // A stack of what is still to be walked; the innermost table is on top.
    let mut open = vec![(Bytes(table), true)];
    while let Some((mut rest, named)) = open.pop() {
        let outermost = open.is_empty() && named;
        if rest.0.is_empty() {
            continue;
        }
        let name = if named { rest.short().ok_or(Broken::Short)? } else { &[] };
        if std::str::from_utf8(name).is_err() {
            return Err(Broken::Name(name));
        }
        let [kind] = rest.array().ok_or(Broken::Short)?;
        let value = match kind {
            b'S' | b'x' | b'F' | b'A' => rest.long(),
            _ => rest.take(width(kind).ok_or(Broken::Type(kind))?),
        };
        let value = value.ok_or(Broken::Short)?;
        if outermost {
            seen(name, kind, value);
        }
        // A table without further entries is not put back, so that the stack is never larger than the
        // message.
        if !rest.0.is_empty() || outermost {
            open.push((rest, named));
        }
        if matches!(kind, b'F' | b'A') {
            open.push((Bytes(value), kind == b'F'));
        }
    }
    Ok(())
}

/// The length of a value in bytes, as RabbitMQ writes it.
fn width(kind: u8) -> Option<usize> {
    Some(match kind {
        b'V' => 0,
        b't' | b'b' | b'B' => 1,
        b's' | b'u' | b'U' => 2,
        b'I' | b'i' | b'f' => 4,
        b'D' => 5,
        b'l' | b'L' | b'd' | b'T' => 8,
        _ => return None,
    })
}
